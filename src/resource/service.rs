//! Services: what several routes have in common.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#service`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Id;
use super::fields::{self, Labels, Plugins};
use super::upstream::Upstream;

/// Upstream, plugins and hosts that routes take over where they have none of their own.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Service {
    /// Unique among services.
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
    /// Plugins by name.
    #[schemars(schema_with = "fields::plugins_schema")]
    #[serde(default)]
    pub plugins: Plugins,
    /// Upstream written in place.
    pub upstream: Option<Upstream>,
    /// Id of an upstream.
    pub upstream_id: Option<Id>,
    /// A Lua script.
    #[schemars(length(min = 10, max = 102_400))]
    pub script: Option<String>,
    /// Whether connections may be upgraded.
    pub enable_websocket: Option<bool>,
    /// Hosts for the routes that name none.
    #[serde(default)]
    #[schemars(schema_with = "fields::hosts_schema")]
    pub hosts: Vec<String>,
}
