//! Protos: Protocol Buffers definitions by id, for `grpc-transcode`. Stored and checked; no plugin
//! reads them yet.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#proto`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Id;
use super::fields::{self, Labels};

/// A Protocol Buffers definition.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Proto {
    /// Unique among protos.
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
    /// Text of a `.proto` file, or a base64 text of a compiled descriptor set.
    #[schemars(length(min = 1, max = 1_048_576))]
    pub content: String,
}
