//! Logging in: how each method gets a token.
//!
//! Source: Vault's API docs, `auth/{approle,kubernetes,jwt,cert}` and `system/wrapping-unwrap`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::utf8_percent_encode;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::mount::SEGMENT;
use super::server::Server;
use crate::resource::secret::{Auth, Vault as Written};
use crate::secret::{Secret, SecretError, plain};

/// Longer than any token lives that is looked after; the server's number may be any.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How a token is got.
pub(super) enum Login {
    /// It is given, and not ours to replace.
    Token(Text),
    /// It stands in a file that an agent keeps fresh.
    Agent(PathBuf),
    /// It comes for what is posted to `auth/{mount}/login`.
    Post { mount: String, credentials: Credentials },
}

/// What is posted.
pub(super) enum Credentials {
    AppRole {
        role_id: Text,
        secret_id: Option<Text>,
        unwrapped: Option<OnceCell<Secret>>,
    },
    /// Kubernetes, JWT, OIDC.
    Jwt {
        role: Option<String>,
        jwt: Text,
    },
    /// The certificate is in the handshake.
    Cert {
        role: Option<String>,
    },
}

/// A value of the login: written out or in a variable, or in a file that is read each time.
pub(super) enum Text {
    Given { field: &'static str, text: Secret },
    File(PathBuf),
}

/// What a login has brought.
pub(super) struct Granted {
    pub(super) token: HeaderValue,
    /// Until when, and for how long that is; `None` for one that does not expire, or of which
    /// that is not known.
    pub(super) life: Option<Life>,
}

/// How long a token lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) until: Instant,
    pub(super) ttl: Duration,
    pub(super) is_renewable: bool,
}

// === impl Login ===

impl Login {
    pub(super) fn new(written: &Written) -> Self {
        let post = |mount: &str, credentials| Self::Post {
            mount: mount.trim_matches('/').to_owned(),
            credentials,
        };
        let Some(auth) = &written.auth else {
            let token = written.token.as_ref().map(|token| token.expose());
            return Self::Token(Text::new("token", token, None));
        };
        match auth {
            Auth::Token(token) => {
                Self::Token(Text::new("auth/token", Some(token.token.expose()), None))
            }
            Auth::Agent(agent) => Self::Agent(agent.token_file.clone()),
            Auth::Approle(approle) => {
                let secret_id = approle.secret_id.as_ref().map(|secret_id| secret_id.expose());
                let file = approle.secret_id_file.as_deref();
                let is_given = secret_id.is_some() || file.is_some();
                post(
                    &approle.mount,
                    Credentials::AppRole {
                        role_id: Text::new("auth/role_id", Some(&approle.role_id), None),
                        secret_id: is_given.then(|| Text::new("auth/secret_id", secret_id, file)),
                        unwrapped: approle.wrapped.then(OnceCell::new),
                    },
                )
            }
            Auth::Kubernetes(kubernetes) => post(
                &kubernetes.mount,
                Credentials::Jwt {
                    role: Some(kubernetes.role.clone()),
                    jwt: Text::File(kubernetes.jwt_file.clone()),
                },
            ),
            Auth::Jwt(jwt) => post(
                &jwt.mount,
                Credentials::Jwt {
                    role: jwt.role.clone(),
                    jwt: Text::new(
                        "auth/jwt",
                        jwt.jwt.as_ref().map(|jwt| jwt.expose()),
                        jwt.jwt_file.as_deref(),
                    ),
                },
            ),
            Auth::Cert(cert) => post(&cert.mount, Credentials::Cert { role: cert.role.clone() }),
        }
    }

    /// Whether another token can be had when this one ends.
    pub(super) const fn is_repeatable(&self) -> bool {
        matches!(self, Self::Post { .. })
    }

    /// Gets a token.
    ///
    /// # Errors
    /// The server's, by the address of the login; what is wrong with the value, variable or file
    /// that the login needs.
    pub(super) async fn log_in(&self, server: &Server) -> Result<Granted, SecretError> {
        let (mount, credentials) = match self {
            Self::Token(text) => {
                return Ok(Granted { token: header(text.fetch().await?.expose())?, life: None });
            }
            Self::Agent(path) => {
                let text = file(path).await?;
                return Ok(Granted { token: header(text.trim())?, life: None });
            }
            Self::Post { mount, credentials } => (mount, credentials),
        };
        if let Credentials::Cert { .. } = credentials {
            server.reconnect();
        }
        let body = credentials.body(server).await?;
        let url = server.url(&format!("auth/{}/login", utf8_percent_encode(mount, SEGMENT)));
        let answer = server.ask(Method::POST, &url, None, Some(&body)).await?;
        let auth = &answer["auth"];
        let Some(token) = auth["client_token"].as_str() else {
            let reason = "its answer holds no token: expected `auth/client_token`".to_owned();
            return Err(SecretError::Unreachable { url, reason });
        };
        Ok(Granted { token: header(token)?, life: Life::of(auth, "lease_duration") })
    }
}

