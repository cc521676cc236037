//! Resources: what users write through the Admin API, one file a kind.
//!
//! A resource is a type, its JSON Schema (derived from the type, so the two cannot drift apart)
//! and its defaults. Plugin configs stay JSON here: this room knows no plugin.

pub mod fields;
pub mod checks;
pub mod consumer;
pub mod cost_decoration;
pub mod credential;
pub mod hidden;
pub mod invalid;
pub mod keyring;
pub mod plugin_holder;
pub mod proto;
pub mod route;
pub mod schema;
pub mod secret;
pub mod service;
pub mod ssl;
pub mod stream_route;
pub mod upstream;
pub mod yaml;

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::consumer::Consumer;
pub use self::cost_decoration::CostDecoration;
pub use self::credential::Credential;
pub use self::invalid::{Invalid, Said};
pub use self::keyring::Keyring;
pub use self::plugin_holder::{ConsumerGroup, GlobalRule, PluginConfig, PluginMetadata};
pub use self::proto::Proto;
pub use self::route::Route;
pub use self::secret::Secret;
pub use self::service::Service;
pub use self::ssl::Ssl;
pub use self::stream_route::StreamRoute;
pub use self::upstream::Upstream;
use schema::Validator;

/// A decoded resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    Secret(Secret),
    Proto(Proto),
    Ssl(Ssl),
    Upstream(Box<Upstream>),
    Service(Box<Service>),
    CostDecoration(CostDecoration),
    PluginConfig(PluginConfig),
    PluginMetadata(PluginMetadata),
    GlobalRule(GlobalRule),
    ConsumerGroup(ConsumerGroup),
    Consumer(Consumer),
    Credential(Credential),
    Route(Box<Route>),
    StreamRoute(Box<StreamRoute>),
}

/// The kinds of resource that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Proto,
    PluginMetadata,
    Ssl,
    Upstream,
    Service,
    CostDecoration,
    PluginConfig,
    GlobalRule,
    ConsumerGroup,
    Consumer,
    Credential,
    Route,
    StreamRoute,
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order in which a full load compiles them (what is referred to first).
    pub const ALL: [Self; 14] = [
        Self::Secret,
        Self::Proto,
        Self::PluginMetadata,
        Self::Ssl,
        Self::Upstream,
        Self::Service,
        Self::CostDecoration,
        Self::PluginConfig,
        Self::GlobalRule,
        Self::ConsumerGroup,
        Self::Consumer,
        Self::Credential,
        Self::Route,
        Self::StreamRoute,
    ];

    /// The folder of this kind under the store's prefix; of what lies below another kind, that one's.
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Proto => "protos",
            Self::Ssl => "ssls",
            Self::Upstream => "upstreams",
            Self::Service | Self::CostDecoration => "services",
            Self::PluginConfig => "plugin_configs",
            Self::PluginMetadata => "plugin_metadata",
            Self::GlobalRule => "global_rules",
            Self::ConsumerGroup => "consumer_groups",
            Self::Consumer | Self::Credential => "consumers",
            Self::Route => "routes",
            Self::StreamRoute => "stream_routes",
        }
    }

    /// What things of this kind are called together, in paths, counts and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credential => "credentials",
            Self::CostDecoration => "graphql_cost_decorations",
            other => other.dir(),
        }
    }

    /// What one of this kind is called in messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::PluginMetadata => "plugin_metadata",
            Self::Ssl => "ssl",
            Self::Upstream => "upstream",
            Self::Service => "service",
            Self::CostDecoration => "graphql cost decoration",
            Self::PluginConfig => "plugin config",
            Self::GlobalRule => "global rule",
            Self::ConsumerGroup => "consumer group",
            Self::Consumer => "consumer",
            Self::Credential => "credential",
            Self::Route => "route",
            Self::StreamRoute => "stream route",
            Self::Proto => "proto",
        }
    }

    /// The kind that things of this one lie below and go with.
    pub const fn owner(self) -> Option<Self> {
        match self {
            Self::Credential => Some(Self::Consumer),
            Self::CostDecoration => Some(Self::Service),
            _ => None,
        }
    }

    /// The kind whose things lie below things of this one.
    pub const fn owned(self) -> Option<Self> {
        match self {
            Self::Consumer => Some(Self::Credential),
            Self::Service => Some(Self::CostDecoration),
            _ => None,
        }
    }

    /// The id in the store of what is called `own` below `owner`: `jack/credentials/1`.
    pub fn store_id(self, owner: &str, own: &str) -> String {
        format!("{owner}/{}/{own}", self.name())
    }

    /// Splits an id in the store into the owner's and its own; `None` where it is no id of
    /// something that lies below another.
    pub fn split(self, store_id: &str) -> Option<(&str, &str)> {
        self.owner()?;
        let (owner, rest) = store_id.split_once('/')?;
        let own = rest.strip_prefix(self.name())?.strip_prefix('/')?;
        (!owner.is_empty() && !own.is_empty() && !own.contains('/')).then_some((owner, own))
    }

    /// The kind called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind whose folder is `dir`, `None` for a folder that this version does not serve.
    pub fn of_dir(dir: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dir() == dir)
    }

    /// Splits a store key (`routes/1`, `secrets/vault/1`, `consumers/jack/credentials/1`) into
    /// kind and id.
    ///
    /// `None` for keys of other kinds and for other keys below an id.
    pub fn of_key(key: &str) -> Option<(Self, &str)> {
        let (dir, id) = key.split_once('/')?;
        let kind = Self::of_dir(dir)?;
        if let Some(owned) = kind.owned().filter(|owned| owned.split(id).is_some()) {
            return Some((owned, id));
        }
        let slashes = id.bytes().filter(|b| *b == b'/').count();
        let expected = usize::from(kind == Self::Secret);
        (slashes == expected && !id.is_empty()).then_some((kind, id))
    }
}

