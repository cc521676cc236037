//! Kinds that only hold plugins: global rules, plugin configs, consumer groups, plugin metadata.
//!
//! Source: APISIX `docs/en/latest/admin-api.md`, sections "Global rule", "Plugin config",
//! "Consumer group" and "Plugin metadata".

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Id;
use super::fields::{self, Labels, Plugins};

/// Plugins that run on every request, before those of its route.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GlobalRule {
    /// Unique among global rules.
    pub id: Id,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
    /// Plugins by name.
    #[schemars(schema_with = "fields::plugins_schema")]
    pub plugins: Plugins,
}

/// Plugins that routes can take over by `plugin_config_id`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PluginConfig {
    /// Unique among plugin configs.
    pub id: Id,
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
    pub plugins: Plugins,
}

/// Plugins that run for every consumer of the group, where the consumer has none of its own.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConsumerGroup {
    /// Unique among consumer groups.
    pub id: Id,
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
    pub plugins: Plugins,
}

/// Settings of a plugin that are the same wherever it runs; its id is the plugin's name.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PluginMetadata(pub Map<String, Value>);
