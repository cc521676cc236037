//! Real OpenBao: in memory, or with its data on disk, initialised and unsealed over HTTP.

use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::Authority;
use super::etcd::quiet;
use super::{PATIENCE, Server, eventually, free_port, tool};

/// Its audit log, in its folder.
const AUDIT: &str = "audit.log";

/// A server. Killed when dropped, its data with it.
pub struct Bao {
    server: Option<Server>,
    port: u16,
    is_tls: bool,
    is_dev: bool,
    token: String,
    /// What unseals it, base64; empty in dev mode.
    unseal_key: String,
    dir: TempDir,
    client: reqwest::Client,
}

// === impl Bao ===

impl Bao {
    /// Starts it in memory, with the root token `root`. KV version 1 is at `kv`, version 2 at
    /// `secret`.
    pub async fn dev() -> Self {
        let mut bao = Self::prepare(true, false);
        bao.token = "root".to_owned();
        bao.launch();
        bao.unsealed().await;
        bao.api(
            "POST",
            "/v1/sys/mounts/kv",
            json!({ "type": "kv", "options": { "version": "1" } }),
        )
        .await;
        bao
    }

    /// Starts it with its data on disk, so that it can be stopped and started; the same mounts.
    pub async fn start() -> Self {
        Self::on_disk(None).await
    }

    /// The same behind TLS, with a certificate for 127.0.0.1 and `bao.test` signed by `authority`.
    pub async fn tls(authority: &Authority) -> Self {
        Self::on_disk(Some(authority)).await
    }

    async fn on_disk(authority: Option<&Authority>) -> Self {
        let mut bao = Self::prepare(false, authority.is_some());
        let at = |name: &str| bao.dir.path().join(name);
        let mut listener = json!({ "address": format!("127.0.0.1:{}", bao.port) });
        if let Some(authority) = authority {
            // As long as such certificates are good: a year later it is over.
            let (certificate, key) = authority.issue_as(&["bao.test"], |params| {
                params.not_after = (SystemTime::now() + Duration::from_secs(90 * 86_400)).into();
            });
            std::fs::write(at("bao.crt"), certificate).unwrap();
            std::fs::write(at("bao.key"), key).unwrap();
            listener["tls_cert_file"] = json!(at("bao.crt"));
            listener["tls_key_file"] = json!(at("bao.key"));
        } else {
            listener["tls_disable"] = json!(true);
        }
        let config = json!({
            "listener": [{ "tcp": listener }],
            "storage": { "raft": {
                "path": at("data"),
                "node_id": "single",
                "performance_multiplier": "1",
            } },
            "api_addr": bao.url(""),
            "cluster_addr": format!("http://127.0.0.1:{}", bao.port + 1),
            // Without a description, its reader of JSON takes the levels for one.
            "audit": [{ "file": { "all": {
                "description": "all that is asked",
                "options": { "file_path": at(AUDIT) },
            } } }],
        });
        std::fs::create_dir(at("data")).unwrap();
        std::fs::write(at("config.json"), config.to_string()).unwrap();
        bao.launch();
        bao.answers().await;
        let made = bao
            .api("POST", "/v1/sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 }))
            .await;
        bao.token = made["root_token"].as_str().unwrap().to_owned();
        bao.unseal_key = made["keys_base64"][0].as_str().unwrap().to_owned();
        bao.unseal().await;
        for (mount, version) in [("kv", "1"), ("secret", "2")] {
            let options = json!({ "type": "kv", "options": { "version": version } });
            bao.api("POST", &format!("/v1/sys/mounts/{mount}"), options).await;
        }
        bao.upgraded("secret").await;
        bao
    }

    fn prepare(is_dev: bool, is_tls: bool) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_danger_accept_invalid_certs(true);
        Self {
            server: None,
            port: two_free_ports(),
            is_tls,
            is_dev,
            token: String::new(),
            unseal_key: String::new(),
            dir: tempfile::Builder::new().prefix("bao-").tempdir().unwrap(),
            client: client.build().unwrap(),
        }
    }

    fn launch(&mut self) {
        let mut command = Command::new(tool("bao"));
        command.arg("server").env("HOME", self.dir.path());
        if self.is_dev {
            command.args(["-dev", "-dev-root-token-id=root", "-dev-no-store-token"]);
            command.arg(format!("-dev-listen-address=127.0.0.1:{}", self.port));
        } else {
            command.arg("-config").arg(self.dir.path().join("config.json"));
        }
        quiet(&mut command, self.dir.path());
        self.server = Some(Server::spawn("bao", &mut command));
    }

