//! Chains: the plugins of a route, merged and sorted when config is compiled.
//!
//! A [`Step`] is one plugin as one resource configures it. A [`Chain`] holds the steps of a
//! route (or of a consumer, or of the global rules) with one slice a phase, so that nobody is
//! asked who has nothing to say. `_meta` is this file's business alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;

use super::registry::{self, Entry};
use super::{Build, Flow, Phase, Phases, Plugin};
use crate::context::{Chunk, Ctx, Reply};
use crate::expr::{Expr, Wants};
use crate::lua::{self, Function, Outcome};
use crate::resource::{Invalid, Said, schema};

/// One plugin as one resource configures it. Equal configs keep their step, and with it the
/// plugin's state, when the resource is compiled again.
pub struct Step<P: ?Sized = dyn Plugin> {
    terms: Terms,
    /// Those of the plugin that this instance takes part in.
    phases: Phases,
    /// In place: with many routes each block of its own is one more that has to be fetched from
    /// memory.
    plugin: P,
}

/// On what terms a plugin runs.
pub struct Terms {
    entry: &'static Entry,
    /// Of what it was compiled from: enough to tell a change, and no secret is kept for it.
    digest: Digest,
    priority: i32,
    /// Of the few that have a filter or a response of their own.
    extras: Option<Box<Extras>>,
    /// What the config asks for, and in a step its plugin besides.
    wants: Wants,
}

/// What `_meta` says besides disabling and priority.
#[derive(Default)]
struct Extras {
    filter: Option<Expr>,
    /// `_meta.pre_function`, called before the plugin in each of its phases.
    before: Option<Function>,
    error_response: Option<Bytes>,
    error_is_json: bool,
}

/// Half of a SHA-256 of a plugin's config and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Digest([u8; 16]);

/// Steps of plugins that keep no state, by what they were compiled from: ten thousand routes that
/// say `"prometheus": {}` share one, which then stays in a worker's cache.
#[derive(Default)]
pub struct Interned {
    by_config: HashMap<(&'static str, Digest), Weak<Step>>,
    /// How many there may be before those that nobody holds any more are looked for.
    sweep_at: usize,
}

/// Steps in order of execution, sliced by phase.
#[derive(Clone, Default)]
pub struct Chain {
    /// Every step, and after them those of each phase in turn; of a few plugins in place, as a
    /// block of their own would be one more that has to be fetched from memory.
    steps: SmallVec<[Arc<Step>; 6]>,
    /// Where in `steps` all of them end, and those of each phase.
    ends: [u16; Phase::ALL.len() + 1],
    /// Plugins that `_meta.disable` turns off: laid over another chain they are off there too.
    off: Box<[&'static str]>,
    wants: Wants,
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
    /// Lua that gives a function of the plugin's config and the exchange.
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

// === impl Terms ===

impl Terms {
    fn before(&self) -> Option<&Function> {
        self.extras.as_ref()?.before.as_ref()
    }
}

// === impl Step ===

impl<P: Plugin + 'static> Step<P> {
    /// A compiled plugin that runs on these terms.
    pub fn new(mut terms: Terms, plugin: P) -> Arc<Step> {
        let phases = if plugin.filters_body() {
            terms.entry.phases
        } else {
            terms.entry.phases.without(Phases::BODY_FILTER)
        };
        terms.wants.response_body = phases.has(Phase::BodyFilter);
        let is_preceded = phases.has(Phase::Log) && terms.before().is_some();
        terms.wants.response_head |= plugin.logs_head() || is_preceded;
        Arc::new(Self { terms, phases, plugin })
    }
}

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
        let mut extras = Extras::compile(&meta)?;
        if let Some(text) = &meta.pre_function {
            extras.before = Some(pre_function(text, entry.name, &config, build)?);
        }
        if build.dry && schema::has_reference(&config) {
            // Nobody can see behind references here; compiling for good checks what they stand for.
            entry.check_unresolved(&config)?;
            return Ok(None);
        }
        let terms = Terms {
            entry,
            digest: Digest::of(resolved, build.metadata),
            priority: meta.priority.unwrap_or(entry.priority),
            extras: extras.is_some().then(|| Box::new(extras)),
            wants: Wants::all([resolved].into_iter().chain(build.metadata).map(Wants::of)),
        };
        let step = entry.compile(&config, build, terms)?;
        Ok(Some(step).filter(|_| !meta.disable))
    }

