//! Fields that several kinds of resource have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::Id;

/// Plugins by name, their configs as written: this room knows no plugin.
pub type Plugins = BTreeMap<String, Value>;

/// Key and value pairs that describe a resource.
pub type Labels = BTreeMap<String, String>;

/// Pattern of hosts and server names: exact, `*.` wildcard, or `*`.
pub(crate) const HOST: &str = r"^\*$|^\*?[0-9a-zA-Z\-._\[\]:]+$";

/// Limits of one try to reach the upstream, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub struct Timeout {
    /// To a connection.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub connect: f64,
    /// Between two successful writes.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub send: f64,
    /// Between two successful reads.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub read: f64,
}

/// Whether a resource is served: 1 is on, 0 is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Status(pub u8);

// === impl Id ===

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "$comment": "1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', or an integer of at least 1",
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9\\-_.]+$"},
                {"type": "integer", "minimum": 1}
            ]
        })
    }
}

// === impl Status ===

impl Status {
    /// Whether the resource is on.
    pub fn is_on(self) -> bool {
        self.0 == 1
    }
}

impl Default for Status {
    fn default() -> Self {
        Self(1)
    }
}

impl JsonSchema for Status {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "enum": [1, 0], "default": 1})
    }
}

/// Schema of `plugins`: an object of objects.
pub(crate) fn plugins_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": "object"}})
}

/// Schema of `labels`.
pub(crate) fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": "^\\S+$", "minLength": 1, "maxLength": 256}
    })
}

/// Methods of HTTP that routes and health checks know.
const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];

/// Schema of a method.
pub(crate) fn method_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": METHODS})
}

/// Schema of a host that may be a wildcard.
pub(crate) fn host_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": HOST})
}

/// Schema of a list of hosts.
pub(crate) fn hosts_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "minItems": 1, "uniqueItems": true,
        "items": {"type": "string", "pattern": HOST}
    })
}
