//! ssl objects: certificates and the server names they are for.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#ssl`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::fields::{self, Labels, Status};
use super::hidden::Hidden;
use super::keyring::Keyring;
use super::{Id, Invalid, Said};

/// Certificates for server names, or for being a client.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "allOf" = [
        {"description": "cert and key", "required": ["cert", "key"]},
        {"if": {"properties": {"type": {"enum": ["server"]}}},
         "then": {"description": "exactly one of sni and snis",
                  "oneOf": [{"required": ["sni"]}, {"required": ["snis"]}]}}
    ]
))]
pub struct Ssl {
    /// Unique among ssl objects.
    pub id: Option<Id>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// Key and value pairs.
    #[serde(default)]
    #[schemars(schema_with = "fields::labels_schema")]
    pub labels: Labels,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
    /// `server`, or `client` for a certificate shown to upstreams.
    #[serde(rename = "type", default = "server")]
    #[schemars(schema_with = "type_schema")]
    pub type_: String,
    /// Certificate chain, PEM, or a `$secret://` or `$env://` reference.
    #[serde(default)]
    #[schemars(schema_with = "cert_schema")]
    pub cert: Option<String>,
    /// Its private key, PEM, or a reference.
    #[serde(default)]
    #[schemars(schema_with = "key_schema")]
    pub key: Option<Hidden>,
    /// Server name, exact or `*.` wildcard.
    #[serde(default)]
    #[schemars(schema_with = "fields::host_schema")]
    pub sni: Option<String>,
    /// Server names.
    #[serde(default)]
    #[schemars(schema_with = "snis_schema")]
    pub snis: Vec<String>,
    /// Further chains, for clients with other abilities.
    #[serde(default)]
    #[schemars(schema_with = "certs_schema")]
    pub certs: Vec<String>,
    /// Their private keys, in the same order.
    #[serde(default)]
    #[schemars(schema_with = "keys_schema")]
    pub keys: Vec<Hidden>,
    /// Set to ask clients for certificates.
    pub client: Option<Client>,
    /// Whether it is served.
    #[serde(default)]
    pub status: Status,
    /// TLS versions offered; those of config.yaml when absent.
    #[serde(default)]
    #[schemars(schema_with = "protocols_schema")]
    pub ssl_protocols: Vec<String>,
    /// How the state of the certificates is stapled to them; only with the plugin `ocsp-stapling`.
    pub ocsp_stapling: Option<OcspStapling>,
}

/// How OCSP answers are stapled to the certificates of an ssl object.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct OcspStapling {
    /// Whether they are.
    #[serde(default)]
    pub enabled: bool,
    /// Whether answers are stapled unchecked, whatever they say.
    #[serde(default)]
    pub skip_verify: bool,
    /// The longest time between two questions to the responder, in seconds.
    #[serde(default = "cache_ttl")]
    #[schemars(range(min = 60))]
    pub cache_ttl: u64,
}

/// What client certificates are verified by.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Client {
    /// Certificate authorities, PEM, or a reference.
    #[schemars(schema_with = "cert_schema")]
    pub ca: String,
    /// Longest chain.
    #[serde(default = "depth")]
    pub depth: u32,
    /// Paths that need no client certificate.
    #[serde(default)]
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub skip_mtls_uri_regex: Vec<String>,
}

fn server() -> String {
    "server".to_owned()
}

const fn depth() -> u32 {
    1
}

const fn cache_ttl() -> u64 {
    3600
}

/// How references are told from text that is too short to be PEM.
const REFERENCE: &str = r"^\$(secret|SECRET|env|ENV)://";

fn type_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "server", "enum": ["server", "client"]})
}

fn pem(min: u32) -> Value {
    serde_json::json!({
        "type": "string", "maxLength": 65536,
        "$comment": format!("a PEM text of at least {min} characters, or a reference"),
        "anyOf": [{"minLength": min}, {"pattern": REFERENCE}]
    })
}

fn cert_schema(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(pem(128)).unwrap_or_default()
}

fn key_schema(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(pem(64)).unwrap_or_default()
}

fn certs_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": pem(128)})
}

fn keys_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": pem(64)})
}

