//! Why a request gets the route that it gets: the walk of the request's own way, told.
//!
//! Candidates are asked by the very code that requests are asked by, so an explanation cannot
//! differ from what happens. What a plugin would do with the request is not tried: it may count,
//! or call somebody.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::compile::Compiler;
use super::parts::{ConsumerPart, RoutePart};
use super::{Refusal, Route, Snapshot};
use crate::context::Ctx;
use crate::expr::{Expr, Variable, Variables as _};
use crate::plugin::chain::{Chain, Plugins, Step};
use crate::plugin::{Phase, registry};
use crate::resource::{self, Kind};
use crate::router::Found;
use crate::upstream::Upstream;

/// The most candidates that are told one by one.
const MOST: usize = 100;

/// The most characters of a variable's value that are told.
const LONGEST: usize = 200;

/// What becomes of a request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The store's revision that this is told of.
    pub revision: i64,
    /// The route that answers; none means 404.
    pub route: Option<Matched>,
    /// Those that were asked before, best first, and why each refused.
    pub refused: Vec<Refused>,
    /// How many more refused than are listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_refused: usize,
    /// In order of execution: those of global rules, then the route's and the consumer's.
    pub plugins: Vec<Told>,
    /// Plugins that would run if another resource, or `_meta.disable`, did not stand before them.
    pub hidden_plugins: Vec<Hidden>,
    pub consumer: Option<String>,
    /// Who is asked for the response; none where plugins have to answer.
    pub upstream: Option<UpstreamTold>,
    /// What the reader should know besides.
    pub notes: Vec<String>,
}

/// The route that answers.
#[derive(Debug, Serialize)]
pub struct Matched {
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// The pattern by which it matched.
    pub uri: Arc<str>,
    pub host: Option<Arc<str>>,
    pub priority: i64,
    pub service_id: Option<Arc<str>>,
}

/// A route that was asked and refused.
#[derive(Debug, Serialize)]
pub struct Refused {
    pub id: Arc<str>,
    pub uri: Arc<str>,
    pub host: Option<Arc<str>>,
    pub priority: i64,
    /// The field that refused: `methods`, `remote_addrs`, `vars`, `filter_func`.
    pub by: &'static str,
    pub reason: String,
}

/// A plugin that takes part.
#[derive(Debug, Serialize)]
pub struct Told {
    pub name: &'static str,
    pub priority: i32,
    pub phases: Vec<&'static str>,
    /// The resource whose config it is: `routes/1`.
    pub source: String,
    /// Whether `_meta.filter` lets it run for this request, as far as can be said before it runs.
    pub runs: bool,
}

/// A plugin's config that has no say.
#[derive(Debug, Serialize)]
pub struct Hidden {
    pub name: &'static str,
    pub source: String,
    /// The resource that stands before it, or that disables the plugin.
    pub by: String,
}

#[derive(Debug, Serialize)]
pub struct UpstreamTold {
    /// The resource that it is written in.
    pub source: Arc<str>,
    pub scheme: &'static str,
    pub nodes: Vec<NodeTold>,
    /// Names of nodes that no address is known of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct NodeTold {
    pub host: String,
    pub addr: String,
    /// Its share of the requests among the nodes of the same priority, in per cent.
    pub share: f64,
    pub priority: i32,
    /// `unknown`: nobody checks it.
    pub health: &'static str,
}

/// Plugins of a resource, under the resource's key.
type Source<'p> = (String, &'p Plugins);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What the routes of a snapshot say of a request.
pub struct Asked<'s> {
    revision: i64,
    refused: Vec<(Found<'s, Route>, Refusal)>,
    more_refused: usize,
    found: Option<Found<'s, Route>>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Asks the routes about the request of `ctx`, as the request itself would. Functions of the
    /// config run for it, so nothing should be held meanwhile.
    pub fn ask(&self, ctx: &Ctx) -> Asked<'_> {
        let (mut refused, mut more_refused) = (Vec::new(), 0);
        let found = self.candidates(ctx, |found| {
            // Where the body is not told, what is asked of it has no answer.
            let refusal = found.refusal(ctx);
            let refusal = refusal.or(ctx.payload.take_missed().map(|_| Refusal::Body));
            match refusal {
                None => return ControlFlow::Break(found),
                Some(why) if refused.len() < MOST => refused.push((found, why)),
                Some(_) => more_refused += 1,
            }
            ControlFlow::Continue(())
        });
        Asked { revision: self.revision, refused, more_refused, found: found.break_value() }
    }
}

// === impl Compiler ===