/// The id of a resource: 1 to 64 of `a-zA-Z0-9-_.`, or a positive integer written as its digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Id(pub Arc<str>);

// === impl Id ===

impl Id {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(u64),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into(),
            Written::Number(number) => number.to_string().into(),
        }))
    }
}

/// Reads stored bytes as JSON.
///
/// # Errors
/// Where the text stops being JSON, by line and column.
pub fn parse(value: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(value).map_err(|error| {
        let place = format!("something else at line {}, column {}", error.line(), error.column());
        Invalid::new("", place, "JSON")
    })
}

/// Decodes what is stored under `kind` and `id`.
///
/// # Errors
/// Everything the schema refuses.
pub fn decode(kind: Kind, id: &str, value: Value) -> Result<Resource, Vec<Invalid>> {
    validate(kind, id, &value)?;
    read(kind, id, value)
}

/// The same for a value that the schema has admitted before.
///
/// # Errors
/// What the schema admits and the type does not hold: the two disagree.
pub fn read(kind: Kind, id: &str, value: Value) -> Result<Resource, Vec<Invalid>> {
    Ok(match kind {
        Kind::Secret => Resource::Secret(secret::read(id, value)?),
        Kind::Proto => Resource::Proto(typed(value)?),
        Kind::Ssl => Resource::Ssl(typed(value)?),
        Kind::Upstream => Resource::Upstream(typed(value)?),
        Kind::Service => Resource::Service(typed(value)?),
        Kind::CostDecoration => Resource::CostDecoration(typed(value)?),
        Kind::PluginConfig => Resource::PluginConfig(typed(value)?),
        Kind::PluginMetadata => Resource::PluginMetadata(typed(value)?),
        Kind::GlobalRule => Resource::GlobalRule(typed(value)?),
        Kind::ConsumerGroup => Resource::ConsumerGroup(typed(value)?),
        Kind::Consumer => Resource::Consumer(typed(value)?),
        Kind::Credential => Resource::Credential(typed(value)?),
        Kind::Route => Resource::Route(typed(value)?),
        Kind::StreamRoute => Resource::StreamRoute(typed(value)?),
    })
}

