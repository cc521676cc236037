//! Secret managers: where `$secret://` references are looked up.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#secret`, `docs/en/latest/terminology/secret.md`.

mod login;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::hidden::Hidden;
use super::schema::Validator;
use super::{Invalid, typed};

pub use self::login::{Agent, AppRole, Auth, Cert, Jwt, Kubernetes, Token};

/// A secret manager, by the first part of its id.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret {
    Vault(Vault),
    Aws(Aws),
    Gcp(Gcp),
    Acme(Acme),
}

/// A Vault (or OpenBao) and where in it to look.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(extend(
    "if" = {"required": ["auth"]},
    "then" = {"$comment": "only one of token and auth", "not": {"required": ["token"]}},
    "else" = {"required": ["token"]},
    "allOf" = [{"$comment": "only one of ca and ca_file", "not": {"required": ["ca", "ca_file"]}}]))]
pub struct Vault {
    /// `vault/` and the id.
    pub id: Option<String>,
    /// Address of the server: `https://vault:8200`.
    #[schemars(regex(pattern = r"^[^/]+://([\da-zA-Z.\-]+|\[[\da-fA-F:]+\])(:\d+)?"))]
    pub uri: String,
    /// Mount and path that references stand under: `kv/apisix`.
    pub prefix: String,
    /// Token, or an `$env://` reference to one; required unless there is `auth`.
    pub token: Option<Hidden>,
    /// How to log in, where it is not by `token`.
    pub auth: Option<Auth>,
    /// Namespace of Vault Enterprise, HCP or OpenBao.
    pub namespace: Option<String>,
    /// Seconds that one answer may take.
    #[serde(default = "timeout")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout: f64,
    /// Whether the server's certificate is verified.
    #[serde(default = "yes")]
    pub ssl_verify: bool,
    /// Certificate authorities that the server's certificate is verified by, PEM; those of
    /// `apisix.ssl.ssl_trusted_certificate`, or of the system, when absent.
    pub ca: Option<String>,
    /// File that holds them.
    pub ca_file: Option<PathBuf>,
    /// Version of the KV engine; told apart by itself when absent.
    #[schemars(range(min = 1, max = 2))]
    pub kv_version: Option<u8>,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
}

/// AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Aws {
    /// `aws/` and the id.
    pub id: Option<String>,
    /// Id of the access key, or an `$env://` reference to it.
    pub access_key_id: String,
    /// The access key, or an `$env://` reference to it.
    pub secret_access_key: Hidden,
    /// Token of a temporary session, or an `$env://` reference to it.
    pub session_token: Option<Hidden>,
    /// Region of the secrets.
    #[serde(default = "region")]
    pub region: String,
    /// Address of the service, where it is not AWS's own; what stands behind the port is ignored.
    #[schemars(regex(pattern = r"^[^/]+://([\da-zA-Z.\-]+|\[[\da-fA-F:]+\])(:\d+)?"))]
    pub endpoint_url: Option<String>,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
}

/// Google Cloud Secret Manager.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(extend("allOf" = [{"$comment": "exactly one of auth_config and auth_file", "oneOf": [
    {"required": ["auth_config"]}, {"required": ["auth_file"]}]}]))]
pub struct Gcp {
    /// `gcp/` and the id.
    pub id: Option<String>,
    /// The service account, in place.
    pub auth_config: Option<GcpAccount>,
    /// File that holds the service account, as Google hands it out; read again for each token.
    pub auth_file: Option<String>,
    /// Whether the server's certificate is verified.
    #[serde(default = "yes")]
    pub ssl_verify: bool,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
}

/// A service account of Google Cloud.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct GcpAccount {
    /// Its address.
    pub client_email: String,
    /// Its key, PEM, or an `$env://` reference to it.
    pub private_key: Hidden,
    /// The project that holds the secrets.
    pub project_id: String,
    /// Where tokens are got.
    #[serde(default = "token_uri")]
    pub token_uri: String,
    /// What tokens are asked for.
    #[serde(default = "scope")]
    pub scope: Vec<String>,
    /// Address of the service.
    #[serde(default = "entries_uri")]
    pub entries_uri: String,
}

