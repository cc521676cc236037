//! Google Cloud Secret Manager: the latest version of a secret, read as a service account.
//!
//! The account signs a claim by its key, gets a token for it (OAuth 2.0, JWT bearer), and reads
//! with that until shortly before it expires.
//!
//! Source: Google `Secret Manager API`, `projects.secrets.versions.access`; RFC 7523; APISIX
//! `secret/gcp.lua`, `utils/google-cloud-oauth.lua`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::{Zeroize, Zeroizing};

use super::{Fields, Manager, Secret, SecretError, plain, web};
use crate::clock;
use crate::resource::secret::{Gcp as Written, GcpAccount};

/// For how long a claim is good; Google takes no longer ones.
const CLAIM_SECONDS: i64 = 3600;

/// A token that says that it lasts longer is not believed.
const LONGEST_TOKEN_S: u64 = 24 * 60 * 60;

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(60);

/// What a segment of a path may hold as it is.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// A project's Secret Manager, ready to be asked.
pub(super) struct Gcp {
    client: Result<Client, String>,
    source: Source,
    token: Mutex<Option<Token>>,
}

/// Where the account is written.
enum Source {
    Here(Box<GcpAccount>),
    /// Read again for each token: keys are changed by putting another file there.
    File(String),
}

/// What a token is good for, and how long.
#[derive(Clone)]
struct Token {
    /// `Bearer …`, marked as sensitive.
    authorization: HeaderValue,
    good_until: Instant,
    /// `{entries_uri}/projects/{project_id}/secrets`.
    secrets: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Accessed {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: String,
}

// === impl Gcp ===

impl Gcp {
    pub(super) fn new(written: &Written) -> Self {
        let source = match (&written.auth_config, &written.auth_file) {
            (Some(account), _) => Source::Here(Box::new(account.clone())),
            (None, file) => Source::File(file.clone().unwrap_or_default()),
        };
        Self { client: web::client(written.ssl_verify), source, token: Mutex::default() }
    }

    fn client(&self) -> Result<&Client, SecretError> {
        let failed = |reason: &String| SecretError::Unreachable {
            url: "secretmanager".to_owned(),
            reason: reason.clone(),
        };
        self.client.as_ref().map_err(failed)
    }

    /// A token that is good; with `but`, another than that one.
    async fn token(&self, but: Option<&Token>) -> Result<Token, SecretError> {
        // Held while it is got: reads of other secrets wait for the same token.
        let mut known = self.token.lock().await;
        let refused =
            |token: &Token| but.is_some_and(|but| but.authorization == token.authorization);
        if let Some(token) =
            known.as_ref().filter(|token| Instant::now() < token.good_until && !refused(token))
        {
            return Ok(token.clone());
        }
        *known = None;
        let account = self.source.account().await?;
        let token = self.grant(&account).await?;
        Ok(known.insert(token).clone())
    }

    /// Gets a token for a claim of `account`.
    async fn grant(&self, account: &GcpAccount) -> Result<Token, SecretError> {
        let url = &account.token_uri;
        let refused = |reason: &str| SecretError::Refused {
            url: url.clone(),
            status: StatusCode::OK.as_u16(),
            reason: reason.to_owned(),
        };
        let assertion = claim(account, clock::unix())?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &assertion)
            .finish();
        let request = self
            .client()?
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let (status, headers, body) = web::send(url, request).await?;
        if status != StatusCode::OK {
            return Err(refusal(url, status, &headers, &body, &[&assertion]));
        }
        let granted: Granted = serde_json::from_slice(&body)
            .map_err(|_| refused("expected access_token and expires_in in the answer"))?;
        let access_token = Zeroizing::new(granted.access_token);
        let kind = granted.token_type.as_deref().unwrap_or("Bearer");
        let mut authorization = HeaderValue::from_str(&format!("{kind} {}", *access_token))
            .map_err(|_| refused("expected a token of visible ASCII characters"))?;
        authorization.set_sensitive(true);
        let lasts = Duration::from_secs(granted.expires_in.unwrap_or(3600).min(LONGEST_TOKEN_S));
        let (uri, project) = (account.entries_uri.trim_end_matches('/'), &account.project_id);
        Ok(Token {
            authorization,
            good_until: Instant::now() + lasts.saturating_sub(MARGIN),
            secrets: format!("{uri}/projects/{}/secrets", utf8_percent_encode(project, SEGMENT)),
        })
    }
}

