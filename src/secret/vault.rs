//! Vault and OpenBao: KV version 1 and 2 by HTTP, and whatever else is asked with the same login.
//!
//! One login and at most [`READS`] questions a manager at a time, however many paths are due. A
//! token that is refused is replaced and the question asked once more.
//!
//! Source: Vault's API docs, `secret/kv/kv-v1` and `kv-v2`; APISIX `secret/vault.lua`.

mod login;
mod mount;
mod server;
mod token;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use self::login::Login;
use self::mount::{Mount, candidates, encode};
use self::server::Server;
use self::token::{Token, Tokens};
use super::web::Answer;
use super::{Fields, Manager, Secret, SecretError};
use crate::resource::secret::Vault as Written;

/// Reads of one manager at a time: enough to read a thousand paths in a second, and few enough
/// not to be what a Vault that has just come back falls over.
const READS: usize = 16;

/// A Vault, ready to be asked.
pub(crate) struct Vault {
    server: Arc<Server>,
    tokens: Arc<Tokens>,
    prefix: String,
    version: Option<u8>,
    /// Found out with the first read that succeeds.
    mount: Mutex<Option<Mount>>,
    permits: Semaphore,
}

// === impl Vault ===

impl Vault {
    /// `trusted` is the file with the authorities of a manager that names none.
    pub(crate) fn new(
        written: &Written,
        trusted: Option<&Path>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let server = Arc::new(Server::new(written, trusted));
        Self {
            tokens: Tokens::new(server.clone(), Login::new(written), runtime),
            server,
            prefix: written.prefix.trim_matches('/').to_owned(),
            version: written.kv_version,
            mount: Mutex::default(),
            permits: Semaphore::new(READS),
        }
    }