fn snis_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "items": {"type": "string", "pattern": fields::HOST}})
}

fn protocols_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 3, "uniqueItems": true,
        "items": {"enum": ["TLSv1.1", "TLSv1.2", "TLSv1.3"]}})
}

// === impl Ssl ===

impl Ssl {
    /// Every server name, in the order written.
    pub fn all_snis(&self) -> impl Iterator<Item = &String> {
        self.sni.iter().chain(&self.snis)
    }

    /// Certificate and key, pair by pair.
    ///
    /// # Errors
    /// `certs` and `keys` are not of one length.
    pub fn pairs(&self) -> Result<Vec<(&str, &Hidden)>, Invalid> {
        if self.certs.len() != self.keys.len() {
            return Err(Invalid::new(
                "/keys",
                format!("{} certs and {} keys", self.certs.len(), self.keys.len()),
                "as many keys as certs",
            ));
        }
        let first = self.cert.iter().zip(&self.key);
        let more = self.certs.iter().zip(&self.keys);
        Ok(first.chain(more).map(|(cert, key)| (cert.as_str(), key)).collect())
    }
}

/// Adds to what is wrong with server names in other letters how clients send them.
pub(super) fn spelled(mut wrong: Vec<Invalid>, value: &Value) -> Vec<Invalid> {
    for invalid in wrong.iter_mut().filter(|invalid| invalid.path.starts_with("/sni")) {
        let name = value.pointer(&invalid.path).and_then(Value::as_str);
        let Some(name) = name.filter(|name| !name.is_ascii()) else {
            continue;
        };
        let Ok(ascii) = idna::domain_to_ascii(name) else {
            continue;
        };
        let more = format!("; expected it as clients send it: {ascii}");
        match &mut invalid.said {
            Said::Rule(rule) => rule.push_str(&more),
            _ => invalid.expected.push_str(&more),
        }
    }
    wrong
}

/// Encrypts the private keys of an ssl object as stored; references and what is encrypted
/// already stay as they are.
///
/// Source: APISIX `ssl.aes_encrypt_pkey`.
pub fn seal(value: &mut Value, keyring: &Keyring) {
    each_key(value, |key| key.starts_with("---").then(|| keyring.encrypt(key)));
}

/// Decrypts the private keys of an ssl object as stored.
pub fn open(value: &mut Value, keyring: &Keyring) {
    each_key(value, |key| {
        let in_clear = key.starts_with("---") || key.starts_with('$');
        if in_clear { None } else { keyring.decrypt(key) }
    });
}

/// Whether a private key of an ssl object is neither in clear nor a reference.
pub fn is_sealed(value: &Value) -> bool {
    let more = value.get("keys").and_then(Value::as_array);
    let mut keys = value.get("key").into_iter().chain(more.into_iter().flatten());
    keys.any(|key| key.as_str().is_some_and(|key| !key.starts_with("---") && !key.starts_with('$')))
}

fn each_key(value: &mut Value, change: impl Fn(&str) -> Option<String>) {
    let apply = |slot: &mut Value| {
        if let Some(changed) = slot.as_str().and_then(&change) {
            *slot = Value::String(changed);
        }
    };
    if let Some(key) = value.get_mut("key") {
        apply(key);
    }
    if let Some(keys) = value.get_mut("keys").and_then(Value::as_array_mut) {
        keys.iter_mut().for_each(apply);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::resource::{Kind, validate};

    #[test]
    fn says_how_a_name_in_other_letters_is_sent() {
        let pem = "x".repeat(128);
        for (names, path, sent) in [
            (json!({ "sni": "bücher.example" }), "/sni", "xn--bcher-kva.example"),
            (json!({ "snis": ["a.com", "*.例え.jp"] }), "/snis/1", "*.xn--r8jz45g.jp"),
        ] {
            let mut value = names;
            value["cert"] = json!(pem);
            value["key"] = json!(pem);
            let wrong = validate(Kind::Ssl, "1", &value).unwrap_err();
            let wrong = wrong.iter().find(|wrong| wrong.path == path).unwrap().to_string();
            assert!(wrong.ends_with(sent), "{wrong}");
        }
    }
}
