//! Upstreams: nodes and how they are spoken to.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#upstream`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::checks::Checks;
use super::fields::{self, HOST, Labels, Timeout};
use super::hidden::Hidden;
use super::{Id, Invalid, Said};

/// Nodes that serve the same, and how to choose and reach them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "allOf" = [{"description": "nodes, or service_name with discovery_type", "oneOf": [
        {"required": ["nodes"]}, {"required": ["service_name", "discovery_type"]}]}]
))]
pub struct Upstream {
    /// Unique among upstreams.
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
    /// The nodes: `{"host:port": weight}` or objects.
    #[serde(default)]
    pub nodes: Nodes,
    /// Further nodes to try; as many as there are when absent.
    #[schemars(range(min = 0))]
    pub retries: Option<u32>,
    /// Seconds after which no retry begins; 0 is no limit.
    #[schemars(range(min = 0.0))]
    pub retry_timeout: Option<f64>,
    /// Limits of one try.
    pub timeout: Option<Timeout>,
    /// How nodes of scheme `https` are spoken to.
    pub tls: Option<Tls>,
    /// What becomes of connections after use.
    pub keepalive_pool: Option<KeepalivePool>,
    /// How a node is chosen.
    #[serde(rename = "type", default = "roundrobin")]
    pub type_: String,
    /// Health checks.
    pub checks: Option<Checks>,
    /// What `chash` hashes.
    #[serde(default = "vars")]
    #[schemars(schema_with = "hash_on_schema")]
    pub hash_on: String,
    /// Name of what `chash` hashes.
    pub key: Option<String>,
    /// Protocol of the nodes.
    #[serde(default = "http")]
    #[schemars(schema_with = "scheme_schema")]
    pub scheme: String,
    /// Kind of registry that nodes come from.
    pub discovery_type: Option<String>,
    /// Settings of the registry.
    pub discovery_args: Option<Value>,
    /// Which `Host` nodes are told: the client's, the node's, or `upstream_host`.
    #[serde(default = "pass")]
    #[schemars(schema_with = "pass_host_schema")]
    pub pass_host: String,
    /// `Host` for `pass_host: rewrite`.
    #[serde(default)]
    #[schemars(schema_with = "fields::host_schema")]
    pub upstream_host: Option<String>,
    /// Name in the registry.
    #[schemars(length(min = 1, max = 256))]
    pub service_name: Option<String>,
}

/// TLS towards the nodes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(extend("dependencies" = {
    "client_cert": {"required": ["client_key"]},
    "client_key": {"required": ["client_cert"]},
    "client_cert_id": {"not": {"required": ["client_cert", "client_key"]}}
}))]
pub struct Tls {
    /// Id of an ssl object of type `client` whose certificate is shown to the nodes.
    pub client_cert_id: Option<Id>,
    /// Certificate shown to the nodes, PEM.
    #[schemars(length(min = 128, max = 65_536))]
    pub client_cert: Option<String>,
    /// Its private key, PEM.
    #[schemars(length(min = 64, max = 65_536))]
    pub client_key: Option<Hidden>,
    /// Whether the nodes' certificates are verified.
    #[serde(default)]
    pub verify: bool,
}

/// Connections kept for reuse.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub struct KeepalivePool {
    /// Idle connections each worker keeps to a node.
    #[serde(default = "pool_size")]
    #[schemars(range(min = 1))]
    pub size: u32,
    /// Seconds one may be idle.
    #[serde(default = "pool_idle")]
    #[schemars(range(min = 0.0))]
    pub idle_timeout: f64,
    /// Requests one may carry.
    #[serde(default = "pool_requests")]
    #[schemars(range(min = 1))]
    pub requests: u32,
}

/// The nodes, in the order written, or by name where they are a map.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Nodes(pub Vec<Node>);

/// One node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Node {
    /// Address or name.
    pub host: String,
    /// The scheme's own when absent.
    pub port: Option<u16>,
    /// Share of the requests; 0 takes none.
    pub weight: u32,
    /// Lower ones are only tried when all higher ones failed.
    #[serde(default)]
    pub priority: i32,
}