impl Compiler {
    /// What becomes of the request of `ctx`, which the routes have been `asked` about, made by the
    /// consumer called `consumer`.
    ///
    /// # Errors
    /// There is no consumer of that name.
    pub fn explain(
        &self,
        ctx: &Ctx,
        asked: &Asked<'_>,
        consumer: Option<&str>,
    ) -> Result<Explanation, String> {
        let consumer = match consumer {
            None => None,
            Some(name) => match self.parts.consumers.get(name) {
                Some(part) => Some(part),
                None => return Err(format!("there is no consumer {name}")),
            },
        };
        let refused = asked.refused.iter();
        let mut told = Explanation {
            revision: asked.revision,
            route: None,
            refused: refused.map(|(found, why)| self.refused(ctx, found, *why)).collect(),
            more_refused: asked.more_refused,
            plugins: Vec::new(),
            hidden_plugins: Vec::new(),
            consumer: consumer.map(|part| part.consumer.name.to_string()),
            upstream: None,
            notes: Vec::new(),
        };
        self.globals(&mut told, ctx);
        if let Some(found) = &asked.found {
            self.matched(&mut told, ctx, found, consumer);
        }
        Ok(told)
    }

    fn refused(&self, ctx: &Ctx, found: &Found<'_, Route>, refusal: Refusal) -> Refused {
        let matcher = found.matcher();
        let (by, reason) = match refusal {
            Refusal::Method => {
                let names: Vec<_> = matcher.methods.names().collect();
                ("methods", format!("{} is not one of {}", ctx.request.method, names.join(", ")))
            }
            Refusal::Address => {
                let rare = found.value().rare.as_ref();
                let networks = rare.iter().flat_map(|rare| &rare.remote_addrs);
                let networks: Vec<_> = networks.map(ToString::to_string).collect();
                let reason =
                    format!("the client {} is in none of {}", ctx.remote_ip(), networks.join(", "));
                ("remote_addrs", reason)
            }
            Refusal::Body => {
                let reason = "it depends on the request's body, which is not told: send it along";
                ("vars", reason.to_owned())
            }
            Refusal::Filter => ("filter_func", "the function did not say true".to_owned()),
            Refusal::Vars => {
                let written = self.written(Kind::Route, &matcher.id).unwrap_or_default();
                ("vars", first_that_fails(&written["vars"], ctx))
            }
        };
        Refused {
            id: matcher.id.clone(),
            uri: found.path().text().clone(),
            host: found.host().cloned(),
            priority: matcher.priority,
            by,
            reason,
        }
    }

    fn globals(&self, told: &mut Explanation, ctx: &Ctx) {
        for step in self.current.globals.steps() {
            let of_rule = |(_, plugins): &(_, &Plugins)| {
                plugins.says(step.name()).flatten().is_some_and(|own| Arc::ptr_eq(own, step))
            };
            let rule = self.parts.globals.iter().find(of_rule).map_or("?", |(id, _)| &**id);
            told.plugins.push(plugin(step, format!("global_rules/{rule}"), ctx));
        }
    }

    fn matched(
        &self,
        told: &mut Explanation,
        ctx: &Ctx,
        found: &Found<'_, Route>,
        consumer: Option<&ConsumerPart>,
    ) {
        let route = found.value();
        let id = &found.matcher().id;
        let labels = found.labels();
        told.route = Some(Matched {
            id: id.clone(),
            name: labels.name.clone(),
            uri: found.path().text().clone(),
            host: found.host().cloned(),
            priority: found.matcher().priority,
            service_id: Some(labels.service_id.clone()).filter(|id| !id.is_empty()),
        });
        if let Some((_, _, why)) =
            self.rejected().find(|(kind, other, _)| *kind == Kind::Route && **other == **id)
        {
            let reasons: Vec<_> = why.reasons.iter().map(ToString::to_string).collect();
            told.notes.push(format!(
                "the newest version of routes/{id} is rejected, and its last good one served: {}",
                reasons.join("; ")
            ));
        }
        let chain = match consumer {
            Some(part) => &route.chain.overlaid(&part.chain).chain,
            None => &route.chain,
        };
        if let Some(part) = self.parts.routes.get(id) {
            self.chain(told, ctx, chain, &self.sources(part, consumer));
        }
        let authenticates = |step: &&Arc<Step>| {
            registry::find(step.name()).is_some_and(|entry| entry.consumer.is_some())
        };
        if let (None, Some(step)) = (consumer, chain.steps().iter().find(authenticates)) {
            told.notes.push(format!(
                "{} asks who is calling: what the consumer's plugins change is told with consumer=NAME",
                step.name()
            ));
        }
        match &route.upstream {
            Some(upstream) => told.upstream = Some(told_upstream(upstream)),
            None => told.notes.push("the route has no upstream: a plugin has to answer".to_owned()),
        }
    }

