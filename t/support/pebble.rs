//! Real Pebble, the ACME server of Let's Encrypt's tests, with a name server for which every name
//! is 127.0.0.1.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::authority::Authority;
use super::etcd::quiet;
use super::{PATIENCE, Server, eventually, free_port, tool};

/// A server that looks for answers to its challenges on one port of each kind. Killed when dropped.
pub struct Pebble {
    server: Option<Server>,
    _names: Server,
    port: u16,
    management: u16,
    dns: u16,
    ca: String,
    dir: TempDir,
}

// === impl Pebble ===

impl Pebble {
    /// Starts it; names are looked up on `http_port`, and certificates good for `life_s` seconds.
    pub async fn start(http_port: u16, life_s: u64) -> Self {
        Self::looking_on(http_port, free_port(), life_s).await
    }

    /// The same for names that are proved by handshakes on `tls_port`.
    pub async fn start_tls(tls_port: u16, life_s: u64) -> Self {
        Self::looking_on(free_port(), tls_port, life_s).await
    }

    async fn looking_on(http_port: u16, tls_port: u16, life_s: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("pebble-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let authority = Authority::new("pebble's own");
        let (certificate, key) = authority.issue(&["localhost"]);
        std::fs::write(at("tls.crt"), certificate).unwrap();
        std::fs::write(at("tls.key"), key).unwrap();
        let (port, management, dns) = (free_port(), free_port(), free_port());
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": at("tls.crt"),
            "privateKey": at("tls.key"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life_s,
        } });
        std::fs::write(at("config.json"), config.to_string()).unwrap();
        let mut names = Command::new(tool("pebble-challtestsrv"));
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.arg("-dns01").arg(format!("127.0.0.1:{dns}"));
        names.arg("-management").arg(format!("127.0.0.1:{}", free_port()));
        quiet(&mut names, dir.path());
        let names = Server::spawn("pebble-challtestsrv", &mut names);
        let ca = authority.pem();
        let mut pebble = Self { server: None, _names: names, port, management, dns, ca, dir };
        pebble.restart().await;
        pebble
    }

    /// Starts it again where it was: it knows nothing any more, and has another root.
    pub async fn restart(&mut self) {
        self.server = None;
        let mut command = Command::new(tool("pebble"));
        command.arg("-config").arg(self.dir.path().join("config.json"));
        command.arg("-dnsserver").arg(format!("127.0.0.1:{}", self.dns));
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        // Every certificate has its names proved again.
        command.env("PEBBLE_AUTHZREUSE", "0");
        quiet(&mut command, self.dir.path());
        self.server = Some(Server::spawn("pebble", &mut command));
        eventually("pebble answers", async || {
            self.client().get(self.directory()).send().await.is_ok()
        })
        .await;
    }

    /// Where clients begin.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// By what its own certificate is verified, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The root of what it issues, PEM; another each time it starts.
    pub async fn root(&self) -> String {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        self.client().get(url).send().await.unwrap().text().await.unwrap()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn client(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        client.tls_certs_only([ca]).build().unwrap()
    }
}
