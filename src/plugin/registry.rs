//! Every plugin, in order of execution.
//!
//! A plugin is one file and one row here. All that the rest of Sluice knows of a plugin by name
//! is its [`Entry`].

use std::sync::{Arc, LazyLock};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::auth::key_auth::KeyAuth;
use super::chain::{Step, Terms};
use super::observability::prometheus::Prometheus;
use super::security::ocsp_stapling::OcspStapling;
use super::serverless::{PostFunction, PreFunction};
use super::traffic::limit_count::LimitCount;
use super::transform::proxy_rewrite::ProxyRewrite;
use super::{Authenticates, Build, Phases, Spec};
use crate::resource::{Invalid, schema};

/// The plugins by falling priority, which is the order in which they run.
static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    vec![
        Entry::of::<PreFunction>(),
        Entry::authenticating::<KeyAuth>(),
        Entry::of::<ProxyRewrite>(),
        Entry::of::<LimitCount>().with_metadata::<super::traffic::limit_count::Metadata>(),
        Entry::of::<Prometheus>(),
        Entry::of::<OcspStapling>(),
        Entry::of::<PostFunction>(),
    ]
});

type Compile = fn(Value, &Build<'_>, Terms) -> Result<Arc<Step>, Invalid>;

/// What there is to know about a plugin.
pub struct Entry {
    pub name: &'static str,
    pub priority: i32,
    pub phases: Phases,
    /// Whether a global rule's instance stands back where the route has one.
    pub prefer_route: bool,
    /// Whether resources with equal configs share one instance.
    pub stateless: bool,
    /// Fields that are encrypted at rest.
    pub encrypted: &'static [&'static str],
    /// Set for plugins that authenticate.
    pub consumer: Option<Credentials>,
    /// The schema of the plugin's `plugin_metadata`.
    pub metadata: Option<schema::Validator>,
    validator: schema::Validator,
    compile: Compile,
}

/// What a consumer writes for a plugin that authenticates.
pub struct Credentials {
    pub validator: schema::Validator,
    /// Fields that are encrypted at rest.
    pub encrypted: &'static [&'static str],
    credential: fn(Value) -> Result<String, Invalid>,
}

/// Every plugin, in order of execution.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The plugin called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

// === impl Entry ===

impl Entry {
    fn of<P: Spec>() -> Self {
        Self {
            name: P::NAME,
            priority: P::PRIORITY,
            phases: P::PHASES,
            prefer_route: P::PREFER_ROUTE,
            stateless: P::STATELESS,
            encrypted: P::ENCRYPTED,
            consumer: None,
            metadata: None,
            validator: schema::Validator::of::<P::Config>(),
            compile: |config, build, terms| {
                Ok(Step::new(terms, P::compile(decode(config)?, build)?))
            },
        }
    }

    fn authenticating<P: Authenticates>() -> Self {
        Self {
            consumer: Some(Credentials {
                validator: schema::Validator::of::<P::Consumer>(),
                encrypted: P::CONSUMER_ENCRYPTED,
                credential: |config| Ok(P::credential(decode(config)?)),
            }),
            ..Self::of::<P>()
        }
    }

    fn with_metadata<M: schemars::JsonSchema>(mut self) -> Self {
        self.metadata = Some(schema::Validator::of::<M>());
        self
    }

    /// The JSON Schema of the plugin's config.
    pub fn schema(&self) -> &Value {
        self.validator.schema()
    }

    /// Checks a config (without `_meta`) against the schema.
    ///
    /// # Errors
    /// Everything that the schema refuses.
    pub fn check(&self, config: &Value) -> Result<(), Vec<Invalid>> {
        self.validator.check(config)
    }

    /// As [`Entry::check`], for a config whose references are not resolved.
    ///
    /// # Errors
    /// Everything that the schema refuses, but for what a reference stands for.
    pub fn check_unresolved(&self, config: &Value) -> Result<(), Vec<Invalid>> {
        self.validator.check_unresolved(config)
    }

    /// Compiles a config whose references are resolved, to run on these terms.
    ///
    /// # Errors
    /// What the schema refuses, and what the plugin itself does.
    pub fn compile(
        &self,
        config: &Value,
        build: &Build<'_>,
        terms: Terms,
    ) -> Result<Arc<Step>, Vec<Invalid>> {
        self.check(config)?;
        (self.compile)(config.clone(), build, terms).map_err(|invalid| vec![invalid])
    }
}

// === impl Credentials ===

impl Credentials {
    /// The credential in a consumer's config whose references are resolved.
    ///
    /// # Errors
    /// What the schema refuses.
    pub fn credential(&self, config: &Value) -> Result<String, Vec<Invalid>> {
        self.validator.check(config)?;
        (self.credential)(config.clone()).map_err(|invalid| vec![invalid])
    }
}

/// Decodes what the schema has admitted; an error here means that the two disagree.
fn decode<T: DeserializeOwned>(config: Value) -> Result<T, Invalid> {
    serde_json::from_value(config)
        .map_err(|error| Invalid::new("", error, "what the plugin's schema admits"))
}