    /// The plugin's name.
    pub fn name(&self) -> &'static str {
        self.terms.entry.name
    }

    /// Higher runs earlier: the plugin's, or what `_meta` says.
    pub fn priority(&self) -> i32 {
        self.terms.priority
    }

    /// Whether this step of a global rule stands back for the route's own of that name.
    pub fn yields_to(&self, route: Option<&Chain>) -> bool {
        self.terms.entry.prefer_route
            && route.is_some_and(|chain| chain.steps().iter().any(|step| step.is_of(self)))
    }

    /// Whether `_meta.filter` lets it run.
    pub fn applies(&self, ctx: &Ctx) -> bool {
        let filter = self.terms.extras.as_ref().and_then(|extras| extras.filter.as_ref());
        filter.is_none_or(|filter| filter.matches(ctx))
    }

    /// Whether resources may share it: a function before it tells its resource.
    fn is_shared(&self) -> bool {
        self.terms.entry.stateless && self.terms.before().is_none()
    }

    /// The phases that it takes part in.
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// Whether both are steps of the same plugin.
    fn is_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.terms.entry, other.terms.entry)
    }

    /// Runs one of the phases that may answer; `Some` ends the request with that reply.
    pub async fn run(&self, phase: Phase, ctx: &mut Ctx) -> Option<Box<Reply>> {
        if !self.applies(ctx) {
            return None;
        }
        // That it fails does not keep the plugin from running, as in APISIX.
        if let Some(before) = self.terms.before()
            && let Outcome::Respond(reply) = before.call(lua::Phase::Access, ctx)
        {
            return Some(reply);
        }
        let flow = match phase {
            Phase::Rewrite => self.plugin.rewrite(ctx),
            Phase::Access => self.plugin.access(ctx),
            Phase::BeforeProxy => self.plugin.before_proxy(ctx),
            Phase::HeaderFilter | Phase::BodyFilter | Phase::Log => Flow::Next,
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
            if let Some(before) = self.terms.before() {
                before.call(lua::Phase::HeaderFilter, ctx);
            }
            self.plugin.header_filter(ctx);
        }
    }

    /// Looks at a piece of the response's body.
    pub fn body_filter(&self, ctx: &mut Ctx, chunk: &mut Chunk) {
        if self.applies(ctx) {
            if let Some(before) = self.terms.before()
                && !before.filter_body(ctx, chunk)
            {
                // It may have kept a part of the body, without which the rest is not whole.
                ctx.response.withheld = true;
                return;
            }
            self.plugin.body_filter(ctx, chunk);
        }
    }

    /// Writes the exchange down.
    pub fn log(&self, ctx: &Ctx) {
        if self.applies(ctx) {
            if let Some(before) = self.terms.before() {
                before.look(lua::Phase::Log, ctx);
            }
            self.plugin.log(ctx);
        }
    }

    fn with_error_response(&self, mut reply: Box<Reply>) -> Box<Reply> {
        if let Some(extras) = &self.terms.extras
            && let Some(body) = &extras.error_response
            && reply.status.as_u16() >= 400
        {
            reply.body = body.clone();
            if extras.error_is_json {
                reply.headers.insert(
                    http::header::CONTENT_TYPE,
                    http::HeaderValue::from_static("application/json"),
                );
            }
        }
        reply
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest, not the config: that may hold secrets.
        f.debug_tuple(self.name()).field(&self.terms.digest).finish()
    }
}

// === impl Extras ===

