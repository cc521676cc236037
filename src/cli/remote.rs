//! The Admin API of a running gateway, as the operator verbs call it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Certificate, Client, Identity, Method, Url};
use serde_json::Value;

use crate::config::{AdminRole, Config};

/// How long an answer may take; one that waits for all nodes takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the gateway is and who calls.
#[derive(clap::Args)]
pub(super) struct Server {
    /// Address of the Admin API; else SLUICE_SERVER, else that of the config file.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Admin key; else SLUICE_ADMIN_KEY, which nobody sees in a list of processes, else that of
    /// the config file.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// File with the authorities that the server's certificate is checked against (PEM).
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// File with a client certificate and its key (PEM).
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
}

/// A caller of the Admin API.
pub(super) struct Remote {
    client: Client,
    base: String,
    key: Option<String>,
}

// === impl Server ===

impl Server {
    /// The caller; the config file at `config` is read for what is not said otherwise.
    pub(super) fn remote(&self, config: &Path) -> anyhow::Result<Remote> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut base = self.server.clone().or_else(|| variable("SLUICE_SERVER"));
        let mut key = self.key.clone().or_else(|| variable("SLUICE_ADMIN_KEY"));
        if base.is_none() || key.is_none() {
            match Config::load(config) {
                Ok(loaded) => {
                    base = base.or_else(|| Some(address(&loaded.config)));
                    if key.is_none() {
                        key = admin_key(&loaded.config)?;
                    }
                }
                // A server without a key may be all that is needed.
                Err(_) if base.is_some() => {}
                Err(error) => {
                    bail!(
                        "{error}\n--server and --key, or SLUICE_SERVER and SLUICE_ADMIN_KEY, do without it"
                    )
                }
            }
        }
        let base = base.unwrap_or_default();
        let url = Url::parse(&base).with_context(|| format!("--server: {base}"))?;
        if !["http", "https"].contains(&url.scheme()) {
            bail!("--server: expected an http or https URL, got {base}");
        }
        let mut client = Client::builder().timeout(PATIENCE);
        if let Some(path) = &self.cacert {
            let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
            let all = Certificate::from_pem_bundle(&pem);
            client = client.tls_certs_only(all.with_context(|| path.display().to_string())?);
        }
        if let Some(path) = &self.cert {
            let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
            let identity = Identity::from_pem(&pem);
            client = client.identity(identity.with_context(|| path.display().to_string())?);
        }
        let base = base.trim_end_matches('/').trim_end_matches("/apisix/admin").to_owned();
        Ok(Remote { client: client.build()?, base, key })
    }
}

/// Where the node of `config` serves its Admin API.
fn address(config: &Config) -> String {
    let admin = &config.deployment.admin;
    let scheme = if admin.https_admin { "https" } else { "http" };
    format!("{scheme}://{}", reachable(admin.admin_listen.into()))
}

/// Where what listens on `addr` is reached from this machine.
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    addr
}

/// An administrator's key: the configured one, or the one that the node generated.
fn admin_key(config: &Config) -> anyhow::Result<Option<String>> {
    let admin = &config.deployment.admin;
    if !admin.admin_key_required {
        return Ok(None);
    }
    let Some(key) = admin.admin_key.iter().find(|key| key.role == AdminRole::Admin) else {
        bail!("deployment.admin.admin_key has no key of the role admin: give --key");
    };
    if !key.key.is_empty() {
        return Ok(Some(key.key.reveal().to_owned()));
    }
    let path = config.sluice.data_dir.join("admin.key");
    let kept = std::fs::read_to_string(&path).with_context(|| {
        format!("{}: has the node been started, and may you read it?", path.display())
    })?;
    Ok(Some(kept.trim().to_owned()))
}

// === impl Remote ===

impl Remote {
    /// Calls `/apisix/admin/{path}`; status and body.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}/apisix/admin/{path}", self.base);
        let mut request = self.client.request(method, &url);
        if let Some(key) = &self.key {
            request = request.header("X-API-KEY", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.with_context(|| format!("no answer from {url}"))?;
        match serde_json::from_str(&text) {
            Ok(body) => Ok((status, body)),
            Err(_) => bail!("{url} answered {status}, and not as an Admin API does"),
        }
    }

    /// The same, where anything but 200 and 201 is a failure that its body explains.
    pub(super) async fn done(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, body) = self.call(method, path, body).await?;
        if [200, 201].contains(&status) { Ok(body) } else { Err(failure(status, &body)) }
    }
}

/// What an answer other than success says.
pub(super) fn failure(status: u16, body: &Value) -> anyhow::Error {
    let said = ["error_msg", "message"].iter().find_map(|name| body[*name].as_str());
    let more = body["description"].as_str().map(|more| format!(": {more}")).unwrap_or_default();
    anyhow::anyhow!("the gateway answered {status}: {}{more}", said.unwrap_or("nothing more"))
}

/// Runs `work` to its end.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