fn roundrobin() -> String {
    "roundrobin".to_owned()
}

fn vars() -> String {
    "vars".to_owned()
}

fn http() -> String {
    "http".to_owned()
}

fn pass() -> String {
    "pass".to_owned()
}

const fn pool_size() -> u32 {
    320
}

const fn pool_idle() -> f64 {
    60.0
}

const fn pool_requests() -> u32 {
    1000
}

fn hash_on_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "vars",
        "enum": ["vars", "header", "cookie", "consumer", "vars_combinations"]})
}

fn scheme_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "http",
        "enum": ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka"]})
}

fn pass_host_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "pass", "enum": ["pass", "node", "rewrite"]})
}

// === impl Nodes ===

impl std::ops::Deref for Nodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl JsonSchema for Nodes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "$comment": "an object of \"host:port\" to weight, or an array of nodes with host and weight",
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
                {"type": "array", "items": {
                    "type": "object",
                    "required": ["host", "weight"],
                    "properties": {
                        "host": {"type": "string", "pattern": HOST},
                        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                        "weight": {"type": "integer", "minimum": 0},
                        "priority": {"type": "integer", "default": 0},
                        "metadata": {"type": "object"}
                    }
                }}
            ]
        })
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            List(Vec<Node>),
            Map(std::collections::BTreeMap<String, u32>),
        }
        let nodes = match Written::deserialize(deserializer)? {
            Written::List(nodes) => nodes,
            Written::Map(map) => map
                .into_iter()
                .map(|(address, weight)| node(&address, weight).map_err(serde::de::Error::custom))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self(nodes))
    }
}

/// Checks what no schema can: the addresses in a map of nodes.
///
/// # Errors
/// Each that is none.
pub(super) fn check_nodes(upstream: &Value) -> Result<(), Vec<Invalid>> {
    let nodes = upstream["nodes"].as_object().into_iter().flatten();
    let wrong = nodes.filter_map(|(address, _)| Some(node(address, 0).err()?.under("/nodes")));
    let wrong: Vec<Invalid> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Reads `host`, `host:port` or `[v6]:port`.
fn node(address: &str, weight: u32) -> Result<Node, Invalid> {
    let wrong = |expected| Invalid::new(format!("/{address}"), format!("{address:?}"), expected);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                let invalid = wrong("a port from 1 to 65535");
                if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
                    let said = format!("invalid port {port}: expected 1 to 65535 in {address:?}");
                    return invalid.saying(Said::Whole(said));
                }
                invalid
            })?;
            (host, Some(port))
        }
        _ => (address, None),
    };
    if host.is_empty() {
        return Err(wrong("a host"));
    }
    Ok(Node { host: host.to_owned(), port, weight, priority: 0 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(nodes: Value) -> Vec<(String, Option<u16>, u32)> {
        let nodes: Nodes = serde_json::from_value(nodes).unwrap();
        let parts = |node: &Node| (node.host.clone(), node.port, node.weight);
        nodes.iter().map(parts).collect()
    }

    #[test]
    fn reads_nodes_as_a_map_and_as_a_list() {
        assert_eq!(
            check(json!({"127.0.0.1:80": 1, "[::1]:81": 2, "::1": 3, "foo.com": 4})),
            [
                ("127.0.0.1".to_owned(), Some(80), 1),
                ("::1".to_owned(), None, 3),
                ("[::1]".to_owned(), Some(81), 2),
                ("foo.com".to_owned(), None, 4),
            ]
        );
        assert_eq!(
            check(json!([{"host": "a", "port": 1, "weight": 0}, {"host": "b", "weight": 2}])),
            [("a".to_owned(), Some(1), 0), ("b".to_owned(), None, 2)]
        );
        assert_eq!(check(json!([])), []);
    }

    #[test]
    fn refuses_a_port_that_is_none() {
        let refused = serde_json::from_value::<Nodes>(json!({"a:99999": 1}));
        assert!(refused.is_err());
    }
}
