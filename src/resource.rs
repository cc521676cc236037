//! Resources: what users write through the Admin API, one file a kind.
//!
//! A resource is a type, its JSON Schema (derived from the type, so the two cannot drift apart)
//! and its defaults. Plugin configs stay JSON here: this room knows no plugin.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
        Self {
            path: path.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
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
            write!(
                f,
                "property \"{path}\": expected {}, got {}",
                self.expected, self.value
            )
        }
    }
}

impl std::error::Error for Invalid {}

/// The kinds of resource that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Ssl,
    Upstream,
    Service,
    PluginConfig,
    PluginMetadata,
    GlobalRule,
    Consumer,
    Route,
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order in which a full load compiles them (what is referred to first).
    pub const ALL: [Self; 9] = [
        Self::Secret,
        Self::Ssl,
        Self::Upstream,
        Self::Service,
        Self::PluginConfig,
        Self::PluginMetadata,
        Self::GlobalRule,
        Self::Consumer,
        Self::Route,
    ];

    /// The folder of this kind under the store's prefix and in Admin API paths.
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Ssl => "ssls",
            Self::Upstream => "upstreams",
            Self::Service => "services",
            Self::PluginConfig => "plugin_configs",
            Self::PluginMetadata => "plugin_metadata",
            Self::GlobalRule => "global_rules",
            Self::Consumer => "consumers",
            Self::Route => "routes",
        }
    }

    /// The kind whose folder is `dir`, `None` for a folder that this version does not serve.
    pub fn of_dir(dir: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dir() == dir)
    }

    /// Splits a store key (`routes/1`, `secrets/vault/1`) into kind and id.
    ///
    /// `None` for keys of other kinds and for keys below an id, such as
    /// `consumers/jack/credentials/1`.
    pub fn of_key(key: &str) -> Option<(Self, &str)> {
        let (dir, id) = key.split_once('/')?;
        let kind = Self::of_dir(dir)?;
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