impl Extras {
    fn compile(meta: &Meta) -> Result<Self, Vec<Invalid>> {
        let filter = match &meta.filter {
            Some(vars) => {
                Some(Expr::compile(vars).map_err(|invalid| vec![invalid.under("/_meta/filter")])?)
            }
            None => None,
        };
        let error_response = meta.error_response.as_ref().map(|body| match body {
            Value::String(text) => Bytes::from(text.clone()),
            other => Bytes::from(other.to_string()),
        });
        let error_is_json = meta.error_response.as_ref().is_some_and(Value::is_object);
        Ok(Self { filter, before: None, error_response, error_is_json })
    }

    /// Whether there is anything in it.
    fn is_some(&self) -> bool {
        self.filter.is_some() || self.before.is_some() || self.error_response.is_some()
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
        let mut digest = [0; 16];
        digest.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(digest)
    }
}

// === impl Chain ===

impl Chain {
    /// The chain of `steps`, at most one a plugin name, in any order.
    pub fn new(mut steps: Vec<Arc<Step>>) -> Self {
        // Highest first; equal priorities run in the registry's order, which a stable sort by
        // built-in priority gives before the one that users may change.
        steps.sort_by_key(|step| std::cmp::Reverse(step.terms.entry.priority));
        steps.sort_by_key(|step| std::cmp::Reverse(step.priority()));
        if steps.is_empty() {
            return Self::default();
        }
        let wants = Wants::all(steps.iter().map(|step| step.terms.wants));
        let count = steps.len();
        let mut ends = [0; Phase::ALL.len() + 1];
        // There are far fewer plugins, and a chain has one a name.
        let end_of = |steps: &[Arc<Step>]| u16::try_from(steps.len()).unwrap_or(u16::MAX);
        ends[0] = end_of(&steps);
        for phase in Phase::ALL {
            let takes_part = |at: &usize| steps[*at].phases.has(phase);
            let those: Vec<usize> = (0..count).filter(takes_part).collect();
            steps.extend(those.into_iter().map(|at| steps[at].clone()).collect::<Vec<_>>());
            ends[phase as usize + 1] = end_of(&steps);
        }
        Self { steps: steps.into(), ends, off: Box::default(), wants }
    }

