//! AWS Secrets Manager: `GetSecretValue`, signed.
//!
//! A reference is the name of a secret, optionally followed by a field of the JSON object that it
//! holds. Names may have slashes, so the longest name is asked for first, and whatever is not found
//! gives its last part to the field.
//!
//! Source: AWS `Secrets Manager API Reference`, `GetSecretValue`; APISIX `secret/aws.lua`.

mod sigv4;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fields, Manager, Secret, SecretError, plain, web};
use crate::clock;
use crate::resource::secret::Aws as Written;

/// What errors say that pass by themselves, though their status is 400.
const BUSY: [&str; 4] =
    ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"];

/// What errors say where a signature is too old, or too young.
const MISTIMED: [&str; 4] =
    ["InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired", "ExpiredToken"];

const NOT_FOUND: &str = "ResourceNotFoundException";

/// A region's Secrets Manager, ready to be asked.
pub(super) struct Aws {
    client: Result<Client, String>,
    /// `https://secretsmanager.us-east-1.amazonaws.com/`.
    url: Result<Url, String>,
    region: String,
    credentials: Result<Credentials, SecretError>,
}

struct Credentials {
    key_id: Secret,
    key: Secret,
    token: Option<Secret>,
}

/// The parts of an answer that we read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    secret_string: Option<String>,
}

/// What AWS says of an error.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

// === impl Aws ===

impl Aws {
    pub(super) fn new(written: &Written) -> Self {
        Self {
            client: web::client(true),
            url: endpoint(written),
            region: written.region.clone(),
            credentials: Credentials::of(written),
        }
    }

    /// The text of the secret `name`; `None` where there is no such secret.
    async fn text(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let failed = |reason: &String| SecretError::Unreachable {
            url: format!("secretsmanager.{}", self.region),
            reason: reason.clone(),
        };
        let url = self.url.as_ref().map_err(failed)?;
        let client = self.client.as_ref().map_err(failed)?;
        let credentials = self.credentials.as_ref().map_err(SecretError::clone)?;
        let body = json!({ "SecretId": name, "VersionStage": "AWSCURRENT" }).to_string();
        let headers = credentials.signed(url, &self.region, &body).map_err(|()| {
            failed(&"expected credentials and region of visible ASCII characters".to_owned())
        })?;
        let request = client.post(url.clone()).headers(headers).body(body);
        let (status, headers, body) = web::send(url.as_str(), request).await?;
        match status {
            StatusCode::OK => read(url, name, &body).map(Some),
            _ => credentials.refusal(url, name, status, &headers, &body),
        }
    }
}

#[async_trait]
impl Manager for Aws {
    /// Reads the secret that `path` begins with, and the field that the rest of it names.
    ///
    /// # Errors
    /// [`SecretError::Unreachable`] when there was no answer, [`SecretError::Refused`] with AWS's
    /// code and words, [`SecretError::Busy`] where it was asked too often,
    /// [`SecretError::NoVariable`] when credentials are in a variable that is not set.
    async fn read(&self, path: &str) -> Result<Fields, SecretError> {
        let mut name = path;
        loop {
            if let Some(text) = self.text(name).await? {
                let whole = match path[name.len()..].strip_prefix('/') {
                    None => text,
                    Some(field) => field_of(&text, name, field)?,
                };
                return Ok(Fields { whole: Some(whole), ..Fields::default() });
            }
            let Some((shorter, _)) = name.rsplit_once('/').filter(|(name, _)| !name.is_empty())
            else {
                break;
            };
            name = shorter;
        }
        let looked_for =
            if path.contains('/') { ", nor is any beginning of that name" } else { "" };
        Err(SecretError::Refused {
            url: self.url.as_ref().map(Url::to_string).unwrap_or_default(),
            status: StatusCode::BAD_REQUEST.as_u16(),
            reason: format!("{NOT_FOUND}: there is no secret {path}{looked_for}"),
        })
    }
}

// === impl Credentials ===

