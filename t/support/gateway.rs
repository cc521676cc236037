//! The gateway under test: the real binary, with a config, ports and a folder of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::calendar::Calendar;
use super::{PATIENCE, Server, free_port};

/// The key that every test gateway gives its administrator.
pub const ADMIN_KEY: &str = "edd1c9f034335f136f87ad84b625c8f1";

/// A running gateway. Killed when dropped; its log is printed when the test fails.
pub struct Gateway {
    server: Option<Server>,
    ports: Ports,
    dir: TempDir,
    env: Vec<(String, String)>,
    wait: bool,
    client: Client,
}

/// Where a gateway listens, all on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
    pub admin: u16,
    pub control: u16,
    pub metrics: u16,
    pub status: u16,
}

/// Says how a gateway is to be started; by default one node on the embedded store.
pub struct Builder {
    ports: Ports,
    config: Value,
    apisix_yaml: Option<String>,
    env: Vec<(String, String)>,
    wait: bool,
}

// === impl Ports ===

impl Ports {
    fn free() -> Self {
        Self {
            http: free_port(),
            https: free_port(),
            admin: free_port(),
            control: free_port(),
            metrics: free_port(),
            status: free_port(),
        }
    }
}

// === impl Builder ===

impl Builder {
    fn new() -> Self {
        let ports = Ports::free();
        let at = |port: u16| json!({ "ip": "127.0.0.1", "port": port });
        let config = json!({
            "apisix": {
                "node_listen": [at(ports.http)],
                "ssl": { "enable": true, "listen": [at(ports.https)] },
                "enable_control": true,
                "control": at(ports.control),
                "status": at(ports.status),
            },
            "nginx_config": { "worker_processes": 2, "error_log_level": "info" },
            "deployment": {
                "role": "traditional",
                "role_traditional": { "config_provider": "embedded" },
                "admin": {
                    "admin_key": [{ "name": "admin", "key": ADMIN_KEY, "role": "admin" }],
                    "allow_admin": ["127.0.0.0/24"],
                    "admin_listen": at(ports.admin),
                },
            },
            "plugin_attr": {
                "prometheus": { "export_addr": at(ports.metrics), "refresh_interval": 1 },
            },
            "sluice": {},
        });
        Self { ports, config, apisix_yaml: None, env: Vec::new(), wait: true }
    }

    /// Keeps the config in etcd, under the prefix `/apisix`.
    pub fn etcd<S: AsRef<str>>(mut self, endpoints: &[S]) -> Self {
        let hosts: Vec<&str> = endpoints.iter().map(AsRef::as_ref).collect();
        self.config["deployment"]["role_traditional"]["config_provider"] = json!("etcd");
        self.config["deployment"]["etcd"] =
            json!({ "host": hosts, "prefix": "/apisix", "timeout": 5 });
        self
    }

    /// Keeps the config in a file of the gateway's own folder: the default.
    pub fn embedded(mut self) -> Self {
        self.config["deployment"]["role_traditional"]["config_provider"] = json!("embedded");
        self
    }

    /// Reads the config from `conf/apisix.yaml`, which holds `yaml`; there is no Admin API.
    pub fn standalone(mut self, yaml: &str) -> Self {
        let deployment = &mut self.config["deployment"];
        deployment["role"] = json!("data_plane");
        deployment["role_data_plane"] = json!({ "config_provider": "yaml" });
        self.apisix_yaml = Some(yaml.to_owned());
        self
    }