    /// Joins the plugins of several resources; a name in an earlier one hides it in later ones.
    pub fn merge<'a>(sources: impl IntoIterator<Item = &'a Plugins>) -> Self {
        let mut merged: BTreeMap<&'static str, Option<&Arc<Step>>> = BTreeMap::new();
        for source in sources {
            for (entry, step) in &source.steps {
                merged.entry(entry.name).or_insert(step.as_ref());
            }
        }
        let off = merged.iter().filter(|(_, step)| step.is_none()).map(|(name, _)| *name).collect();
        Self { off, ..Self::new(merged.into_values().flatten().cloned().collect()) }
    }

    /// The steps in order of execution.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps[..self.ends[0].into()]
    }

    /// The steps that take part in `phase`, in order.
    pub fn phase(&self, phase: Phase) -> &[Arc<Step>] {
        let phase = phase as usize;
        &self.steps[self.ends[phase].into()..self.ends[phase + 1].into()]
    }

    /// Has the steps fetched from memory while other things are done: there are as many as routes,
    /// and they are seldom at hand when their turn comes.
    pub fn fetch_ahead(&self) {
        for step in self.steps() {
            let (start, size) = (Arc::as_ptr(step).cast::<u8>(), size_of_val(&**step));
            for line in (0..size).step_by(LINE) {
                fetch_ahead(start.wrapping_add(line));
            }
            // A step need not begin where a line does.
            fetch_ahead(start.wrapping_add(size - 1));
        }
    }

    /// What the configs of its plugins ask for.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// Whether there is nothing to run, and nothing to turn off.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.off.is_empty()
    }

    /// Whether a plugin of this name is hidden in a chain that this one is laid over.
    fn hides(&self, name: &str) -> bool {
        self.off.contains(&name) || self.steps().iter().any(|own| own.name() == name)
    }

    /// This chain of a route once a consumer is known who has plugins to run.
    #[must_use]
    pub fn overlaid(&self, consumer: &Self) -> Overlay {
        let kept = self.steps().iter().filter(|step| !consumer.hides(step.name()));
        let ran = self.phase(Phase::Rewrite);
        let is_late = |step: &&Arc<Step>| !ran.iter().any(|other| other.is_of(step));
        Overlay {
            chain: Self::new(consumer.steps().iter().chain(kept).cloned().collect()),
            late: consumer.phase(Phase::Rewrite).iter().filter(is_late).cloned().collect(),
        }
    }
}

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Asks for the line that `address` is on, where the processor can be asked.
#[inline]
fn fetch_ahead(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it may be given any address: it reads nothing
        // that the program sees, and does not fault.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The compiled plugins of one resource, by name.
#[derive(Clone, Default)]
pub struct Plugins {
    steps: Box<[Named]>,
}

/// What a resource says of a plugin; `None` where `_meta` disables it, which still hides the same
/// plugin of a resource below.
type Named = (&'static Entry, Option<Arc<Step>>);

// === impl Interned ===

impl Interned {
    fn get(&self, entry: &Entry, digest: Digest) -> Option<Arc<Step>> {
        self.by_config.get(&(entry.name, digest))?.upgrade()
    }

    fn insert(&mut self, step: &Arc<Step>) {
        if self.by_config.len() >= self.sweep_at {
            self.by_config.retain(|_, step| step.strong_count() > 0);
            self.sweep_at = (self.by_config.len() * 2).max(64);
        }
        self.by_config.insert((step.name(), step.terms.digest), Arc::downgrade(step));
    }
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
        let mut steps = Vec::with_capacity(resolved.len());
        let mut wrong = Vec::new();
        for (name, resolved) in resolved {
            let Some(entry) = registry::find(name) else {
                wrong.push(unknown(name));
                continue;
            };
            let metadata = metadata(name);
            let digest = Digest::of(resolved, metadata.as_ref());
            let kept =
                old.and_then(|old| old.get(entry)).filter(|step| step.terms.digest == digest);
            let interned =
                || if entry.stateless { build.interned().get(entry, digest) } else { None };
            if let Some(step) = kept.cloned().or_else(interned) {
                steps.push((entry, Some(step)));
                continue;
            }
            let build = Build { metadata: metadata.as_ref(), ..*build };
            match Step::compile(entry, resolved, &build) {
                Ok(step) => {
                    if let Some(step) = step.as_ref().filter(|step| step.is_shared()) {
                        build.interned().insert(step);
                    }
                    steps.push((entry, step));
                }
                Err(problems) => {
                    let prefix = format!("/plugins/{name}");
                    wrong.extend(problems.into_iter().map(|problem| problem.under(&prefix)));
                }
            }
        }
        if wrong.is_empty() { Ok(Self { steps: steps.into() }) } else { Err(wrong) }
    }

    /// The steps that run, by plugin name.
    pub fn steps(&self) -> impl Iterator<Item = &Arc<Step>> {
        self.steps.iter().filter_map(|(_, step)| step.as_ref())
    }

    /// What these plugins say of the plugin called `name`: `None` nothing, `Some(None)` that it
    /// does not run.
    pub fn says(&self, name: &str) -> Option<Option<&Arc<Step>>> {
        let of_name = self.steps.iter().find(|(entry, _)| entry.name == name);
        of_name.map(|(_, step)| step.as_ref())
    }

    fn get(&self, entry: &Entry) -> Option<&Arc<Step>> {
        self.says(entry.name).flatten()
    }
}

/// Compiles the `_meta.pre_function` of a plugin, which gets the plugin's `config`.
fn pre_function(
    text: &str,
    plugin: &str,
    config: &Value,
    build: &Build<'_>,
) -> Result<Function, Vec<Invalid>> {
    let label = format!("{} {plugin} _meta.pre_function", build.resource);
    Function::chunk(text, Some("meta pre_function"), &label, config.clone(), build.lua)
        .map_err(|invalid| vec![invalid.under("/_meta/pre_function")])
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
            vec![Invalid::new(
                "/_meta",
                error,
                "disable, priority, filter, error_response or pre_function",
            )]
        })?,
        None => Meta::default(),
    };
    Ok((meta, config))
}
