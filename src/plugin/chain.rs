//! Chains: the plugins of a route, merged and sorted when config is compiled.
//!
//! A [`Step`] is one plugin as one resource configures it. A [`Chain`] holds the steps of a
//! route (or of a consumer, or of the global rules) with one slice a phase, so that nobody is
//! asked who has nothing to say. `_meta` is this file's business alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::registry::{self, Entry};
use super::{Build, Flow, Phase, Plugin};
use crate::context::{Ctx, Reply};
use crate::expr::Expr;
use crate::resource::{Invalid, Said, schema};

/// One plugin as one resource configures it. Equal configs keep their step, and with it the
/// plugin's state, when the resource is compiled again.
pub struct Step {
    pub name: &'static str,
    /// Of what it was compiled from: enough to tell a change, and no secret is kept for it.
    digest: Digest,
    /// Store key of the resource whose config this is, told by `explain`.
    pub source: Arc<str>,
    pub priority: i32,
    entry: &'static Entry,
    filter: Option<Expr>,
    error_response: Option<Bytes>,
    error_is_json: bool,
    plugin: Arc<dyn Plugin>,
}

/// A SHA-256 of a plugin's config and metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Digest([u8; 32]);

/// Steps in order of execution, sliced by phase.
#[derive(Clone, Default)]
pub struct Chain {
    steps: Arc<[Arc<Step>]>,
    by_phase: Arc<[Box<[Arc<Step>]>; 5]>,
}

/// A route's chain with a consumer's plugins laid over it: the consumer's win by name.
pub struct Overlay {
    pub chain: Chain,
    /// What the rewrite phase of the route alone has not run: the consumer is only known after it.
    pub late: Box<[Arc<Step>]>,
}

/// The part of a plugin's config that is the same for every plugin.
///
/// Source: APISIX, "plugin common configurations" in `terminology/plugin.md`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Meta {
    #[serde(default)]
    disable: bool,
    priority: Option<i32>,
    filter: Option<Vec<Value>>,
    error_response: Option<Value>,
    /// Lua; accepted where it is empty.
    pre_function: Option<String>,
}

/// A plugin that a resource names and this version does not have.
pub fn unknown(name: &str) -> Invalid {
    Invalid::new(
        format!("/plugins/{name}"),
        format!("unknown plugin [{name}]"),
        "a plugin that this version has (see /apisix/admin/plugins/list)",
    )
    .saying(Said::Whole(format!("unknown plugin [{name}]")))
}

// === impl Step ===

impl Step {
    /// Compiles one plugin's config, its secrets in place; `None` when `_meta.disable` turns it
    /// off, and from a dry compile of one with references.
    ///
    /// # Errors
    /// Everything wrong with it, by paths relative to the config.
    pub fn compile(
        entry: &'static Entry,
        resolved: &Value,
        build: &Build<'_>,
    ) -> Result<Option<Arc<Self>>, Vec<Invalid>> {
        let (meta, config) = split_meta(resolved)?;
        let filter = match &meta.filter {
            Some(vars) => {
                Some(Expr::compile(vars).map_err(|invalid| vec![invalid.under("/_meta/filter")])?)
            }
            None => None,
        };
        if meta.pre_function.is_some() {
            return Err(vec![Invalid::new(
                "/_meta/pre_function",
                "a Lua function",
                "nothing: Lua is not supported yet",
            )]);
        }
        if build.dry && schema::has_reference(&config) {
            // Nobody can see behind references here; compiling for good checks what they stand for.
            entry.check_unresolved(&config)?;
            return Ok(None);
        }
        let plugin = entry.compile(&config, build)?;
        if meta.disable {
            return Ok(None);
        }
        let error_is_json = meta.error_response.as_ref().is_some_and(Value::is_object);
        let error_response = meta.error_response.map(|body| match body {
            Value::String(text) => Bytes::from(text),
            other => Bytes::from(other.to_string()),
        });
        Ok(Some(Arc::new(Self {
            name: entry.name,
            digest: Digest::of(resolved, build.metadata),
            source: build.resource.into(),
            priority: meta.priority.unwrap_or(entry.priority),
            entry,
            filter,
            error_response,
            error_is_json,
            plugin,
        })))
    }

    /// Whether this step of a global rule stands back for the route's own of that name.
    pub fn yields_to(&self, route: Option<&Chain>) -> bool {
        self.entry.prefer_route
            && route.is_some_and(|chain| chain.steps.iter().any(|step| step.name == self.name))
    }

    fn applies(&self, ctx: &Ctx) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(ctx))
    }

    /// Runs one of the phases that may answer; `Some` ends the request with that reply.
    pub async fn run(&self, phase: Phase, ctx: &mut Ctx) -> Option<Box<Reply>> {
        if !self.applies(ctx) {
            return None;
        }
        let flow = match phase {
            Phase::Rewrite => self.plugin.rewrite(ctx),
            Phase::Access => self.plugin.access(ctx),
            Phase::BeforeProxy => self.plugin.before_proxy(ctx),
            Phase::HeaderFilter | Phase::Log => Flow::Next,
        };
        let reply = match flow {
            Flow::Next => return None,
            Flow::Respond(reply) => reply,
            Flow::Wait(wait) => wait.await?,
        };
        Some(self.with_error_response(reply))
    }

    /// Looks at the response head.
    pub fn header_filter(&self, ctx: &mut Ctx) {
        if self.applies(ctx) {
            self.plugin.header_filter(ctx);
        }
    }

    /// Writes the exchange down.
    pub fn log(&self, ctx: &Ctx) {
        if self.applies(ctx) {
            self.plugin.log(ctx);
        }
    }

    fn with_error_response(&self, mut reply: Box<Reply>) -> Box<Reply> {
        if let Some(body) = &self.error_response
            && reply.status.as_u16() >= 400
        {
            reply.body = body.clone();
            if self.error_is_json {
                reply.headers.insert(
                    http::header::CONTENT_TYPE,
                    http::HeaderValue::from_static("application/json"),
                );
            }
        }
        reply
    }
}