    /// Changes the config before it is written.
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Keeps resolved secrets for `ttl_s` seconds, and failures to resolve for `neg_ttl_s`.
    pub fn secret_ttl(self, ttl_s: u64, neg_ttl_s: u64) -> Self {
        self.config(|config| {
            config["apisix"]["lru"] = json!({ "secret": { "ttl": ttl_s, "neg_ttl": neg_ttl_s } });
        })
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the gateway go by `calendar`.
    pub fn calendar(self, calendar: &Calendar) -> Self {
        calendar.env().iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Returns from `start` and `restart` at once instead of when the gateway is ready.
    pub fn no_wait(mut self) -> Self {
        self.wait = false;
        self
    }

    pub async fn start(self) -> Gateway {
        let dir = tempfile::Builder::new().prefix("sluice-").tempdir().unwrap();
        let mut gateway = Gateway {
            server: None,
            ports: self.ports,
            dir,
            env: self.env,
            wait: self.wait,
            client: Client::builder().no_proxy().timeout(PATIENCE).build().unwrap(),
        };
        let mut config = self.config;
        config["sluice"]["data_dir"] = json!(gateway.dir.path().join("data"));
        std::fs::create_dir_all(gateway.dir.path().join("conf")).unwrap();
        std::fs::create_dir_all(gateway.dir.path().join("logs")).unwrap();
        gateway.write_config(&config);
        if let Some(yaml) = self.apisix_yaml {
            gateway.write_standalone(&yaml);
        }
        gateway.launch().await;
        gateway
    }
}

// === impl Gateway ===

impl Gateway {
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Starts one node on the embedded store.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    pub fn https_port(&self) -> u16 {
        self.ports.https
    }

    /// The folder that holds `conf/`, `data/` and `gateway.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("conf/config.yaml")
    }

    /// Writes `conf/config.yaml`; JSON, which is YAML too. Seen by the next `restart`.
    pub fn write_config(&self, config: &Value) {
        let text = serde_json::to_string_pretty(config).unwrap();
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// The config as it was written last.
    pub fn read_config(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.config_file()).unwrap()).unwrap()
    }

    /// Replaces `conf/apisix.yaml` in one step.
    pub fn write_standalone(&self, yaml: &str) {
        let conf = self.dir.path().join("conf");
        std::fs::write(conf.join("apisix.yaml.new"), yaml).unwrap();
        std::fs::rename(conf.join("apisix.yaml.new"), conf.join("apisix.yaml")).unwrap();
    }

    // Requests.