#[async_trait]
impl Manager for Gcp {
    /// Reads the latest version of the secret `path`.
    ///
    /// # Errors
    /// [`SecretError::Unreachable`] when there was no answer, [`SecretError::Refused`] with
    /// Google's status and words, [`SecretError::Account`] when the account is not one.
    async fn read(&self, path: &str) -> Result<Fields, SecretError> {
        let client = self.client()?;
        let mut token = self.token(None).await?;
        let name = utf8_percent_encode(path, SEGMENT).to_string();
        let mut is_second = false;
        loop {
            let url = format!("{}/{name}/versions/latest:access", token.secrets);
            let request = client.get(&url).header("authorization", token.authorization.clone());
            let (status, headers, body) = web::send(&url, request).await?;
            match status {
                StatusCode::OK => return fields(&url, path, &body),
                // It was withdrawn before its time.
                StatusCode::UNAUTHORIZED if !is_second => {
                    is_second = true;
                    token = self.token(Some(&token)).await?;
                }
                _ => {
                    let shown = token.authorization.to_str().unwrap_or_default();
                    let secret = shown.rsplit(' ').next().unwrap_or_default();
                    return Err(refusal(&url, status, &headers, &body, &[secret]));
                }
            }
        }
    }
}

// === impl Source ===

impl Source {
    async fn account(&self) -> Result<GcpAccount, SecretError> {
        let path = match self {
            Self::Here(account) => return Ok((**account).clone()),
            Self::File(path) => path,
        };
        let wrong = |reason: String| SecretError::Account(format!("auth_file {path}: {reason}"));
        let text = tokio::fs::read(path).await.map_err(|error| wrong(error.to_string()))?;
        let text = Zeroizing::new(text);
        let mut value: Value = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("expected JSON ({:?} error)", error.classify())))?;
        // Files in the wild have one scope as a text.
        if let Some(scope) = value.get_mut("scope").filter(|scope| scope.is_string()) {
            *scope = json!([scope.take()]);
        }
        let account = GcpAccount::deserialize(&value).map_err(|_| {
            wrong("expected client_email, private_key and project_id, each a text".to_owned())
        });
        web::scrub(&mut value);
        account
    }
}

/// A signed claim to be `account`, as of `now`.
fn claim(account: &GcpAccount, now: i64) -> Result<String, SecretError> {
    let wrong = |reason: &str| SecretError::Account(format!("private_key: {reason}"));
    let written = plain("auth_config/private_key", account.private_key.expose())?;
    let key = PrivateKeyDer::from_pem_slice(written.expose().as_bytes())
        .map_err(|_| wrong("expected a PEM private key"))?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(wrong("expected an RSA key")),
    };
    let pair = pair.map_err(|_| wrong("expected an RSA key of 2048 bits or more"));
    if let PrivateKeyDer::Pkcs8(mut der) = key {
        der.zeroize();
    }
    let pair = pair?;
    let claims = json!({
        "iss": account.client_email,
        "aud": account.token_uri,
        "scope": account.scope.join(" "),
        "iat": now,
        "exp": now + CLAIM_SECONDS,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| wrong("it cannot sign"))?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The text of a version and, where it is a JSON object, its fields.
fn fields(url: &str, name: &str, body: &[u8]) -> Result<Fields, SecretError> {
    // The reader's own words would show what stands there.
    let refused = |expected: &str| SecretError::Refused {
        url: url.to_owned(),
        status: StatusCode::OK.as_u16(),
        reason: format!("the answer for {name}: expected {expected}"),
    };
    let accessed: Accessed = serde_json::from_slice(body).map_err(|_| refused("payload.data"))?;
    let data = Zeroizing::new(accessed.payload.data);
    let bytes = STANDARD.decode(data.as_bytes()).map_err(|_| refused("base64 in payload.data"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        refused("text, and there are other bytes")
    })?;
    let mut object: Value = serde_json::from_str(&text).unwrap_or_default();
    let names = object.as_object().into_iter().flat_map(serde_json::Map::keys);
    let named = names.filter_map(|name| Some((name.clone(), web::field(&object, name)?)));
    let named = named.collect();
    web::scrub(&mut object);
    Ok(Fields { whole: Some(Secret::new(text)), named })
}

/// What Google says of an error: `{error: {status, message}}` of its APIs, `{error,
/// error_description}` of OAuth.
fn refusal(
    url: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    confidential: &[&str],
) -> SecretError {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &said["error"];
    let code = error["status"].as_str().or(error.as_str()).unwrap_or("it gives no reason");
    let message = error["message"].as_str().or(said["error_description"].as_str());
    let mut reason = code.to_owned();
    if let Some(message) = message {
        reason = format!("{reason}: {}", web::words(message, confidential));
    }
    // A claim from the future, or too old, is `invalid_grant`.
    if code == "invalid_grant"
        && let Some(skew) = web::skew(headers)
    {
        reason = format!("{reason} ({skew})");
    }
    SecretError::Refused { url: url.to_owned(), status: status.as_u16(), reason }
}
