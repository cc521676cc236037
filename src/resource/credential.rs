//! Credentials: further ways by which a consumer is known, each a resource of its own.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#credential`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::Kind;
use super::fields::{self, Labels, Plugins};

/// One way by which a consumer is known.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Credential {
    /// Unique among the consumer's credentials; in files with the consumer's name before it:
    /// `jack/credentials/1`.
    #[serde(default)]
    #[schemars(schema_with = "id_schema")]
    pub id: Option<Value>,
    /// Name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
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
    /// One plugin that authenticates, by name.
    #[serde(default)]
    #[schemars(schema_with = "plugins_schema")]
    pub plugins: Plugins,
}

fn id_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "$comment": "1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', an integer of at least 1, or consumer/credentials/id",
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9\\-_.]+$"},
            {"type": "integer", "minimum": 1},
            {"type": "string", "minLength": 15, "maxLength": 128,
                "pattern": "^[a-zA-Z0-9\\-_]+/credentials/[a-zA-Z0-9\\-_.]+$"}
        ]
    })
}

fn plugins_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 1, "additionalProperties": {"type": "object"}
    })
}

/// The id in the store of the credential `id` of `consumer`: `jack/credentials/1`.
pub fn store_id(consumer: &str, id: &str) -> String {
    Kind::Credential.store_id(consumer, id)
}

/// Splits an id in the store into the consumer's name and the credential's own id.
pub fn split(store_id: &str) -> Option<(&str, &str)> {
    Kind::Credential.split(store_id)
}
