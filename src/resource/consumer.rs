//! Consumers: who calls.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#consumer`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Id;
use super::fields::{self, Labels, Plugins};

/// A caller: the credentials it is known by and the plugins that run for it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Consumer {
    /// The same as `username`.
    pub id: Option<Id>,
    /// Unique among consumers.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[a-zA-Z0-9_\-]+$"))]
    pub username: String,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// Key and value pairs; `custom_id` is told to upstreams.
    #[serde(default)]
    #[schemars(schema_with = "fields::labels_schema")]
    pub labels: Labels,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
    /// Id of a consumer group, whose plugins run where the consumer has none of its own.
    pub group_id: Option<Id>,
    /// Credentials and plugins by name.
    #[schemars(schema_with = "fields::plugins_schema")]
    #[serde(default)]
    pub plugins: Plugins,
}
