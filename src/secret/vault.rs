//! Vault and OpenBao: KV version 1 and 2 by HTTP.
//!
//! Source: Vault's API docs, `secret/kv/kv-v1` and `kv-v2`; APISIX `secret/vault.lua`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use super::cache::{Lookup, env};
use super::{Fields, Manager, Reference, Secret, SecretError};
use crate::resource::secret::Vault as Written;

/// A Vault, ready to be asked.
pub(crate) struct Vault {
    client: Result<Client, String>,
    /// Address without a slash at its end.
    uri: String,
    prefix: String,
    /// Marked as sensitive, or why there is none.
    token: Result<HeaderValue, SecretError>,
    namespace: Option<String>,
    version: Option<u8>,
    /// Found out with the first read that succeeds.
    mount: Mutex<Option<Mount>>,
}

/// Where secrets are in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mount {
    /// KV version 1: the path is the path.
    Plain,
    /// KV version 2: `data/` stands after the mount.
    Versioned { mount: String },
}

// === impl Vault ===

impl Vault {
    pub(crate) fn new(written: &Written) -> Self {
        Self {
            client: client(written),
            uri: written.uri.trim_end_matches('/').to_owned(),
            prefix: written.prefix.trim_matches('/').to_owned(),
            token: token(written.token.expose()),
            namespace: written.namespace.clone(),
            version: written.kv_version,
            mount: Mutex::default(),
        }
    }

    async fn read_from(&self, mount: &Mount, path: &str) -> Result<Fields, SecretError> {
        let url = self.url(mount, path);
        let body = self.get(&url).await?;
        let data = match mount {
            Mount::Plain => &body["data"],
            Mount::Versioned { .. } => &body["data"]["data"],
        };
        // A version 2 path written out by hand (`kv/data/apisix`) reads as version 1 and nests.
        let data = match data.get("data") {
            Some(inner) if inner.is_object() && data.get("metadata").is_some() => inner,
            _ => data,
        };
        let Some(fields) = data.as_object() else {
            return Err(SecretError::Refused {
                url,
                status: 200,
                reason: "there is no data in it (deleted?)".to_owned(),
            });
        };
        let text = |value: &Value| match value {
            Value::String(text) => Secret::new(text.as_str()),
            other => Secret::new(other.to_string()),
        };
        let named = fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Ok(Fields { whole: None, named })
    }

    /// Reads `path` as version 1, then as version 2 with every beginning of the prefix as mount.
    async fn search(&self, path: &str) -> Result<(Mount, Fields), SecretError> {
        let ends = self.prefix.match_indices('/').map(|(at, _)| at);
        let mounts = ends
            .chain([self.prefix.len()])
            .map(|end| Mount::Versioned { mount: self.prefix[..end].to_owned() });
        let mut failure = None;
        for mount in [Mount::Plain].into_iter().chain(mounts) {
            match self.read_from(&mount, path).await {
                Ok(fields) => return Ok((mount, fields)),
                Err(passing) if passing.is_passing() => return Err(passing),
                // What the wrong place says ("versioned") helps nobody; the first right one does.
                Err(error) => {
                    let is_hint = |error: &SecretError| error.to_string().contains("versioned");
                    if failure.as_ref().is_none_or(is_hint) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| SecretError::NoManager(self.uri.clone())))
    }

    fn url(&self, mount: &Mount, path: &str) -> String {
        let (uri, prefix) = (&self.uri, &self.prefix);
        match mount {
            Mount::Plain => format!("{uri}/v1/{prefix}/{path}"),
            Mount::Versioned { mount } => {
                let whole = format!("{prefix}/{path}");
                let rest = whole.strip_prefix(mount.as_str()).unwrap_or(&whole);
                format!("{uri}/v1/{mount}/data/{}", rest.trim_start_matches('/'))
            }
        }
    }

    /// Finds out which KV version serves the prefix, and where it is mounted; `None` when the
    /// token may not ask and the version is not configured.
    async fn find_mount(&self) -> Result<Option<Mount>, SecretError> {
        let first = self.prefix.split('/').next().unwrap_or_default();
        let versioned =
            |mount: &str| Mount::Versioned { mount: mount.trim_matches('/').to_owned() };
        if self.version == Some(1) {
            return Ok(Some(Mount::Plain));
        }
        let about = format!("{}/v1/sys/internal/ui/mounts/{}", self.uri, self.prefix);
        match self.get(&about).await {
            Ok(body) if self.version.is_some() || body["data"]["options"]["version"] == "2" => {
                let mount = body["data"]["path"].as_str().unwrap_or(first);
                // A prefix that says `data` itself is read as it is.
                let rest = self.prefix.strip_prefix(mount.trim_matches('/')).unwrap_or_default();
                if rest.trim_start_matches('/').split('/').next() == Some("data") {
                    return Ok(Some(Mount::Plain));
                }
                Ok(Some(versioned(mount)))
            }
            Ok(_) => Ok(Some(Mount::Plain)),
            Err(passing) if passing.is_passing() => Err(passing),
            Err(missing @ SecretError::NoVariable(_)) => Err(missing),
            Err(_) => Ok(self.version.map(|_| versioned(first))),
        }
    }

    /// Writes `body` to `path`, as it stands below `/v1/` (`pki/issue/web`), and returns the
    /// whole answer (`data`, `lease_id`, …); `Null` where the server answers with no content.
    ///
    /// The path is outside the prefix; login, namespace and time limit are those of every read.
    /// Nothing is tried twice, since not everything may be written twice.
    ///
    /// # Errors
    /// As [`Manager::read`]; the reason never holds `body`.
    pub(crate) async fn write(&self, path: &str, body: &Value) -> Result<Value, SecretError> {
        self.ask(Method::POST, &self.api(path), Some(body)).await
    }

    /// Reads what stands at `path` below `/v1/`, outside the prefix (`pki/cert/{serial}`), and
    /// returns the whole answer.
    ///
    /// # Errors
    /// As [`Manager::read`].
    pub(crate) async fn look(&self, path: &str) -> Result<Value, SecretError> {
        self.get(&self.api(path)).await
    }

    fn api(&self, path: &str) -> String {
        format!("{}/v1/{}", self.uri, path.trim_start_matches('/'))
    }

    async fn get(&self, url: &str) -> Result<Value, SecretError> {
        self.ask(Method::GET, url, None).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Value, SecretError> {
        let unreachable = |reason: String| SecretError::Unreachable { url: url.to_owned(), reason };
        let client = self.client.as_ref().map_err(|reason| unreachable(reason.clone()))?;
        let token = self.token.clone()?;
        let mut request = client.request(method, url).header("X-Vault-Token", token);
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unreachable(link(&error)))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| unreachable(link(&error)))?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let words = ["errors", "warnings"].map(|list| body[list].as_array().cloned());
        let words = words.into_iter().flatten().flatten();
        let words: Vec<_> = words.filter_map(|word| word.as_str().map(str::to_owned)).collect();
        Err(SecretError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            reason: match (words.as_slice(), status) {
                ([], StatusCode::NOT_FOUND) => "nothing stands there".to_owned(),
                ([], _) => "it gives no reason".to_owned(),
                (words, _) => words.join("; "),
            },
        })
    }
}

