//! Plugins: what runs on a request besides forwarding it.
//!
//! [`Plugin`] is the life of a request as methods in time order; [`Spec`] ties a plugin to its
//! name, priority, schema and constructor; [`registry`] lists them all in order of execution;
//! [`chain`] merges and runs what a route has. A plugin reads no store, no secret reference (its
//! config arrives resolved) and no other plugin.

pub mod auth;
pub mod chain;
pub mod observability;
pub mod registry;
pub mod security;
pub mod serverless;
pub mod traffic;
pub mod transform;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::{Chunk, Ctx, Reply};
use crate::lua;
use crate::resource::Invalid;

/// A compiled plugin. The methods stand in the order in which a request meets them.
///
/// A method runs only when its phase is in [`Spec::PHASES`].
pub trait Plugin: Send + Sync {
    /// Before anything is decided: authenticate, rewrite.
    fn rewrite<'a>(&'a self, _ctx: &'a mut Ctx) -> Flow<'a> {
        Flow::Next
    }

    /// May it pass: limits, restrictions.
    fn access<'a>(&'a self, _ctx: &'a mut Ctx) -> Flow<'a> {
        Flow::Next
    }

    /// The last look before an upstream node is picked.
    fn before_proxy<'a>(&'a self, _ctx: &'a mut Ctx) -> Flow<'a> {
        Flow::Next
    }

    /// The response head is there and not yet sent: `ctx.response`.
    fn header_filter(&self, _ctx: &mut Ctx) {}

    /// A piece of the response's body has come and is not yet sent. The last one says so, and may be
    /// empty. Not called where the response has no body (HEAD, 204, 304).
    fn body_filter(&self, _ctx: &mut Ctx, _chunk: &mut Chunk) {}

    /// Whether this instance filters bodies; asked when it is compiled, where the phase is among
    /// [`Spec::PHASES`]. A response whose body is filtered does not tell its length beforehand.
    fn filters_body(&self) -> bool {
        true
    }

    /// The exchange is over. Runs on every exit, also when the client went away.
    fn log(&self, _ctx: &Ctx) {}

    /// Whether this instance looks at the response's head when the exchange is over; asked when it is
    /// compiled. The head is given away before that, unless somebody wants it.
    fn logs_head(&self) -> bool {
        false
    }
}

/// What a phase decided.
pub enum Flow<'a> {
    /// Go on with the next plugin.
    Next,
    /// Answer with this; the upstream is not asked.
    Respond(Box<Reply>),
    /// Wait for something, then go on or answer. Costs an allocation, so only plugins that must
    /// wait pay for it.
    Wait(Pin<Box<dyn Future<Output = Option<Box<Reply>>> + 'a>>),
}

/// The phases that a plugin takes part in, as a bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases(u8);

/// One phase, in time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Rewrite = 0,
    Access = 1,
    BeforeProxy = 2,
    HeaderFilter = 3,
    BodyFilter = 4,
    Log = 5,
}

/// How a plugin is declared: `impl Spec` and a row in [`registry`] make it known.
pub trait Spec: Plugin + Sized + 'static {
    /// The name in configs: `limit-count`.
    const NAME: &'static str;
    /// Higher runs earlier. As in APISIX's `config.yaml.example`.
    const PRIORITY: i32;
    const PHASES: Phases;
    /// Whether a global rule's instance stands back where the route has one (`run_policy:
    /// prefer_route` in APISIX).
    const PREFER_ROUTE: bool = false;
    /// Whether instances of equal configs are the same to everybody: resources then share one.
    /// Not for a plugin that counts, remembers, or tells its resource.
    const STATELESS: bool = false;
    /// Fields of [`Spec::Config`] that are encrypted at rest (`encrypt_fields` in APISIX).
    const ENCRYPTED: &'static [&'static str] = &[];

    /// The settings; their docs are the user documentation.
    type Config: DeserializeOwned + JsonSchema;

    /// Makes the plugin ready to run.
    ///
    /// # Errors
    /// What the schema cannot say: paths are relative to the plugin's config.
    fn compile(config: Self::Config, build: &Build<'_>) -> Result<Self, Invalid>;
}

/// A plugin that authenticates consumers: consumers carry a config of their own for it.
pub trait Authenticates: Spec {
    /// What a consumer writes under this plugin's name.
    type Consumer: DeserializeOwned + JsonSchema;
    /// Fields of [`Authenticates::Consumer`] that are encrypted at rest.
    const CONSUMER_ENCRYPTED: &'static [&'static str];

    /// The value by which a request finds the consumer.
    fn credential(consumer: Self::Consumer) -> String;
}

/// What a plugin is compiled with.
pub struct Build<'a> {
    /// Store key of the resource that holds the config: `routes/1`.
    pub resource: &'a str,
    /// The plugin's `plugin_metadata`, if there is any.
    pub metadata: Option<&'a Value>,
    /// Whether this is a dry compile whose result is thrown away.
    pub dry: bool,
    /// What plugins share across resources and recompiles.
    pub shared: &'a Shared,
    /// How much of a worker a call of a Lua function may take.
    pub lua: lua::Limits,
}

/// State that outlives every compile.
pub struct Shared {
    /// Counters of the rate limiting plugins.
    pub counters: Arc<traffic::counters::Counters>,
    /// Steps of plugins without state, for resources to share.
    pub steps: std::sync::Mutex<chain::Interned>,
    /// The first config seen of each limit-count group, which all members must equal.
    pub groups: std::sync::Mutex<std::collections::HashMap<String, Value>>,
}

// === impl Phases ===

impl Phases {
    /// For a plugin that has nothing to do on a request.
    pub const NONE: Self = Self(0);
    pub const REWRITE: Self = Self(1 << Phase::Rewrite as u8);
    pub const ACCESS: Self = Self(1 << Phase::Access as u8);
    pub const BEFORE_PROXY: Self = Self(1 << Phase::BeforeProxy as u8);
    pub const HEADER_FILTER: Self = Self(1 << Phase::HeaderFilter as u8);
    pub const BODY_FILTER: Self = Self(1 << Phase::BodyFilter as u8);
    pub const LOG: Self = Self(1 << Phase::Log as u8);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without what is in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `phase` is in the set.
    pub const fn has(self, phase: Phase) -> bool {
        self.0 & (1 << phase as u8) != 0
    }
}

// === impl Phase ===

impl Phase {
    /// Every phase, in time order.
    pub const ALL: [Self; 6] = [
        Self::Rewrite,
        Self::Access,
        Self::BeforeProxy,
        Self::HeaderFilter,
        Self::BodyFilter,
        Self::Log,
    ];

    /// The name in APISIX's documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rewrite => "rewrite",
            Self::Access => "access",
            Self::BeforeProxy => "before_proxy",
            Self::HeaderFilter => "header_filter",
            Self::BodyFilter => "body_filter",
            Self::Log => "log",
        }
    }
}

// === impl Build ===

impl Build<'_> {
    fn interned(&self) -> std::sync::MutexGuard<'_, chain::Interned> {
        // What was put in stays whole whoever panicked.
        self.shared.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

// === impl Shared ===

impl Default for Shared {
    fn default() -> Self {
        Self {
            counters: Arc::new(traffic::counters::Counters::new()),
            steps: std::sync::Mutex::default(),
            groups: std::sync::Mutex::default(),
        }
    }
}

// === impl Flow ===

impl Flow<'_> {
    /// Answers with `reply`.
    pub fn respond(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}