impl Credentials {
    fn of(written: &Written) -> Result<Self, SecretError> {
        let token = written.session_token.as_ref();
        Ok(Self {
            key_id: plain("access_key_id", &written.access_key_id)?,
            key: plain("secret_access_key", written.secret_access_key.expose())?,
            token: token.map(|token| plain("session_token", token.expose())).transpose()?,
        })
    }

    /// The headers of a request, its signature with them; nothing where they cannot be headers.
    fn signed(&self, url: &Url, region: &str, body: &str) -> Result<HeaderMap, ()> {
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, None) => host.to_owned(),
            (host, Some(port)) => format!("{host}:{port}"),
        };
        let time = sigv4::time(clock::unix());
        let mut signed = vec![
            ("content-type", "application/x-amz-json-1.1"),
            ("host", &host),
            ("x-amz-date", &time),
        ];
        if let Some(token) = &self.token {
            signed.push(("x-amz-security-token", token.expose()));
        }
        signed.push(("x-amz-target", "secretsmanager.GetSecretValue"));
        let scope = sigv4::Scope { region, service: "secretsmanager", time: &time };
        let key = (self.key_id.expose(), self.key.expose());
        let authorization = sigv4::authorization("POST", &signed, body.as_bytes(), &scope, key);
        let mut headers = HeaderMap::new();
        for (name, value) in signed.into_iter().chain([("authorization", &*authorization)]) {
            let mut value = HeaderValue::from_str(value).map_err(drop)?;
            value.set_sensitive(matches!(name, "authorization" | "x-amz-security-token"));
            let name = name.parse::<reqwest::header::HeaderName>().map_err(drop)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// What an answer other than 200 means: an error, or that there is no such secret.
    fn refusal(
        &self,
        url: &Url,
        name: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Secret>, SecretError> {
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        let code = said.code.rsplit('#').next().unwrap_or_default();
        if code == NOT_FOUND {
            return Ok(None);
        }
        let token = self.token.as_ref().map_or("", Secret::expose);
        let message = web::words(&said.message, &[token, self.key.expose()]);
        let skew = web::skew(headers).filter(|_| MISTIMED.contains(&code));
        let parts = [
            if code.is_empty() { "it gives no reason".to_owned() } else { code.to_owned() },
            message,
            skew.unwrap_or_default(),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let reason = format!("{} (secret {name})", parts.join(": "));
        let url = url.to_string();
        if BUSY.contains(&code) {
            return Err(SecretError::Busy { url, reason });
        }
        Err(SecretError::Refused { url, status: status.as_u16(), reason })
    }
}

/// Where requests go: host and port of `endpoint_url`, as in APISIX, or AWS's own for the region.
fn endpoint(written: &Written) -> Result<Url, String> {
    let own = || format!("https://secretsmanager.{}.amazonaws.com", written.region);
    let text = written.endpoint_url.clone().unwrap_or_else(own);
    let mut url = Url::parse(&text).map_err(|error| format!("endpoint_url {text}: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("endpoint_url {text}: expected an http or https URL"));
    }
    url.set_path("/");
    url.set_query(None);
    Ok(url)
}

/// The text in an answer.
fn read(url: &Url, name: &str, body: &[u8]) -> Result<Secret, SecretError> {
    let refused = |reason: String| SecretError::Refused {
        url: url.to_string(),
        status: StatusCode::OK.as_u16(),
        reason,
    };
    // Its own words would show what stands there.
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| refused(format!("the answer for {name} is no JSON that can be read")))?;
    answer.secret_string.map(Secret::new).ok_or_else(|| {
        refused(format!("{name} holds bytes (SecretBinary); expected text (SecretString)"))
    })
}

fn field_of(text: &Secret, name: &str, field: &str) -> Result<Secret, SecretError> {
    let place = || format!("the secret {name} in AWS");
    let mut object: Value = serde_json::from_str(text.expose())
        .map_err(|_| SecretError::NoFields { place: place(), field: field.to_owned() })?;
    let found = web::field(&object, field);
    web::scrub(&mut object);
    found.ok_or_else(|| SecretError::NoField { place: place(), field: field.to_owned() })
}
