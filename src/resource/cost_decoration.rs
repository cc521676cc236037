//! Cost decorations: what a position in a service's GraphQL schema costs, for
//! `graphql-limit-count`. Stored and checked; no plugin reads them yet.
//!
//! They lie below their service, as credentials lie below their consumer.
//!
//! Source: APISIX `admin/graphql_cost_decorations.lua`, `t/admin/graphql-cost-decorations.t`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::Id;
use super::fields::{self, Labels};

/// What one position in a GraphQL schema costs.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CostDecoration {
    /// Unique among the service's decorations; in files with the service before it:
    /// `shop/graphql_cost_decorations/1`.
    #[serde(default)]
    #[schemars(schema_with = "id_schema")]
    pub id: Option<Value>,
    /// The service whose schema it is about; taken from the path.
    pub service_id: Option<Id>,
    /// A type, for every field that returns it; a type and a field; or a chain of fields:
    /// `Query.products.nodes`.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"))]
    pub field_path: String,
    /// What the field itself costs.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub add_value: f64,
    /// Arguments of the query whose values are added to `add_value`.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    pub add_arguments: Vec<String>,
    /// By how much the cost of what is selected below the field is multiplied.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub mul_value: f64,
    /// Arguments of the query whose values are multiplied into `mul_value`.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    pub mul_arguments: Vec<String>,
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
}

fn one() -> f64 {
    1.0
}

fn id_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "$comment": "1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', an integer of at least 1, or service/graphql_cost_decorations/id",
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9\\-_.]+$"},
            {"type": "integer", "minimum": 1},
            {"type": "string", "maxLength": 156,
                "pattern": "^[a-zA-Z0-9\\-_.]+/graphql_cost_decorations/[a-zA-Z0-9\\-_.]+$"}
        ]
    })
}
