//! Stream routes: which TCP and UDP connections go where. Stored and checked; not served yet.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#stream-route`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Id;
use super::fields::{self, Labels, Plugins};
use super::upstream::Upstream;

/// Connections that match are sent to an upstream.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StreamRoute {
    /// Unique among stream routes.
    pub id: Option<Id>,
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
    /// Client address that matches: IP or CIDR.
    pub remote_addr: Option<String>,
    /// Address that the connection was made to: IP or CIDR.
    pub server_addr: Option<String>,
    /// Port that the connection was made to.
    #[schemars(range(min = 1, max = 65_535))]
    pub server_port: Option<u16>,
    /// Server name of the TLS handshake, exact or `*.` wildcard.
    #[serde(default)]
    #[schemars(schema_with = "fields::host_schema")]
    pub sni: Option<String>,
    /// Upstream written in place.
    pub upstream: Option<Upstream>,
    /// Id of an upstream.
    pub upstream_id: Option<Id>,
    /// Id of a service.
    pub service_id: Option<Id>,
    /// Plugins by name.
    #[schemars(schema_with = "fields::plugins_schema")]
    #[serde(default)]
    pub plugins: Plugins,
    /// The protocol that is spoken over the connection.
    pub protocol: Option<Protocol>,
}

/// A protocol that is spoken over TCP, as far as a gateway takes part in it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Protocol {
    /// Name of the protocol.
    pub name: String,
    /// Id of the stream route that accepts the connections which this one shares out.
    pub superior_id: Option<Id>,
    /// Settings of the protocol.
    pub conf: Option<Map<String, Value>>,
    /// What is written down of it.
    #[serde(default)]
    #[schemars(schema_with = "logger_schema")]
    pub logger: Vec<Value>,
}

fn logger_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "filter": {"type": "array"}, "conf": {"type": "object"}
        },
        "dependencies": {"name": ["conf"]},
        "additionalProperties": false
    }})
}
