//! Resources: what users write through the Admin API, one file a kind.
//!
//! A resource is a type, its JSON Schema (derived from the type, so the two cannot drift apart)
//! and its defaults. Plugin configs stay JSON here: this room knows no plugin.

pub mod fields;
pub mod checks;
pub mod consumer;
pub mod credential;
pub mod hidden;
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
pub use self::credential::Credential;
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
    PluginConfig(PluginConfig),
    PluginMetadata(PluginMetadata),
    GlobalRule(GlobalRule),
    ConsumerGroup(ConsumerGroup),
    Consumer(Consumer),
    Credential(Credential),
    Route(Box<Route>),
    StreamRoute(Box<StreamRoute>),
}

/// One thing a user wrote that cannot be used, named so that the user can mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// JSON pointer to the offending value (RFC 6901), empty for the whole document.
    pub path: String,
    /// What stands there, shortened; never a secret.
    pub value: String,
    /// What should stand there, as a noun phrase: "an integer of at least 1".
    pub expected: String,
}

// === impl Invalid ===

impl Invalid {
    /// Names a problem at `path`; `value` is what stands there, `expected` what should.
    pub fn new(
        path: impl Into<String>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), value: value.to_string(), expected: expected.into() }
    }

    /// The same problem seen from a document in which this one stands at `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path.insert_str(0, prefix);
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.trim_start_matches('/');
        if path.is_empty() {
            write!(f, "expected {}, got {}", self.expected, self.value)
        } else {
            write!(f, "property \"{path}\": expected {}, got {}", self.expected, self.value)
        }
    }
}

impl std::error::Error for Invalid {}

/// The kinds of resource that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Proto,
    PluginMetadata,
    Ssl,
    Upstream,
    Service,
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
    pub const ALL: [Self; 13] = [
        Self::Secret,
        Self::Proto,
        Self::PluginMetadata,
        Self::Ssl,
        Self::Upstream,
        Self::Service,
        Self::PluginConfig,
        Self::GlobalRule,
        Self::ConsumerGroup,
        Self::Consumer,
        Self::Credential,
        Self::Route,
        Self::StreamRoute,
    ];

    /// The folder of this kind under the store's prefix. Credentials lie below their consumers.
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Proto => "protos",
            Self::Ssl => "ssls",
            Self::Upstream => "upstreams",
            Self::Service => "services",
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
            other => other.dir(),
        }
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
        if kind == Self::Consumer && credential::split(id).is_some() {
            return Some((Self::Credential, id));
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
    validator(kind).check(value)
}

/// The JSON Schema of `kind`.
pub fn schema(kind: Kind) -> &'static Value {
    validator(kind).schema()
}

fn validator(kind: Kind) -> &'static Validator {
    static VALIDATORS: LazyLock<[Validator; Kind::ALL.len()]> = LazyLock::new(|| {
        Kind::ALL.map(|kind| {
            Validator::new(match kind {
                Kind::Secret => schema::for_type::<secret::Vault>(),
                Kind::Proto => schema::for_type::<Proto>(),
                Kind::Ssl => schema::for_type::<Ssl>(),
                Kind::Upstream => schema::for_type::<Upstream>(),
                Kind::Service => schema::for_type::<Service>(),
                Kind::PluginConfig => schema::for_type::<PluginConfig>(),
                Kind::PluginMetadata => schema::for_type::<PluginMetadata>(),
                Kind::GlobalRule => schema::for_type::<GlobalRule>(),
                Kind::ConsumerGroup => schema::for_type::<ConsumerGroup>(),
                Kind::Consumer => schema::for_type::<Consumer>(),
                Kind::Credential => schema::for_type::<Credential>(),
                Kind::Route => schema::for_type::<Route>(),
                Kind::StreamRoute => schema::for_type::<StreamRoute>(),
            })
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
            (Kind::Route, json!({"uri": 5, "upstream_id": 1}), "\"uri\": expected a string"),
            (Kind::Route, json!({"uri": "/"}), "one of plugins, upstream"),
            (Kind::Route, json!({"upstream_id": 1}), "exactly one of uri and uris"),
            (Kind::Route, json!({"uri": "/", "uris": ["/"], "upstream_id": 1}), "uri and uris"),
            (Kind::Route, json!({"uri": "/", "upstream_id": 1, "foo": 1}), "\"foo\""),
            (Kind::Route, json!({"uri": "/", "upstream_id": "a b"}), "\"upstream_id\""),
            (Kind::Route, json!({"uri": "/", "methods": ["FETCH"], "upstream_id": 1}), "methods/0"),
            (
                Kind::Route,
                json!({"uri": "/", "upstream": {"nodes": {"a:1": "x"}}}),
                "upstream/nodes",
            ),
            (Kind::Upstream, json!({}), "nodes, or service_name"),
            (
                Kind::Upstream,
                json!({"nodes": {}, "checks": {"active": {"healthy": {"successes": 0}}}}),
                "\"checks/active/healthy/successes\": expected at least 1, got 0",
            ),
            (
                Kind::Service,
                json!({"upstream": {"nodes": {}, "checks": {"passive": {}}}}),
                "\"upstream/checks/active\"",
            ),
            (
                Kind::Upstream,
                json!({"nodes": {}, "checks": {"active": {"http_method": "FETCH",
                "unhealthy": {"http_statuses": [200, 600]}}}}),
                "\"checks/active/unhealthy/http_statuses/1\": expected at most 599, got 600",
            ),
            (Kind::Ssl, json!({"cert": "x", "key": "y".repeat(64), "sni": "a"}), "\"cert\""),
            (Kind::Ssl, json!({"cert": "c".repeat(128), "key": "k".repeat(64)}), "sni and snis"),
            (Kind::Secret, json!({"uri": "127.0.0.1", "prefix": "p", "token": "t"}), "\"uri\""),
            (Kind::Consumer, json!({"username": "a b"}), "\"username\""),
            (Kind::GlobalRule, json!({"plugins": {}}), "\"id\""),
            (Kind::Proto, json!({"content": ""}), "\"content\": expected at least 1"),
            (Kind::StreamRoute, json!({"server_port": 0}), "\"server_port\": expected at least 1"),
            (Kind::StreamRoute, json!({"uri": "/"}), "\"uri\""),
            (
                Kind::Credential,
                json!({"plugins": {"key-auth": {"key": "k"}, "jwt-auth": {}}}),
                "\"plugins\": expected at most 1 properties",
            ),
            // What the type says, not what the field's docs say.
            (Kind::Service, json!({"id": -100}), "\"id\": expected 1 to 64 of a-z"),
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
        assert_eq!(Kind::of_key("nothings/1"), None);
        assert_eq!(Kind::of_key("routes"), None);
    }
}