    /// Writes `body` to `path`, as it stands below `/v1/` (`pki/issue/web`), and returns the
    /// whole answer (`data`, `lease_id`, …); `Null` where the server answers with no content.
    ///
    /// The path is outside the prefix; login, namespace and time limit are those of every read.
    /// It is written again only where the token was refused, so that nothing was written.
    ///
    /// # Errors
    /// As [`Manager::read`]; the reason never holds `body`.
    pub(crate) async fn write(&self, path: &str, body: &Value) -> Result<Answer, SecretError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Reads what stands at `path` below `/v1/`, outside the prefix (`pki/cert/{serial}`), and
    /// returns the whole answer.
    ///
    /// # Errors
    /// As [`Manager::read`].
    pub(crate) async fn look(&self, path: &str) -> Result<Answer, SecretError> {
        self.call(Method::GET, path, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, SecretError> {
        let url = self.server.url(&encode(path.trim_start_matches('/')));
        let token = self.tokens.get().await?;
        let answer = self.server.ask(method.clone(), &url, Some(&token.value), body).await;
        let answer = match self.another(&token, is_denied(&answer)).await? {
            Some(token) => self.server.ask(method, &url, Some(&token.value), body).await,
            None => answer,
        };
        self.explain(answer)
    }

    /// Another token, when `refused` was and there is one.
    async fn another(
        &self,
        refused: &Token,
        is_denied: bool,
    ) -> Result<Option<Arc<Token>>, SecretError> {
        if is_denied { self.tokens.replace(refused).await } else { Ok(None) }
    }

    /// Says what to do about a token that is refused for good.
    fn explain<T>(&self, answer: Result<T, SecretError>) -> Result<T, SecretError> {
        answer.map_err(|error| match error {
            SecretError::Refused { url, status: 403, reason } => {
                let reason = format!("{reason} ({})", self.tokens.hint());
                SecretError::Refused { url, status: 403, reason }
            }
            error => error,
        })
    }

    /// The whole way of a read: a token, a place, and both once more when the token is refused.
    async fn fetch(&self, path: &str, version: Option<u32>) -> Result<Fields, SecretError> {
        let began = Instant::now();
        let _permit = self.permits.acquire().await;
        if let Some(error) = self.server.away_since(began) {
            return Err(error);
        }
        let token = self.tokens.get().await?;
        let read = self.find(&token.value, path, version, began).await;
        let read = match self.another(&token, is_denied(&read)).await? {
            Some(token) => self.find(&token.value, path, version, began).await,
            None => read,
        };
        self.explain(read)
    }

    async fn find(
        &self,
        token: &HeaderValue,
        path: &str,
        version: Option<u32>,
        began: Instant,
    ) -> Result<Fields, SecretError> {
        let mut known = self.mount.lock().await;
        let mount = match &*known {
            Some(mount) => mount.clone(),
            None => {
                if let Some(error) = self.server.away_since(began) {
                    return Err(error);
                }
                match self.find_mount(token).await? {
                    Some(mount) => known.insert(mount).clone(),
                    // The token may not ask: whichever place answers is right. Nothing is kept of
                    // a search that found nothing, since a policy may be mended.
                    None => {
                        let (mount, fields) = self.search(token, path, version).await?;
                        *known = Some(mount);
                        return Ok(fields);
                    }
                }
            }
        };
        // Reads of other paths go on at the same time.
        drop(known);
        let read = self.read_from(token, &mount, path, version).await;
        if let Err(SecretError::Refused { reason, .. }) = &read
            && reason.contains("versioned")
        {
            // The engine was upgraded to version 2 since.
            *self.mount.lock().await = None;
        }
        read
    }

    async fn read_from(
        &self,
        token: &HeaderValue,
        mount: &Mount,
        path: &str,
        version: Option<u32>,
    ) -> Result<Fields, SecretError> {
        let mut url = self.server.url(&mount.address(&self.prefix, path));
        if let Some(version) = version {
            if !mount.keeps_versions() {
                return Err(SecretError::Unversioned { place: url, version });
            }
            url = format!("{url}?version={version}");
        }
        let body = self.server.ask(Method::GET, &url, Some(token), None).await?;
        let data = match mount {
            Mount::Plain | Mount::Spelt => &body["data"],
            Mount::Versioned { .. } => &body["data"]["data"],
        };
        // A path that is taken as it stands may be one of version 2, written out.
        let data = match data.get("data") {
            Some(inner) if inner.is_object() && data.get("metadata").is_some() => inner,
            _ => match (mount, version) {
                (Mount::Spelt, Some(version)) => {
                    return Err(SecretError::Unversioned { place: url, version });
                }
                _ => data,
            },
        };
        let Some(fields) = data.as_object() else {
            let reason = "there is no data in it: expected fields at `data`".to_owned();
            return Err(SecretError::Refused { url, status: 200, reason });
        };
        let text = |value: &Value| match value {
            Value::String(text) => Secret::new(text.as_str()),
            other => Secret::new(other.to_string()),
        };
        let named = fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Ok(Fields { whole: None, named })
    }

    /// Reads `path` as it stands there, then as version 2 with every beginning of the prefix as mount.
    async fn search(
        &self,
        token: &HeaderValue,
        path: &str,
        version: Option<u32>,
    ) -> Result<(Mount, Fields), SecretError> {
        let mut failure = None;
        for mount in [Mount::Spelt].into_iter().chain(candidates(&self.prefix)) {
            match self.read_from(token, &mount, path, version).await {
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
        Err(failure.unwrap_or_else(|| SecretError::NoManager(self.server.url(""))))
    }

    /// Finds out which KV version serves the prefix, and where it is mounted; `None` when the
    /// token may not ask and the version is not configured.
    async fn find_mount(&self, token: &HeaderValue) -> Result<Option<Mount>, SecretError> {
        if self.version == Some(1) {
            return Ok(Some(Mount::Plain));
        }
        let first = self.prefix.split('/').next().unwrap_or_default();
        let about = self.server.url(&format!("sys/internal/ui/mounts/{}", encode(&self.prefix)));
        match self.server.ask(Method::GET, &about, Some(token), None).await {
            Ok(body) if self.version.is_some() || body["data"]["options"]["version"] == "2" => {
                let mount = body["data"]["path"].as_str().unwrap_or(first);
                Ok(Some(Mount::beside(&self.prefix, mount)))
            }
            Ok(_) => Ok(Some(Mount::Plain)),
            Err(SecretError::Refused { status, .. }) if status < 429 && status != 307 => {
                Ok(self.version.map(|_| Mount::versioned(first)))
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Manager for Vault {
    /// Reads everything that stands at `path` below the prefix.
    ///
    /// # Errors
    /// [`SecretError::Unreachable`] when the server gave no answer, [`SecretError::Refused`] with
    /// the server's own words when it did, and what a value, variable or file of the login lacks.
    async fn read(&self, path: &str) -> Result<Fields, SecretError> {
        self.fetch(path, None).await
    }

    async fn read_version(&self, path: &str, version: u32) -> Result<Fields, SecretError> {
        self.fetch(path, Some(version)).await
    }

    fn into_vault(self: Arc<Self>) -> Option<Arc<Vault>> {
        Some(self)
    }
}

const fn is_denied<T>(answer: &Result<T, SecretError>) -> bool {
    matches!(answer, Err(SecretError::Refused { status: 403, .. }))
}