// === impl Digest ===

impl Digest {
    fn of(resolved: &Value, metadata: Option<&Value>) -> Self {
        use aws_lc_rs::digest::{Context, SHA256};
        let mut context = Context::new(&SHA256);
        context.update(resolved.to_string().as_bytes());
        if let Some(metadata) = metadata {
            // No JSON text has a zero byte in it.
            context.update(b"\0");
            context.update(metadata.to_string().as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

// === impl Chain ===

impl Chain {
    /// The chain of `steps`, at most one a plugin name, in any order.
    pub fn new(mut steps: Vec<Arc<Step>>) -> Self {
        // Highest first; equal priorities run in the registry's order, which a stable sort by
        // built-in priority gives before the one that users may change.
        steps.sort_by_key(|step| std::cmp::Reverse(step.entry.priority));
        steps.sort_by_key(|step| std::cmp::Reverse(step.priority));
        if steps.is_empty() {
            return Self::default();
        }
        let by_phase = Phase::ALL.map(|phase| {
            let takes_part = |step: &&Arc<Step>| step.entry.phases.has(phase);
            steps.iter().filter(takes_part).cloned().collect()
        });
        Self { steps: steps.into(), by_phase: Arc::new(by_phase) }
    }

    /// Joins the plugins of several resources; a name in an earlier one hides it in later ones.
    pub fn merge<'a>(sources: impl IntoIterator<Item = &'a Plugins>) -> Self {
        let mut merged: BTreeMap<&str, Option<&Arc<Step>>> = BTreeMap::new();
        for source in sources {
            for (name, step) in &source.steps {
                merged.entry(name).or_insert(step.as_ref());
            }
        }
        Self::new(merged.into_values().flatten().cloned().collect())
    }

    /// The steps in order of execution.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The steps that take part in `phase`, in order.
    pub fn phase(&self, phase: Phase) -> &[Arc<Step>] {
        &self.by_phase[phase as usize]
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// This chain of a route once a consumer is known who has plugins to run.
    #[must_use]
    pub fn overlaid(&self, consumer: &Self) -> Overlay {
        let hidden = |step: &&Arc<Step>| !consumer.steps.iter().any(|own| own.name == step.name);
        let kept = self.steps.iter().filter(hidden);
        let ran = self.phase(Phase::Rewrite);
        let is_late = |step: &&Arc<Step>| !ran.iter().any(|other| other.name == step.name);
        Overlay {
            chain: Self::new(consumer.steps.iter().chain(kept).cloned().collect()),
            late: consumer.phase(Phase::Rewrite).iter().filter(is_late).cloned().collect(),
        }
    }
}

/// The compiled plugins of one resource by name; `None` for one that `_meta` disables, which
/// still hides the same plugin of a resource below.
#[derive(Clone, Default)]
pub struct Plugins {
    pub steps: BTreeMap<&'static str, Option<Arc<Step>>>,
}

// === impl Plugins ===

impl Plugins {
    /// Compiles the `plugins` object of a resource, its secrets in place, taking over from `old`
    /// what is the same.
    ///
    /// # Errors
    /// Everything wrong with any of them, by paths relative to the resource.
    pub fn compile(
        resolved: &BTreeMap<String, Value>,
        old: Option<&Self>,
        metadata: impl Fn(&str) -> Option<Value>,
        build: &Build<'_>,
    ) -> Result<Self, Vec<Invalid>> {
        let mut steps = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, resolved) in resolved {
            let Some(entry) = registry::find(name) else {
                wrong.push(unknown(name));
                continue;
            };
            let metadata = metadata(name);
            let kept = old
                .and_then(|old| old.steps.get(entry.name))
                .and_then(Option::as_ref)
                .filter(|step| step.digest == Digest::of(resolved, metadata.as_ref()));
            if let Some(step) = kept {
                steps.insert(entry.name, Some(step.clone()));
                continue;
            }
            let build = Build { metadata: metadata.as_ref(), ..*build };
            match Step::compile(entry, resolved, &build) {
                Ok(step) => {
                    steps.insert(entry.name, step);
                }
                Err(problems) => {
                    let prefix = format!("/plugins/{name}");
                    wrong.extend(problems.into_iter().map(|problem| problem.under(&prefix)));
                }
            }
        }
        if wrong.is_empty() { Ok(Self { steps }) } else { Err(wrong) }
    }
}

fn split_meta(config: &Value) -> Result<(Meta, Value), Vec<Invalid>> {
    let mut config = config.clone();
    let meta = match config.as_object_mut() {
        Some(fields) => fields.remove("_meta"),
        None => {
            return Err(vec![Invalid::new("", "something else", "an object")]);
        }
    };
    let meta = match meta {
        Some(meta) => serde_json::from_value(meta).map_err(|error| {
            vec![Invalid::new("/_meta", error, "disable, priority, filter or error_response")]
        })?,
        None => Meta::default(),
    };
    Ok((meta, config))
}