    /// Whose plugins a request to a route may meet, those that win first.
    fn sources<'p>(
        &'p self,
        part: &'p RoutePart,
        consumer: Option<&'p ConsumerPart>,
    ) -> Vec<Source<'p>> {
        let mut sources = Vec::new();
        if let Some(part) = consumer {
            sources.push((format!("consumers/{}", part.consumer.name), &part.plugins));
            let group = part.consumer.group_id.as_ref();
            if let Some((id, plugins)) =
                group.and_then(|id| self.parts.consumer_groups.get_key_value(id))
            {
                sources.push((format!("consumer_groups/{id}"), plugins));
            }
        }
        sources.push((format!("routes/{}", part.matcher.id), &part.plugins));
        let config = part.plugin_config_id.as_ref();
        if let Some((id, plugins)) =
            config.and_then(|id| self.parts.plugin_configs.get_key_value(id))
        {
            sources.push((format!("plugin_configs/{id}"), plugins));
        }
        let service = &part.route.labels.service_id;
        if let Some((id, service)) = self.parts.services.get_key_value(service) {
            sources.push((format!("services/{id}"), &service.plugins));
        }
        sources
    }

    fn chain(&self, told: &mut Explanation, ctx: &Ctx, chain: &Chain, sources: &[Source<'_>]) {
        for step in chain.steps() {
            let own = sources.iter().find(|(_, plugins)| plugins.says(step.name()).is_some());
            let source = own.map_or("?", |(key, _)| key);
            told.plugins.push(plugin(step, source.to_owned(), ctx));
        }
        for (at, (source, plugins)) in sources.iter().enumerate() {
            for step in plugins.steps() {
                let first =
                    sources[..at].iter().find(|(_, other)| other.says(step.name()).is_some());
                if let Some((by, _)) = first {
                    let (name, source, by) = (step.name(), source.clone(), by.clone());
                    told.hidden_plugins.push(Hidden { name, source, by });
                }
            }
        }
    }

    /// A resource as it is written: the version that is served.
    fn written(&self, kind: Kind, id: &Arc<str>) -> Option<Value> {
        let key = (kind, id.clone());
        resource::parse(self.good.get(&key).or_else(|| self.latest.get(&key))?).ok()
    }
}

fn plugin(step: &Step, source: String, ctx: &Ctx) -> Told {
    let phases = Phase::ALL.into_iter().filter(|phase| step.phases().has(*phase));
    Told {
        name: step.name(),
        priority: step.priority(),
        phases: phases.map(Phase::name).collect(),
        source,
        runs: step.applies(ctx),
    }
}

fn told_upstream(upstream: &Upstream) -> UpstreamTold {
    let nodes = upstream.nodes.load();
    let weights = |of: i32| {
        let same = nodes.all().iter().filter(move |(_, _, priority)| *priority == of);
        same.map(|(_, weight, _)| f64::from(*weight)).sum::<f64>().max(1.0)
    };
    let node =
        |(endpoint, weight, priority): &(Arc<crate::upstream::Endpoint>, u32, i32)| NodeTold {
            host: endpoint.host.to_string(),
            addr: endpoint.addr.to_string(),
            share: (f64::from(*weight) / weights(*priority) * 1000.0).round() / 10.0,
            priority: *priority,
            health: "unknown",
        };
    let is_known = |name: &&str| nodes.all().iter().any(|(endpoint, ..)| *endpoint.host == **name);
    UpstreamTold {
        source: upstream.source.clone(),
        scheme: upstream.scheme.as_str(),
        nodes: nodes.all().iter().map(node).collect(),
        unresolved: upstream.names().filter(|name| !is_known(name)).map(str::to_owned).collect(),
    }
}

/// A value as it is told; the whole of a body would drown the rest.
fn shown(value: &str) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
    }
}

/// Which of the conditions of `vars`, a list as it is written, does not hold, and by what value.
fn first_that_fails(vars: &Value, ctx: &Ctx) -> String {
    let list = vars.as_array().map(Vec::as_slice).unwrap_or_default();
    // A list that begins with a word is one condition, or conditions that are joined by it.
    let is_joined = list.first().is_some_and(Value::is_string);
    let one_by_one = if is_joined { &[] } else { list };
    let fails = |item: &&Value| {
        let condition = Expr::compile(std::slice::from_ref(*item));
        let fails = condition.is_ok_and(|condition| !condition.matches(ctx));
        fails && ctx.payload.take_missed().is_none()
    };
    match one_by_one.iter().find(fails) {
        Some(condition) => match condition[0].as_str().filter(|_| !condition[1].is_array()) {
            Some(name) => match ctx.get(&Variable::parse(name)) {
                Some(value) => format!("{condition} does not hold: {name} is {}", shown(&value)),
                None => format!("{condition} does not hold: {name} has no value"),
            },
            None => format!("{condition} does not hold"),
        },
        None => format!("{vars} does not hold"),
    }
}
