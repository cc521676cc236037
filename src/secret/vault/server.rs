//! The server as HTTP: its address, TLS and namespace; one question, one bounded answer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use super::login::{Text, file};
use crate::call::{self, Unread};
use crate::resource::secret::{Auth, Vault as Written};
use crate::secret::SecretError;
use crate::secret::web::{Answer, LONGEST_ANSWER_BYTES};

/// A server that can be asked.
pub(super) struct Server {
    /// Address without a slash at its end.
    uri: String,
    namespace: Option<String>,
    timeout: Duration,
    is_verified: bool,
    authorities: Authorities,
    /// Certificate and key that are shown to it.
    identity: Option<[Text; 2]>,
    /// Made with the first question, and again when certificates may have changed.
    client: ArcSwapOption<Client>,
    /// When it last gave no answer, and what the error was.
    away: Mutex<Option<(Instant, SecretError)>>,
}

/// Who vouches for the server's certificate.
enum Authorities {
    System,
    Given(String),
    File(PathBuf),
}

// === impl Server ===

impl Server {
    /// `trusted` is the file with the authorities of a manager that names none.
    pub(super) fn new(written: &Written, trusted: Option<&Path>) -> Self {
        let authorities = match (&written.ca, written.ca_file.as_deref().or(trusted)) {
            (Some(pem), _) => Authorities::Given(pem.clone()),
            (None, Some(path)) => Authorities::File(path.to_owned()),
            (None, None) => Authorities::System,
        };
        let identity = match &written.auth {
            Some(Auth::Cert(cert)) => Some([
                Text::new("auth/cert", cert.cert.as_deref(), cert.cert_file.as_deref()),
                Text::new(
                    "auth/key",
                    cert.key.as_ref().map(|key| key.expose()),
                    cert.key_file.as_deref(),
                ),
            ]),
            _ => None,
        };
        Self {
            uri: written.uri.trim_end_matches('/').to_owned(),
            namespace: written.namespace.clone(),
            timeout: Duration::try_from_secs_f64(written.timeout).unwrap_or(Duration::from_secs(5)),
            is_verified: written.ssl_verify,
            authorities,
            identity,
            client: ArcSwapOption::empty(),
            away: Mutex::default(),
        }
    }