    /// The address with `path`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    /// The root token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Kills it. In memory, everything is lost.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port and data, and unseals it.
    pub async fn restart(&mut self) {
        self.stop();
        self.launch();
        self.answers().await;
        if !self.is_dev {
            self.unseal().await;
        }
        self.unsealed().await;
    }

    pub async fn seal(&self) {
        self.api("PUT", "/v1/sys/seal", Value::Null).await;
    }

    pub async fn unseal(&self) {
        self.api("PUT", "/v1/sys/unseal", json!({ "key": self.unseal_key })).await;
        self.unsealed().await;
    }

    /// How often it was asked for what begins with `path` (`auth/approle/login`) by that
    /// `operation` (`read`, `update`) and has answered; one with its data on disk.
    pub fn asked(&self, operation: &str, path: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join(AUDIT)).unwrap();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_it = |entry: &Value| {
            let asked = &entry["request"];
            entry["type"] == "response"
                && asked["operation"] == operation
                && asked["path"].as_str().is_some_and(|asked| asked.starts_with(path))
        };
        entries.filter(is_it).count()
    }

    /// Writes an object at a path of version 1 (`kv/…`) or 2 (`secret/…`, without `data`).
    pub async fn put(&self, path: &str, fields: Value) {
        match path.strip_prefix("secret/") {
            Some(rest) => {
                let body = json!({ "data": fields });
                self.api("POST", &format!("/v1/secret/data/{rest}"), body).await
            }
            None => self.api("POST", &format!("/v1/{path}"), fields).await,
        };
    }

    /// Makes a token that may do what `policy` (HCL) says and nothing else.
    pub async fn token_with(&self, name: &str, policy: &str) -> String {
        self.set_policy(name, policy).await;
        let body = json!({ "policies": [name], "no_default_policy": true });
        let made = self.api("POST", "/v1/auth/token/create", body).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    pub async fn set_policy(&self, name: &str, policy: &str) {
        let body = json!({ "policy": policy });
        self.api("PUT", &format!("/v1/sys/policies/acl/{name}"), body).await;
    }

    pub async fn revoke(&self, token: &str) {
        self.api("POST", "/v1/auth/token/revoke", json!({ "token": token })).await;
    }

    /// Calls the API as root; panics with the answer unless it succeeded.
    pub async fn api(&self, method: &str, path: &str, body: Value) -> Value {
        self.api_in("", method, path, body).await
    }

    /// The same in a namespace.
    pub async fn api_in(&self, namespace: &str, method: &str, path: &str, body: Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, self.url(path));
        if !self.token.is_empty() {
            request = request.header("X-Vault-Token", &self.token);
        }
        if !namespace.is_empty() {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Waits until a version 2 mount takes writes: it is made ready after it was enabled.
    async fn upgraded(&self, mount: &str) {
        let url = self.url(&format!("/v1/{mount}/config"));
        self.status_is("the version 2 mount is ready", &url, &[200]).await;
        // Its config may answer while its data still says that it is being upgraded, with 400.
        let url = self.url(&format!("/v1/{mount}/data/nothing"));
        self.status_is("the version 2 mount takes data", &url, &[404]).await;
    }

    async fn answers(&self) {
        let url = self.url("/v1/sys/health");
        // Not initialised, sealed, standby and active.
        self.status_is("bao answers", &url, &[501, 503, 429, 200]).await;
    }

    async fn unsealed(&self) {
        self.status_is("bao is unsealed", &self.url("/v1/sys/health"), &[200]).await;
    }

    async fn status_is(&self, what: &str, url: &str, statuses: &[u16]) {
        eventually(what, async || {
            let answer = self.client.get(url).header("X-Vault-Token", &self.token).send().await;
            answer.is_ok_and(|answer| statuses.contains(&answer.status().as_u16()))
        })
        .await;
    }
}

/// A free port after which comes another: the server takes that for its cluster by itself.
fn two_free_ports() -> u16 {
    let mut port = free_port();
    loop {
        let next = free_port();
        if next == port + 1 {
            return port;
        }
        port = next;
    }
}