/// Checks `value` by the schema of `kind`, and that the manager of a secret is one.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(kind: Kind, id: &str, value: &Value) -> Result<(), Vec<Invalid>> {
    if kind == Kind::Secret {
        return secret::validate(id, value);
    }
    let checked = validator(kind).check(value);
    match kind {
        Kind::Ssl => checked.map_err(|wrong| ssl::spelled(wrong, value)),
        Kind::Upstream => checked.and_then(|()| upstream::check_nodes(value)),
        Kind::Route | Kind::Service | Kind::StreamRoute => {
            let under = |wrong: Invalid| wrong.under("/upstream");
            let inline = || upstream::check_nodes(&value["upstream"]);
            checked.and_then(|()| inline().map_err(|all| all.into_iter().map(under).collect()))
        }
        _ => checked,
    }
}

/// The JSON Schema of `kind`.
pub fn schema(kind: Kind) -> &'static Value {
    validator(kind).schema()
}

fn validator(kind: Kind) -> &'static Validator {
    static VALIDATORS: LazyLock<[Validator; Kind::ALL.len()]> = LazyLock::new(|| {
        Kind::ALL.map(|kind| match kind {
            Kind::Secret => Validator::of::<secret::Vault>(),
            Kind::Proto => Validator::of::<Proto>(),
            Kind::Ssl => Validator::of::<Ssl>(),
            Kind::Upstream => Validator::of::<Upstream>(),
            Kind::Service => Validator::of::<Service>(),
            Kind::CostDecoration => Validator::of::<CostDecoration>(),
            Kind::PluginConfig => Validator::of::<PluginConfig>(),
            Kind::PluginMetadata => Validator::of::<PluginMetadata>(),
            Kind::GlobalRule => Validator::of::<GlobalRule>(),
            Kind::ConsumerGroup => Validator::of::<ConsumerGroup>(),
            Kind::Consumer => Validator::of::<Consumer>(),
            Kind::Credential => Validator::of::<Credential>(),
            Kind::Route => Validator::of::<Route>(),
            Kind::StreamRoute => Validator::of::<StreamRoute>(),
        })
    });
    &VALIDATORS[kind as usize]
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Invalid>> {
    serde_json::from_value(value)
        .map_err(|error| vec![Invalid::new("", error, "what the schema admits")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: Kind, value: Value) -> Vec<String> {
        match decode(kind, "vault/1", value) {
            Ok(_) => Vec::new(),
            Err(wrong) => wrong.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn every_schema_compiles_and_stands_at_its_kind() {
        for kind in Kind::ALL {
            assert!(schema(kind).is_object(), "{kind:?}");
            assert!(validator(kind).check(&json!(1)).is_err(), "{kind:?}");
        }
        assert!(schema(Kind::Route)["properties"]["uri"].is_object());
        assert!(schema(Kind::Ssl)["properties"]["snis"].is_object());
    }

    #[test]
    fn admits_what_the_admin_api_docs_show() {
        let upstream = json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}});
        for (kind, value) in [
            (
                Kind::Route,
                json!({"uri": "/index.html", "hosts": ["foo.com", "*.bar.com"],
                "remote_addrs": ["127.0.0.0/8"], "methods": ["PUT", "GET"],
                "enable_websocket": true, "upstream": upstream, "id": "1", "create_time": 1}),
            ),
            (Kind::Route, json!({"uri": "/ip", "upstream_id": 1, "labels": {"a": "b"}, "id": 1})),
            (Kind::Service, json!({"plugins": {"limit-count": {}}, "upstream": upstream})),
            (Kind::Upstream, upstream.clone()),
            (
                Kind::Upstream,
                json!({"nodes": [{"host": "a", "port": 80, "weight": 1}],
                "timeout": {"connect": 0.5, "send": 1, "read": 1}, "scheme": "https",
                "keepalive_pool": {"size": 4}, "checks": {
                    "active": {"type": "https", "timeout": 1.5, "concurrency": 10,
                        "host": "a.com", "port": 8443, "http_path": "/", "req_headers": ["A: b"],
                        "https_verify_certificate": false,
                        "healthy": {"interval": 2, "http_statuses": [200], "successes": 1},
                        "unhealthy": {"interval": 1, "http_failures": 2, "timeouts": 1}},
                    "passive": {"type": "http", "healthy": {"successes": 0},
                        "unhealthy": {"tcp_failures": 0, "http_statuses": [500]}}}}),
            ),
            (Kind::Consumer, json!({"username": "jack", "plugins": {"key-auth": {"key": "k"}}})),
            (
                Kind::Ssl,
                json!({"cert": "$secret://vault/1/ssl/certificate",
                "key": "$env://KEY", "snis": ["test.com", "*.test.com"]}),
            ),
            (Kind::Ssl, json!({"type": "client", "cert": "c".repeat(128), "key": "k".repeat(64)})),
            (
                Kind::Secret,
                json!({"uri": "http://127.0.0.1:8200", "prefix": "kv/apisix",
                "token": "root"}),
            ),
            (Kind::GlobalRule, json!({"id": "1", "plugins": {"prometheus": {}}})),
            (Kind::PluginConfig, json!({"id": 1, "plugins": {}, "desc": "x"})),
            (Kind::PluginMetadata, json!({"log_format": {}})),
            (Kind::Proto, json!({"content": "syntax = \"proto3\";"})),
            (
                Kind::StreamRoute,
                json!({"server_port": 9100, "remote_addr": "127.0.0.0/8", "sni": "*.a.com",
                "upstream": upstream, "protocol": {"name": "redis", "logger": [{"name": "syslog",
                "conf": {}}]}}),
            ),
        ] {
            assert_eq!(check(kind, value.clone()), Vec::<String>::new(), "{kind:?} {value}");
        }
    }

    #[test]
    fn refuses_with_the_place_and_the_reason() {
        for (kind, value, said) in [
            (
                Kind::Route,
                json!({"uri": 5, "upstream_id": 1}),
                "\"uri\" validation failed: wrong type: expected string",
            ),
            (Kind::Route, json!({"uri": "/"}), "one of plugins, upstream"),
            (Kind::Route, json!({"upstream_id": 1}), "exactly one of uri and uris"),
            (Kind::Route, json!({"uri": "/", "uris": ["/"], "upstream_id": 1}), "uri and uris"),
            (Kind::Route, json!({"uri": "/", "upstream_id": 1, "foo": 1}), "found foo"),
            (Kind::Route, json!({"uri": "/", "upstream_id": "a b"}), "\"upstream_id\""),
            (
                Kind::Route,
                json!({"uri": "/", "methods": ["FETCH"], "upstream_id": 1}),
                "\"methods\" validation failed: failed to validate item 1",
            ),
            (
                Kind::Route,
                json!({"uri": "/", "upstream": {"nodes": {"a:1": "x"}}}),
                "property \"upstream\" validation failed: property \"nodes\"",
            ),
            (Kind::Upstream, json!({}), "nodes, or service_name"),
            (
                Kind::Upstream,
                json!({"nodes": {"127.0.0.1:65536": 1}}),
                "invalid port 65536: expected 1 to 65535 in \"127.0.0.1:65536\"",
            ),
            (
                Kind::Service,
                json!({"upstream": {"nodes": {"a:80": 1, "a:b": 1}}}),
                "property \"upstream/nodes/a:b\": expected a port from 1 to 65535, got \"a:b\"",
            ),
            (
                Kind::Route,
                json!({"uri": "/", "upstream": {"nodes": {":80": 1}}}),
                "property \"upstream/nodes/:80\": expected a host, got \":80\"",
            ),
            (
                Kind::Upstream,
                json!({"nodes": {}, "tls": {"client_cert": "c".repeat(128)}}),
                "property \"tls\" validation failed: failed to validate dependent schema for \
                 \"client_cert\": property \"client_key\" is required",
            ),
            (
                Kind::Upstream,
                json!({"nodes": {}, "checks": {"active": {"healthy": {"successes": 0}}}}),
                "property \"successes\" validation failed: expected 0 to be at least 1",
            ),
            (
                Kind::Service,
                json!({"upstream": {"nodes": {}, "checks": {"passive": {}}}}),
                "property \"checks\" validation failed: property \"active\" is required",
            ),
            (
                Kind::Upstream,
                json!({"nodes": {}, "checks": {"active": {"http_method": "FETCH",
                "unhealthy": {"http_statuses": [200, 600]}}}}),
                "property \"http_statuses\" validation failed: failed to validate item 2: expected 600 to be at most 599",
            ),
            (Kind::Ssl, json!({"cert": "x", "key": "y".repeat(64), "sni": "a"}), "\"cert\""),
            (Kind::Ssl, json!({"cert": "c".repeat(128), "key": "k".repeat(64)}), "sni and snis"),
            (Kind::Secret, json!({"uri": "127.0.0.1", "prefix": "p", "token": "t"}), "\"uri\""),
            (Kind::Consumer, json!({"username": "a b"}), "\"username\""),
            (Kind::GlobalRule, json!({"plugins": {}}), "\"id\""),
            (
                Kind::Proto,
                json!({"content": ""}),
                "\"content\" validation failed: string too short, expected at least 1, got 0",
            ),
            (
                Kind::StreamRoute,
                json!({"server_port": 0}),
                "\"server_port\" validation failed: expected 0 to be at least 1",
            ),
            (Kind::StreamRoute, json!({"uri": "/"}), "forbidden, found uri"),
            (
                Kind::Credential,
                json!({"plugins": {"key-auth": {"key": "k"}, "jwt-auth": {}}}),
                "expect object to have at most 1 properties",
            ),
            // What the type says, not what the field's docs say.
            (
                Kind::Service,
                json!({"id": -100}),
                "matches none of the required: expected 1 to 64 of a-z",
            ),
            (
                Kind::Upstream,
                json!({"nodes": [{"host": "a", "port": 1.5, "weight": 1}]}),
                "an array of nodes",
            ),
        ] {
            let wrong = check(kind, value.clone()).join("; ");
            assert!(wrong.contains(said), "{kind:?} {value}: {wrong}");
        }
    }

    #[test]
    fn splits_keys_of_the_store() {
        assert_eq!(Kind::of_key("routes/1"), Some((Kind::Route, "1")));
        assert_eq!(Kind::of_key("secrets/vault/1"), Some((Kind::Secret, "vault/1")));
        let credential = Some((Kind::Credential, "jack/credentials/1"));
        assert_eq!(Kind::of_key("consumers/jack/credentials/1"), credential);
        for strange in ["consumers/jack/credentials/", "consumers/jack/credentials/1/2"] {
            assert_eq!(Kind::of_key(strange), None);
        }
        let decoration = "shop/graphql_cost_decorations/1";
        let key = format!("services/{decoration}");
        assert_eq!(Kind::of_key(&key), Some((Kind::CostDecoration, decoration)));
        assert_eq!(Kind::CostDecoration.split(decoration), Some(("shop", "1")));
        assert_eq!(Kind::CostDecoration.store_id("shop", "1"), decoration);
        assert_eq!(Kind::of_key("services/shop/credentials/1"), None);
        assert_eq!(Kind::of_key("nothings/1"), None);
        assert_eq!(Kind::of_key("routes"), None);
    }
}
