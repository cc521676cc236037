//! Real etcd: one member, or a cluster of three, on free ports and in folders of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::authority::Authority;
use super::{PATIENCE, Server, eventually, free_port, tool};

/// One member. Killed when dropped, its data with it.
pub struct Etcd {
    server: Option<Server>,
    name: String,
    port: u16,
    /// Its port while it is apart.
    home: Option<u16>,
    peer_port: u16,
    /// `name=url` of every member, comma-separated.
    members: String,
    extra: Vec<String>,
    tls: Option<TlsFiles>,
    user: Option<String>,
    dir: TempDir,
}

/// Says how a member is to be started.
#[derive(Default)]
pub struct Builder {
    extra: Vec<String>,
    tls: Option<(Authority, bool)>,
}

/// Three members that know each other.
pub struct EtcdCluster {
    pub members: Vec<Etcd>,
}

/// Which files a TLS member uses, and its clients.
#[derive(Clone)]
struct TlsFiles {
    ca: String,
    certificate: String,
    key: String,
    wants_client: bool,
}

// === impl Builder ===

impl Builder {
    /// Adds a command line option of etcd.
    pub fn option(mut self, option: &str) -> Self {
        self.extra.push(option.to_owned());
        self
    }

    /// Speaks TLS with a certificate for 127.0.0.1 and `etcd.test`, signed by `authority`.
    pub fn tls(mut self, authority: Authority) -> Self {
        self.tls = Some((authority, false));
        self
    }

    /// The same, and wants a certificate of `authority` from its clients.
    pub fn mtls(mut self, authority: Authority) -> Self {
        self.tls = Some((authority, true));
        self
    }

    pub async fn start(self) -> Etcd {
        let mut etcd = Etcd::prepare("single", free_port(), free_port(), self.extra);
        etcd.members = format!("single={}", etcd.peer_url());
        if let Some((authority, wants_client)) = self.tls {
            let (certificate, key) = authority.issue(&["etcd.test"]);
            let write = |name: &str, text: &str| {
                let path = etcd.dir.path().join(name);
                std::fs::write(&path, text).unwrap();
                path.display().to_string()
            };
            etcd.tls = Some(TlsFiles {
                ca: write("ca.crt", &authority.pem()),
                certificate: write("etcd.crt", &certificate),
                key: write("etcd.key", &key),
                wants_client,
            });
        }
        etcd.launch();
        etcd.ready().await;
        etcd
    }
}

// === impl Etcd ===

impl Etcd {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub async fn start() -> Self {
        Self::builder().start().await
    }

    fn prepare(name: &str, port: u16, peer_port: u16, extra: Vec<String>) -> Self {
        Self {
            server: None,
            name: name.to_owned(),
            port,
            home: None,
            peer_port,
            members: String::new(),
            extra,
            tls: None,
            user: None,
            dir: tempfile::Builder::new().prefix("etcd-").tempdir().unwrap(),
        }
    }

    /// The address for clients.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Runs `etcdctl` and returns what it printed.
    pub fn etcdctl(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Puts bytes that a command line cannot carry.
    pub fn put_bytes(&self, key: &str, value: &[u8]) {
        let file = self.dir.path().join("value");
        std::fs::write(&file, value).unwrap();
        let mut command = self.command(&["put", key]);
        let status = command.stdin(std::fs::File::open(file).unwrap()).stdout(Stdio::null());
        assert!(status.status().unwrap().success(), "etcdctl put {key}");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(tool("etcdctl"));
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.endpoint());
        if let Some(tls) = &self.tls {
            command.args(["--cacert", &tls.ca]);
            if tls.wants_client {
                command.args(["--cert", &tls.certificate, "--key", &tls.key]);
            }
        }
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        // An election may be under way, and the machine busy.
        for limit in ["command-timeout", "dial-timeout", "keepalive-timeout"] {
            command.arg(format!("--{limit}={}s", PATIENCE.as_secs()));
        }
        command.args(args);
        command
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        let status = self.etcdctl(&["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status[0]["Status"]["header"]["revision"].as_i64().unwrap()
    }

    /// Forgets all revisions before the newest.
    pub fn compact(&self) {
        self.etcdctl(&["compact", &self.revision().to_string()]);
    }

    /// Turns authentication on, with a user `root`.
    pub fn enable_auth(&mut self, password: &str) {
        self.etcdctl(&["user", "add", &format!("root:{password}")]);
        self.etcdctl(&["user", "grant-role", "root", "root"]);
        self.etcdctl(&["auth", "enable"]);
        self.user = Some(format!("root:{password}"));
    }

    /// Kills the member.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same ports and data.
    pub async fn restart(&mut self) {
        self.stop();
        self.launch();
        self.ready().await;
    }

    /// Starts a stopped member where its clients do not look: for what happens while it is "away".
    pub async fn restart_apart(&mut self) {
        self.home = Some(std::mem::replace(&mut self.port, free_port()));
        self.restart().await;
    }

    /// Stops a member that is apart and starts it where it was before.
    pub async fn restart_home(&mut self) {
        self.port = self.home.take().expect("etcd is not apart");
        self.restart().await;
    }

    /// Throws the data of a stopped member away.
    pub fn wipe(&mut self) {
        assert!(self.server.is_none(), "etcd must be stopped first");
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    /// Makes the next start of a wiped member a cluster with another id.
    pub fn move_peer_port(&mut self) {
        self.peer_port = free_port();
        self.members = format!("{}={}", self.name, self.peer_url());
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn launch(&mut self) {
        let (clients, peers) = (self.endpoint(), self.peer_url());
        let mut command = Command::new(tool("etcd"));
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.data())
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &self.members, "--unsafe-no-fsync"])
            .args(["--log-level", "error"])
            .args(&self.extra);
        if let Some(tls) = &self.tls {
            command.args(["--cert-file", &tls.certificate, "--key-file", &tls.key]);
            if tls.wants_client {
                command.args(["--client-cert-auth", "--trusted-ca-file", &tls.ca]);
            }
        }
        quiet(&mut command, self.dir.path());
        self.server = Some(Server::spawn("etcd", &mut command));
    }

    /// Waits until it is healthy: it answers, and its cluster has a leader.
    pub async fn ready(&self) {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_secs(2))
            .tls_danger_accept_invalid_certs(true);
        if let Some(tls) = &self.tls {
            let read = |path: &str| std::fs::read(path).unwrap();
            let pem = [read(&tls.certificate), read(&tls.key)].concat();
            builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        let client = builder.build().unwrap();
        let url = format!("{}/health", self.endpoint());
        eventually("etcd is healthy", async || {
            let answer = client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
}

// === impl EtcdCluster ===

impl EtcdCluster {
    pub async fn start() -> Self {
        let prepare =
            |index| Etcd::prepare(&format!("m{index}"), free_port(), free_port(), Vec::new());
        let mut members: Vec<Etcd> = (0..3).map(prepare).collect();
        let all: Vec<_> =
            members.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        for member in &mut members {
            member.members = all.join(",");
            member.launch();
        }
        for member in &members {
            member.ready().await;
        }
        Self { members }
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }
}

/// Sends what a server prints to a file in its folder.
pub(super) fn quiet(command: &mut Command, dir: &Path) {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    command.stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log));
}