#[async_trait]
impl Manager for Vault {
    /// Reads everything that stands at `path` below the prefix.
    ///
    /// # Errors
    /// [`SecretError::Unreachable`] when the server gave no answer, [`SecretError::Refused`] with
    /// the server's own words when it did, [`SecretError::NoVariable`] when the token is in a
    /// variable that is not set.
    async fn read(&self, path: &str) -> Result<Fields, SecretError> {
        let mut known = self.mount.lock().await;
        let mount = match &*known {
            Some(mount) => mount.clone(),
            None => match self.find_mount().await? {
                Some(mount) => known.insert(mount).clone(),
                // The token may not ask: whichever place answers is right. Nothing is kept of a
                // search that found nothing, since a policy may be mended.
                None => {
                    let (mount, fields) = self.search(path).await?;
                    *known = Some(mount);
                    return Ok(fields);
                }
            },
        };
        // Reads of other paths go on at the same time.
        drop(known);
        let read = self.read_from(&mount, path).await;
        if let Err(SecretError::Refused { reason, .. }) = &read
            && reason.contains("versioned")
        {
            // The engine was upgraded to version 2 since.
            *self.mount.lock().await = None;
        }
        read
    }

    fn into_vault(self: Arc<Self>) -> Option<Arc<Vault>> {
        Some(self)
    }
}

/// The token itself, or what the environment variable holds that it refers to.
fn token(written: &str) -> Result<HeaderValue, SecretError> {
    let found = match Reference::parse(written) {
        Some(Ok(Reference::Env { name, key })) => match env(&name, key.as_deref()) {
            Lookup::Ready(secret) => secret.expose().trim().to_owned(),
            Lookup::Failed(error) => return Err(error),
            Lookup::Pending => return Err(SecretError::NoVariable(name.to_string())),
        },
        _ => written.to_owned(),
    };
    let mut value = HeaderValue::from_str(&found).map_err(|_| SecretError::Unreachable {
        url: "token".to_owned(),
        reason: "expected visible ASCII characters, there are others".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn client(written: &Written) -> Result<Client, String> {
    let timeout = Duration::try_from_secs_f64(written.timeout).unwrap_or(Duration::from_secs(5));
    let mut builder = Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(!written.ssl_verify);
    if let Some(ca) = &written.ca {
        let authorities = reqwest::Certificate::from_pem_bundle(ca.as_bytes())
            .map_err(|error| format!("ca: {error}"))?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| link(&error))
}

/// The failing link in plain words: the innermost cause, with a hint where one helps.
fn link(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.to_lowercase().contains("certificate") {
        return format!("{text} (set `ca` or `ssl_verify` of this secret manager)");
    }
    text
}