/// An ACME server (RFC 8555), from which ssl objects get certificates by `$secret://acme/{id}`.
/// Sluice's own: APISIX has no such kind.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Acme {
    /// `acme/` and the id.
    pub id: Option<String>,
    /// Address of the server's directory: `https://acme-v02.api.letsencrypt.org/directory`.
    #[schemars(regex(pattern = r"^https://[^/]+"))]
    pub directory: String,
    /// Where the server may write to about certificates: `ops@example.com`.
    pub email: Option<String>,
    /// More addresses, each a URL: `mailto:ops@example.com`.
    #[serde(default)]
    pub contact: Vec<String>,
    /// Whether you agree to the server's terms of service; most servers ask for it.
    #[serde(default)]
    pub terms_agreed: bool,
    /// The account that you have with the server by other means, where it asks for one.
    pub eab: Option<Eab>,
    /// How names are proved: `http-01`, by an answer on port 80 of every name, or `tls-alpn-01`, by
    /// a handshake on port 443.
    #[serde(default)]
    pub challenge: Challenge,
    /// Certificate authorities that the server's certificate is verified by, PEM; those of the
    /// system when absent.
    pub ca: Option<String>,
    /// Kind of the private keys of certificates.
    #[serde(default)]
    pub key_type: KeyType,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
}

/// An external account binding (RFC 8555, section 7.3.4).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Eab {
    /// Id of the key.
    pub kid: String,
    /// The key, base64url, or an `$env://` reference to it.
    pub hmac_key: Hidden,
}

/// How a name is proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Challenge {
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// Kinds of private keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum KeyType {
    #[default]
    Ec256,
    Ec384,
    Rsa2048,
}

// === impl Challenge ===

impl Challenge {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

// === impl Acme ===

impl Acme {
    /// Every address that the server may write to, as URLs.
    pub fn all_contacts(&self) -> Vec<String> {
        let email = self.email.iter().map(|email| format!("mailto:{email}"));
        email.chain(self.contact.iter().cloned()).collect()
    }
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

fn scope() -> Vec<String> {
    vec!["https://www.googleapis.com/auth/cloud-platform".to_owned()]
}

fn entries_uri() -> String {
    "https://secretmanager.googleapis.com/v1".to_owned()
}

/// The manager that the id names: `vault` of `vault/1`.
fn manager(id: &str) -> &str {
    id.split('/').next().unwrap_or_default()
}

/// Checks `value` by the schema of the manager that `id` names.
///
/// # Errors
/// Everything that is wrong with it, or that there is no such manager.
pub(super) fn validate(id: &str, value: &Value) -> Result<(), Vec<Invalid>> {
    static VALIDATORS: [(&str, Validator); 4] = [
        ("vault", Validator::of::<Vault>()),
        ("aws", Validator::of::<Aws>()),
        ("gcp", Validator::of::<Gcp>()),
        ("acme", Validator::of::<Acme>()),
    ];
    let named = VALIDATORS.iter().find(|(name, _)| *name == manager(id));
    let (_, validator) = named.ok_or_else(|| vec![unknown(id)])?;
    validator.check(value)?;
    // Addresses stand in messages.
    let with_user = ["uri", "endpoint_url", "directory"].into_iter().filter(|field| {
        let address = value.get(field).and_then(Value::as_str).unwrap_or_default();
        let authority = address.split_once("://").map_or("", |(_, rest)| rest);
        authority.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    });
    let wrong: Vec<_> = with_user
        .map(|field| {
            let expected = "one without user and password: it stands in messages";
            Invalid::new(format!("/{field}"), "an address with a user (not shown)", expected)
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Reads what [`validate`] has admitted.
pub(super) fn read(id: &str, value: Value) -> Result<Secret, Vec<Invalid>> {
    match manager(id) {
        "vault" => typed(value).map(Secret::Vault),
        "aws" => typed(value).map(Secret::Aws),
        "gcp" => typed(value).map(Secret::Gcp),
        "acme" => typed(value).map(Secret::Acme),
        _ => Err(vec![unknown(id)]),
    }
}

fn unknown(id: &str) -> Invalid {
    Invalid::new(
        "/id",
        format!("invalid secret manager: {}", manager(id)),
        "vault, aws, gcp or acme",
    )
}

const fn timeout() -> f64 {
    5.0
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_holds_no_password() {
        let vault = |uri: &str| json!({ "uri": uri, "prefix": "kv", "token": "t" });
        assert!(validate("vault/1", &vault("https://vault:8200/a@b")).is_ok());
        let wrong = validate("vault/1", &vault("https://jo:planted@vault:8200")).unwrap_err();
        let said = wrong[0].to_string();
        assert!(said.contains("uri") && !said.contains("planted"), "{said}");
    }
}
