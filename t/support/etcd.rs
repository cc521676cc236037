//! A real etcd member, on ports and in a folder of its own.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Server, eventually, free_port, tool};

/// One member. Killed when dropped.
pub struct Etcd {
    server: Option<Server>,
    client_port: u16,
    peer_port: u16,
    endpoint: String,
    dir: TempDir,
}

impl Etcd {
    pub async fn start() -> Self {
        let client_port = free_port();
        let mut etcd = Self {
            server: None,
            client_port,
            peer_port: free_port(),
            endpoint: format!("http://127.0.0.1:{client_port}"),
            dir: tempfile::Builder::new().prefix("etcd-").tempdir().unwrap(),
        };
        etcd.restart().await;
        etcd
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Kills the member; its data stays.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same ports and data, and waits until it is healthy.
    pub async fn restart(&mut self) {
        self.stop();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(tool("etcd"));
        command
            .args(["--name", "m", "--log-level", "error", "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &self.endpoint,
                "--advertise-client-urls",
                &self.endpoint,
            ])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.server = Some(Server::spawn("etcd", &mut command));
        let url = format!("http://127.0.0.1:{}/health", self.client_port);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        eventually("etcd is healthy", || async {
            let answer = client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Runs etcdctl against the member; returns what it prints.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let output = Command::new(tool("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "etcdctl {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Compacts everything before the newest revision.
    pub fn compact(&self) {
        let status = self.etcdctl(&["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        self.etcdctl(&["compact", &revision]);
    }
}
