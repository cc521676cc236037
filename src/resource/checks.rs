//! Health checks: how nodes are watched. Checked and kept; not acted on yet.
//!
//! Source: APISIX `docs/en/latest/tutorials/health-check.md`, `schema_def.lua`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::fields;

/// How nodes are watched: active checks ask them, passive ones look at answers to requests.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Checks {
    /// Asks each node every now and then.
    pub active: Active,
    /// Looks at what nodes answer to requests.
    pub passive: Option<Passive>,
}

/// What nodes are asked, how often, and what that says of them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Active {
    /// How nodes are asked.
    #[serde(rename = "type", default = "http")]
    #[schemars(schema_with = "type_schema")]
    pub type_: String,
    /// Seconds an answer may take.
    #[serde(default = "one_second")]
    pub timeout: f64,
    /// Nodes asked at a time.
    #[serde(default = "ten")]
    pub concurrency: i64,
    /// Host that nodes are asked for.
    #[serde(default)]
    #[schemars(schema_with = "fields::host_schema")]
    pub host: Option<String>,
    /// Port that is asked, where it is not the node's own.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Method of the question.
    #[serde(default = "get")]
    #[schemars(schema_with = "fields::method_schema")]
    pub http_method: String,
    /// Path of the question.
    #[serde(default = "slash")]
    pub http_path: String,
    /// Body of the question.
    #[serde(default)]
    pub http_req_body: String,
    /// Whether certificates of nodes are verified.
    #[serde(default = "yes")]
    pub https_verify_certificate: bool,
    /// When a node is healthy again.
    pub healthy: Option<ActiveHealthy>,
    /// When a node is unhealthy.
    pub unhealthy: Option<ActiveUnhealthy>,
    /// Headers of the question: `Name: value`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub req_headers: Vec<String>,
}

/// When active checks take a node for healthy.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ActiveHealthy {
    /// Seconds between two questions to a healthy node.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub interval: u32,
    /// Statuses that count as a success.
    #[serde(default = "statuses_up")]
    #[schemars(schema_with = "statuses_schema")]
    pub http_statuses: Vec<u16>,
    /// Successes in a row that make a node healthy.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 254))]
    pub successes: u32,
}

/// When active checks take a node for unhealthy.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct ActiveUnhealthy {
    /// Seconds between two questions to an unhealthy node.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub interval: u32,
    /// Statuses that count as a failure.
    #[serde(default = "statuses_down")]
    #[schemars(schema_with = "statuses_schema")]
    pub http_statuses: Vec<u16>,
    /// Such statuses in a row that make a node unhealthy.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 254))]
    pub http_failures: u32,
    /// Refused connections in a row that do.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 254))]
    pub tcp_failures: u32,
    /// Answers in a row that did not come in time and do.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 254))]
    pub timeouts: u32,
}

/// What answers to requests say of nodes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Passive {
    /// Whose answers are looked at.
    #[serde(rename = "type", default = "http")]
    #[schemars(schema_with = "type_schema")]
    pub type_: String,
    /// When a node is healthy again.
    pub healthy: Option<PassiveHealthy>,
    /// When a node is unhealthy.
    pub unhealthy: Option<PassiveUnhealthy>,
}

/// When passive checks take a node for healthy.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PassiveHealthy {
    /// Statuses that count as a success.
    #[serde(default = "statuses_passed")]
    #[schemars(schema_with = "statuses_schema")]
    pub http_statuses: Vec<u16>,
    /// Successes in a row that make a node healthy.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 254))]
    pub successes: u32,
}

/// When passive checks take a node for unhealthy; 0 never does.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct PassiveUnhealthy {
    /// Statuses that count as a failure.
    #[serde(default = "statuses_failed")]
    #[schemars(schema_with = "statuses_schema")]
    pub http_statuses: Vec<u16>,
    /// Refused connections in a row that make a node unhealthy.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 254))]
    pub tcp_failures: u32,
    /// Answers in a row that did not come in time and do.
    #[serde(default = "seven")]
    #[schemars(range(min = 0, max = 254))]
    pub timeouts: u32,
    /// Such statuses in a row that do.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 254))]
    pub http_failures: u32,
}

fn http() -> String {
    "http".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

const fn yes() -> bool {
    true
}

const fn one_second() -> f64 {
    1.0
}

const fn one() -> u32 {
    1
}

const fn two() -> u32 {
    2
}

const fn three() -> u32 {
    3
}

const fn five() -> u32 {
    5
}

const fn seven() -> u32 {
    7
}

const fn ten() -> i64 {
    10
}

fn statuses_up() -> Vec<u16> {
    vec![200, 302]
}

fn statuses_down() -> Vec<u16> {
    vec![429, 404, 500, 501, 502, 503, 504, 505]
}

fn statuses_passed() -> Vec<u16> {
    (200..=208).chain([226]).chain(300..=308).collect()
}

fn statuses_failed() -> Vec<u16> {
    vec![429, 500, 503]
}

fn type_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "http", "enum": ["http", "https", "tcp"]})
}

fn statuses_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "minItems": 1, "uniqueItems": true,
        "items": {"type": "integer", "minimum": 200, "maximum": 599}
    })
}