    /// The address of `path` below `/v1/`, which is encoded already.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.uri)
    }

    /// The error of a question that found nobody after `began`: who has waited in line since then
    /// need not find that out again, each after the whole time limit.
    pub(super) fn away_since(&self, began: Instant) -> Option<SecretError> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.as_ref().filter(|(at, _)| *at >= began).map(|(_, error)| error.clone())
    }

    /// Makes the next question read the client certificate and the authorities anew.
    pub(super) fn reconnect(&self) {
        self.client.store(None);
    }

    /// Asks for `url`, with `token` where there is one; the whole answer, `Null` when empty.
    ///
    /// # Errors
    /// [`SecretError::Unreachable`] when there is no answer or none that Vault would give,
    /// [`SecretError::Refused`] with the server's own words.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        token: Option<&HeaderValue>,
        body: Option<&Value>,
    ) -> Result<Answer, SecretError> {
        let client = self.client().await?;
        let unreachable = |reason: String| SecretError::Unreachable { url: url.to_owned(), reason };
        let mut request = client.request(method, url);
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token.clone());
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let reason = self.link(&error);
                if reason.contains("certificate") {
                    // The authority or our own certificate may have been replaced in its file.
                    self.reconnect();
                }
                let error = unreachable(reason);
                *self.away.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        let status = response.status();
        let location = response.headers().get("location").cloned();
        let text = call::body(response, LONGEST_ANSWER_BYTES).await;
        let text = text.map_err(|error| match error {
            Unread::Failed(error) => unreachable(self.link(&error)),
            error @ Unread::TooLong(_) => unreachable(error.to_string()),
        })?;
        let body: Option<Answer> = serde_json::from_slice(&text).ok().map(Value::into);
        match body {
            _ if status.is_success() && text.is_empty() => return Ok(Answer::default()),
            Some(body) if status.is_success() => return Ok(body),
            None if status.is_success() => {
                let reason = format!(
                    "its answer ({status}) is no JSON: expected Vault at `uri` of this secret \
                     manager, not a page of something else"
                );
                return Err(unreachable(reason));
            }
            _ => {}
        }
        Err(SecretError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            reason: reason(status, &body.unwrap_or_default(), location.as_ref()),
        })
    }

    async fn client(&self) -> Result<Client, SecretError> {
        if let Some(client) = &*self.client.load() {
            return Ok(Client::clone(client));
        }
        let client = self.connect().await?;
        self.client.store(Some(client.clone().into()));
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, SecretError> {
        let unusable = |field: &str, error: &dyn std::fmt::Display| SecretError::Unusable {
            field: field.to_owned(),
            reason: error.to_string(),
        };
        let mut builder = Client::builder()
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(!self.is_verified);
        let (field, pem) = match &self.authorities {
            // Where nothing is verified, a file that is missing is in nobody's way.
            _ if !self.is_verified || !self.uri.starts_with("https:") => ("", None),
            Authorities::System => ("", None),
            Authorities::Given(pem) => ("ca", Some(pem.clone())),
            Authorities::File(path) => ("ca_file", Some(file(path).await?)),
        };
        if let Some(pem) = pem {
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| unusable(field, &self.link(&error)))?;
            if authorities.is_empty() {
                return Err(unusable(field, &"expected certificates, PEM"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let Some([certificate, key]) = &self.identity {
            let (certificate, key) = (certificate.fetch().await?, key.fetch().await?);
            let pem = [certificate.expose(), key.expose()].join("\n");
            let identity = reqwest::Identity::from_pem(pem.as_bytes())
                .map_err(|_| unusable("auth", &"expected a certificate and its key, PEM"))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| unusable("ca or auth", &self.link(&error)))
    }

    /// The failing link in plain words: the innermost cause, with a hint where one helps.
    fn link(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("timed out after {} s", self.timeout.as_secs_f64());
        }
        let text = call::innermost(error);
        let lower = text.to_lowercase();
        if lower.contains("not valid for name") {
            return format!(
                "{text} (`uri` of this secret manager must name the server as its certificate does)"
            );
        }
        if lower.contains("certificate expired") || lower.contains("not valid yet") {
            return format!("{text} (renew the server's certificate, or set this node's clock)");
        }
        if lower.contains("certificate") && !lower.contains("certificaterequired") {
            return format!("{text} (set `ca`, `ca_file` or `ssl_verify` of this secret manager)");
        }
        text
    }
}

/// Why the server refused, in its own words where it has any.
fn reason(status: StatusCode, body: &Value, location: Option<&HeaderValue>) -> String {
    let words = ["errors", "warnings"].map(|list| body[list].as_array());
    let words = words.into_iter().flatten().flatten();
    let words: Vec<_> = words.filter_map(Value::as_str).collect();
    let metadata = &body["data"]["metadata"];
    let (version, deleted) = (&metadata["version"], metadata["deletion_time"].as_str());
    match (words.as_slice(), status, deleted) {
        (words @ [_, ..], ..) => words.join("; "),
        _ if metadata["destroyed"] == true => format!("version {version} was destroyed"),
        (_, _, Some(deleted)) if !deleted.is_empty() => {
            format!("version {version} was deleted at {deleted}")
        }
        (_, StatusCode::NOT_FOUND, _) => "nothing stands there".to_owned(),
        (_, status, _) if status.is_redirection() => {
            let to = location.and_then(|to| to.to_str().ok()).unwrap_or("another address");
            format!(
                "it redirects to {to}; expected the active node at `uri` of this secret manager"
            )
        }
        _ => "it gives no reason".to_owned(),
    }
}