    pub fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.http)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// GET through the HTTP port.
    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.http_url(path)).send().await.unwrap()
    }

    /// GET through the HTTP port with another Host.
    pub async fn get_host(&self, host: &str, path: &str) -> Response {
        self.client.get(self.http_url(path)).header("host", host).send().await.unwrap()
    }

    pub fn https_url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.ports.https)
    }

    /// A client that trusts only `ca_pem`, resolves `host` to this gateway, opens a connection a
    /// request (a handshake each time) and keeps the certificate that it was shown: see
    /// [`certificate`].
    pub fn https_client(&self, host: &str, ca_pem: &str) -> Client {
        Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_certs_only([Certificate::from_pem(ca_pem.as_bytes()).unwrap()])
            .resolve(host, ([127, 0, 0, 1], self.ports.https).into())
            .tls_info(true)
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    }

    /// Sends to `/apisix/admin{path}` with the admin key; the answer's body, `Null` when empty.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.admin_as(ADMIN_KEY, method, path, body).await
    }

    /// The same with another key.
    pub async fn admin_as(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let response = self.admin_response(key, method, path, body.as_ref()).await;
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            }),
        )
    }

    /// The answer of the Admin API to `/apisix/admin{path}` in whole.
    pub async fn admin_response(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Response {
        let url = format!("http://127.0.0.1:{}/apisix/admin{path}", self.ports.admin);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url).header("X-API-KEY", key);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.unwrap()
    }

    /// PUTs a resource, waits until every node has it, and panics with the answer unless that was
    /// so: `put("/routes/1", …)`.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let limit = PATIENCE.as_secs();
        self.write(&format!("{path}?wait=applied&timeout={limit}"), body).await
    }

    /// The same without waiting.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin("PUT", path, Some(body)).await;
        assert!(status == 200 || status == 201, "PUT {path}: {status} {answer}");
        answer
    }

    pub async fn put_route(&self, id: &str, body: Value) -> Value {
        self.put(&format!("/routes/{id}"), body).await
    }

    /// The Prometheus page.
    pub async fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/apisix/prometheus/metrics", self.ports.metrics);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// The value of one sample of the Prometheus page: `sample("apisix_http_status", &[r#"code="200""#])`
    /// sums the samples whose labels contain all the given texts, `None` when there are none.
    pub async fn sample(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let page = self.metrics().await;
        let values: Vec<f64> = page
            .lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// GET from the control API.
    pub async fn control(&self, path: &str) -> (u16, Value) {
        self.get_json(self.ports.control, path).await
    }

    /// GET from the status server: `/status`, `/status/ready`.
    pub async fn status(&self, path: &str) -> (u16, Value) {
        self.get_json(self.ports.status, path).await
    }

    async fn get_json(&self, port: u16, path: &str) -> (u16, Value) {
        let response =
            self.client.get(format!("http://127.0.0.1:{port}{path}")).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(json!(text)))
    }

    // Conditions.

    /// Waits until GET `path` is answered 200.
    pub async fn served(&self, path: &str) {
        self.answers(path, 200).await;
    }

    /// Waits until `path` is answered with `status`: for a route that another one covers until
    /// this one is there, for which [`Self::routed`] would not wait.
    pub async fn answers(&self, path: &str, status: u16) {
        super::eventually(&format!("{path} is answered with {status}"), || async {
            self.get(path).await.status() == status
        })
        .await;
    }

    /// Waits until `path` has a route: until it is answered otherwise than 404.
    pub async fn routed(&self, path: &str) {
        self.routed_with(path, &[]).await;
    }

    /// The same, with headers.
    pub async fn routed_with(&self, path: &str, headers: &[(&str, &str)]) {
        super::eventually(&format!("{path} is routed"), || async {
            let mut request = self.client.get(self.http_url(path));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.send().await.unwrap().status() != 404
        })
        .await;
    }

    /// Waits until handshakes for `host` show exactly `cert_pem`.
    pub async fn serves_certificate(&self, host: &str, ca_pem: &str, cert_pem: &str) {
        let wanted = super::authority::der(cert_pem);
        super::eventually(&format!("{host} shows the certificate"), || async {
            let client = self.https_client(host, ca_pem);
            match client.get(self.https_url(host, "/")).send().await {
                Ok(answer) => certificate(&answer) == wanted,
                Err(_) => false,
            }
        })
        .await;
    }

    // The process.

    pub fn pid(&self) -> i32 {
        self.server().pid()
    }

    /// Sends a signal by name: `QUIT` (graceful), `TERM`, `HUP`.
    pub fn signal(&self, signal: &str) {
        self.server().signal(signal);
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.server.as_mut().expect("the gateway was stopped before").ended().await
    }

    /// Starts the process again, on the same ports, config and data; kills the old one first if
    /// it still runs.
    pub async fn restart(&mut self) {
        self.server = None;
        self.launch().await;
    }

    /// Everything that the processes of this gateway wrote so far, with their log files.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let files = std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.push(self.dir.path().join("gateway.log"));
        for file in files {
            text += &String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default());
        }
        text
    }

    /// Waits until the gateway says that it is ready, at most [`PATIENCE`]; panics with the log
    /// when it does not, or ended.
    pub async fn ready(&mut self) {
        let url = format!("http://127.0.0.1:{}/status/ready", self.ports.status);
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.client.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|response| response.status() == 200) {
                return;
            }
            let ended = self.server.as_mut().and_then(|server| server.child.try_wait().unwrap());
            if let Some(status) = ended {
                panic!("the gateway ended before it was ready: {status}");
            }
            assert!(Instant::now() < end, "the gateway was not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the gateway was stopped before")
    }

    async fn launch(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("gateway.log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .args(["start", "-c"])
            .arg(self.config_file())
            .current_dir(self.dir.path())
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log));
        self.server = Some(Server::spawn("sluice", &mut command));
        if self.wait {
            self.ready().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server = None;
        if std::thread::panicking() {
            eprintln!("--- log of the gateway on port {}\n{}---", self.ports.http, self.logs());
        }
    }
}

/// The leaf certificate (DER) that the connection of an answer showed.
pub fn certificate(response: &Response) -> Vec<u8> {
    let info = response.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}
