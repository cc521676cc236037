//! A real OpenBao: the same HTTP API as Vault.

use std::process::{Command, Stdio};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, eventually, free_port, tool};

/// A server. Killed when dropped.
pub struct Bao {
    server: Option<Server>,
    port: u16,
    url: String,
    /// Where a durable one keeps its data; a server in development mode keeps none.
    dir: Option<TempDir>,
    root_token: String,
    unseal_key: Option<String>,
    client: Client,
}

impl Bao {
    /// A server in development mode: unsealed, in memory.
    pub async fn start() -> Self {
        let mut bao = Self::new(None);
        bao.launch(&[
            "-dev",
            "-dev-root-token-id=root",
            "-dev-no-store-token",
            &format!("-dev-listen-address=127.0.0.1:{}", bao.port),
        ])
        .await;
        bao
    }

    /// A server that has its data again after a stop.
    pub async fn durable() -> Self {
        let dir = tempfile::Builder::new().prefix("bao-").tempdir().unwrap();
        let mut bao = Self::new(Some(dir));
        let (folder, port, cluster) = (bao.folder().join("data"), bao.port, free_port());
        std::fs::create_dir(&folder).unwrap();
        let config = format!(
            "storage \"raft\" {{ path = \"{}\" node_id = \"n\" }}\n\
             listener \"tcp\" {{\n\
               address = \"127.0.0.1:{port}\"\n\
               cluster_address = \"127.0.0.1:{cluster}\"\n\
               tls_disable = true\n\
             }}\n\
             api_addr = \"http://127.0.0.1:{port}\"\n\
             cluster_addr = \"http://127.0.0.1:{cluster}\"\n",
            folder.display(),
        );
        std::fs::write(bao.folder().join("config.hcl"), config).unwrap();
        bao.launch_durable().await;
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let init = bao.call(Method::PUT, "sys/init", Some(init)).await;
        bao.root_token = init["root_token"].as_str().unwrap().to_owned();
        bao.unseal_key = Some(init["keys"][0].as_str().unwrap().to_owned());
        bao.unseal().await;
        bao
    }

    fn new(dir: Option<TempDir>) -> Self {
        let port = free_port();
        Self {
            server: None,
            port,
            url: format!("http://127.0.0.1:{port}"),
            dir,
            root_token: "root".to_owned(),
            unseal_key: None,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts a durable server again, and unseals it.
    pub async fn restart(&mut self) {
        self.launch_durable().await;
        self.unseal().await;
    }

    pub async fn seal(&self) {
        self.call(Method::PUT, "sys/seal", None).await;
    }

    pub async fn unseal(&self) {
        let key = json!({ "key": self.unseal_key });
        self.call(Method::PUT, "sys/unseal", Some(key)).await;
        eventually("bao is active", || async {
            let health = self.client.get(format!("{}/v1/sys/health", self.url)).send().await;
            health.is_ok_and(|health| health.status() == 200)
        })
        .await;
    }

    pub async fn enable_kv(&self, mount: &str, version: u8) {
        let body = json!({ "type": "kv", "options": { "version": version.to_string() } });
        self.call(Method::POST, &format!("sys/mounts/{mount}"), Some(body)).await;
    }

    /// Writes at a path below `/v1/`.
    pub async fn put(&self, path: &str, body: &Value) {
        self.call(Method::POST, path, Some(body.clone())).await;
    }

    /// Makes a policy of its HCL text.
    pub async fn policy(&self, name: &str, text: &str) {
        let body = json!({ "policy": text });
        self.call(Method::PUT, &format!("sys/policies/acl/{name}"), Some(body)).await;
    }

    /// A token that has the policy and nothing else.
    pub async fn token(&self, policy: &str) -> String {
        let body = json!({ "policies": [policy], "no_default_policy": true });
        let answer = self.call(Method::POST, "auth/token/create", Some(body)).await;
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/v1/{path}", self.url);
        let mut request =
            self.client.request(method, url).header("X-Vault-Token", &self.root_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn folder(&self) -> &std::path::Path {
        self.dir.as_ref().expect("a durable server").path()
    }

    async fn launch_durable(&mut self) {
        let config = format!("-config={}", self.folder().join("config.hcl").display());
        self.launch(&[&config]).await;
    }

    /// Starts the process and waits until it answers, sealed or not.
    async fn launch(&mut self, arguments: &[&str]) {
        let mut command = Command::new(tool("bao"));
        command.arg("server").args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(Server::spawn("bao", &mut command));
        eventually("bao answers", || async {
            self.client.get(format!("{}/v1/sys/seal-status", self.url)).send().await.is_ok()
        })
        .await;
    }
}