// === impl Credentials ===

impl Credentials {
    async fn body(&self, server: &Server) -> Result<Value, SecretError> {
        Ok(match self {
            Self::AppRole { role_id, secret_id, unwrapped } => {
                let mut body = json!({ "role_id": role_id.fetch().await?.expose() });
                if let Some(text) = secret_id {
                    let secret_id = match unwrapped {
                        None => text.fetch().await?,
                        Some(once) => once.get_or_try_init(|| unwrap(server, text)).await?.clone(),
                    };
                    body["secret_id"] = secret_id.expose().into();
                }
                body
            }
            Self::Jwt { role, jwt } => {
                let mut body = json!({ "jwt": jwt.fetch().await?.expose() });
                if let Some(role) = role {
                    body["role"] = role.as_str().into();
                }
                body
            }
            Self::Cert { role } => match role {
                Some(role) => json!({ "name": role }),
                None => json!({}),
            },
        })
    }
}

/// The secret id that the token in `text` wraps, which answers once.
async fn unwrap(server: &Server, text: &Text) -> Result<Secret, SecretError> {
    let wrapping = header(text.fetch().await?.expose())?;
    let url = server.url("sys/wrapping/unwrap");
    let answer = server.ask(Method::POST, &url, Some(&wrapping), None).await;
    match answer {
        Ok(answer) => match answer["data"]["secret_id"].as_str() {
            Some(secret_id) => Ok(Secret::new(secret_id)),
            None => {
                let reason = "what it unwraps is no secret_id".to_owned();
                Err(SecretError::Unreachable { url, reason })
            }
        },
        Err(SecretError::Refused { url, status, reason }) => {
            let reason = format!(
                "{reason} (a wrapped secret_id can be unwrapped once; if it was not this node, \
                 somebody else may know it)"
            );
            Err(SecretError::Refused { url, status, reason })
        }
        Err(error) => Err(error),
    }
}

// === impl Text ===

impl Text {
    /// `field` is named in errors; one of `text` and `path` is there, as the schema demands.
    pub(super) fn new(field: &'static str, text: Option<&str>, path: Option<&Path>) -> Self {
        match (text, path) {
            (None, Some(path)) => Self::File(path.to_owned()),
            (text, _) => Self::Given { field, text: Secret::new(text.unwrap_or_default()) },
        }
    }

    /// The value as of now, without the blanks and line ends around it.
    pub(super) async fn fetch(&self) -> Result<Secret, SecretError> {
        let (field, text) = match self {
            Self::File(path) => {
                return Ok(Secret::new(file(path).await?.trim()));
            }
            Self::Given { field, text } => (field, text),
        };
        Ok(Secret::new(plain(field, text.expose())?.expose().trim()))
    }
}

// === impl Life ===

impl Life {
    /// By `auth` of an answer or `data` of a look-up; `None` when it lives on until it is revoked.
    pub(super) fn of(answer: &Value, ttl: &str) -> Option<Self> {
        let ttl = Duration::from_secs(answer[ttl].as_u64()?).min(LONGEST_LIFE);
        let is_renewable = answer["renewable"] == true;
        // Only the server's clock counts: of ours just the time that passes, which no correction
        // of the wall clock changes. A machine that slept finds out by the first refusal.
        (!ttl.is_zero()).then(|| Self { until: Instant::now() + ttl, ttl, is_renewable })
    }
}

/// What `path` holds.
///
/// # Errors
/// It cannot be read, or is empty.
pub(super) async fn file(path: &Path) -> Result<String, SecretError> {
    let failed = |reason: String| SecretError::NoFile { path: path.display().to_string(), reason };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| failed(error.to_string()))?;
    if text.trim().is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    Ok(text)
}

fn header(token: &str) -> Result<HeaderValue, SecretError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| SecretError::Unusable {
        field: "token".to_owned(),
        reason: "expected visible ASCII characters, there are others".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
