//! Secret managers: where `$secret://` references are looked up.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#secret`, `docs/en/latest/terminology/secret.md`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::hidden::Hidden;

/// A Vault (or OpenBao) and where in it to look.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Vault {
    /// `vault/` and the id.
    pub id: Option<String>,
    /// Address of the server: `https://vault:8200`.
    #[schemars(regex(pattern = r"^[^/]+://([\da-zA-Z.\-]+|\[[\da-fA-F:]+\])(:\d+)?"))]
    pub uri: String,
    /// Mount and path that references stand under: `kv/apisix`.
    pub prefix: String,
    /// Token, or an `$env://` reference to one.
    pub token: Hidden,
    /// Namespace of Vault Enterprise, HCP or OpenBao.
    pub namespace: Option<String>,
    /// Seconds that one answer may take.
    #[serde(default = "timeout")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout: f64,
    /// Whether the server's certificate is verified.
    #[serde(default = "yes")]
    pub ssl_verify: bool,
    /// Certificate authorities that the server's certificate is verified by, PEM; those of the
    /// system when absent.
    pub ca: Option<String>,
    /// Version of the KV engine; told apart by itself when absent.
    #[schemars(range(min = 1, max = 2))]
    pub kv_version: Option<u8>,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
}

// === impl Vault ===

impl Vault {
    /// The managers that references may name.
    pub const MANAGER: &'static str = "vault";
}

const fn timeout() -> f64 {
    5.0
}

const fn yes() -> bool {
    true
}
