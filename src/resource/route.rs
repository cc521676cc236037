//! Routes: which requests go where, and what runs on them.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#route`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::Id;
use super::fields::{self, Labels, Plugins, Status, Timeout};
use super::upstream::Upstream;

/// Requests that match are run through plugins and sent to an upstream.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "allOf" = [
        {"description": "exactly one of uri and uris", "oneOf": [{"required": ["uri"]}, {"required": ["uris"]}]},
        {"$comment": "only one of host or hosts is allowed", "not": {"required": ["host", "hosts"]}},
        {"$comment": "only one of remote_addr or remote_addrs is allowed",
         "not": {"required": ["remote_addr", "remote_addrs"]}},
        {"description": "one of plugins, upstream, upstream_id, service_id and script", "anyOf": [
            {"required": ["plugins"]}, {"required": ["upstream"]}, {"required": ["upstream_id"]},
            {"required": ["service_id"]}, {"required": ["script"]}]},
        {"description": "a script or plugins, not both", "not": {"anyOf": [
            {"required": ["script", "plugins"]}, {"required": ["script", "plugin_config_id"]}]}}
    ]
))]
pub struct Route {
    /// Unique among routes.
    pub id: Option<Id>,
    /// Name for people and, with `prefer_name`, for metrics.
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
    /// Path that matches: exact, or a prefix with `*` at its end.
    #[schemars(length(min = 1, max = 4096))]
    pub uri: Option<String>,
    /// Paths that match.
    #[serde(default)]
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub uris: Vec<String>,
    /// Among routes that match the same path, the highest goes first.
    #[serde(default)]
    pub priority: i64,
    /// Methods that match; all when empty.
    #[serde(default)]
    #[schemars(schema_with = "methods_schema")]
    pub methods: Vec<String>,
    /// Host that matches, exact or `*.` wildcard.
    #[serde(default)]
    #[schemars(schema_with = "fields::host_schema")]
    pub host: Option<String>,
    /// Hosts that match.
    #[serde(default)]
    #[schemars(schema_with = "fields::hosts_schema")]
    pub hosts: Vec<String>,
    /// Client address that matches: IP or CIDR.
    pub remote_addr: Option<String>,
    /// Client addresses that match.
    #[serde(default)]
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub remote_addrs: Vec<String>,
    /// Limits that stand in for those of the upstream.
    pub timeout: Option<Timeout>,
    /// Conditions over variables.
    pub vars: Option<Vec<Value>>,
    /// A Lua function that decides.
    #[schemars(length(min = 10), regex(pattern = "^function"))]
    pub filter_func: Option<String>,
    /// A Lua script.
    #[schemars(length(min = 10, max = 102_400))]
    pub script: Option<String>,
    /// Id of a script.
    pub script_id: Option<Id>,
    /// Plugins by name.
    #[schemars(schema_with = "fields::plugins_schema")]
    #[serde(default)]
    pub plugins: Plugins,
    /// Id of a plugin config, whose plugins this route takes over where it has none of its own.
    pub plugin_config_id: Option<Id>,
    /// Upstream written in place.
    pub upstream: Option<Upstream>,
    /// Id of a service.
    pub service_id: Option<Id>,
    /// Id of an upstream.
    pub upstream_id: Option<Id>,
    /// Whether connections may be upgraded.
    pub enable_websocket: Option<bool>,
    /// Whether it is served.
    #[serde(default)]
    pub status: Status,
}

fn methods_schema(generator: &mut SchemaGenerator) -> Schema {
    let method = fields::method_schema(generator);
    json_schema!({"type": "array", "uniqueItems": true, "items": method})
}

// === impl Route ===

impl Route {
    /// Every path, in the order written.
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.uri.iter().chain(&self.uris)
    }

    /// Every host, in the order written.
    pub fn all_hosts(&self) -> impl Iterator<Item = &String> {
        self.host.iter().chain(&self.hosts)
    }
}
