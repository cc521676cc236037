//! Snapshots: what workers serve, compiled from resources and swapped in whole.
//!
//! A [`Snapshot`] is immutable and structurally shared. [`compile`] keeps the compiled form of
//! every resource and who refers to whom, so that an event recompiles only what it touches; a
//! resource that cannot be compiled is refused alone, with its reasons, and its last good version
//! goes on being served. [`publish`] drives it. Opens no socket to a client.

pub mod batch;
pub mod check;
pub mod compile;
pub mod publish;
mod parts;
mod references;
#[cfg(test)]
pub(crate) mod rig;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Method;
use ipnet::IpNet;

use crate::context::{Consumers, Ctx, Labels, RouteFacts};
use crate::expr::Expr;
use crate::lua;
use crate::plugin::chain::Chain;
use crate::router::{Found, Router};
use crate::tls::{Served, SniMap};
use crate::upstream::{Timeouts, Upstream};

/// Where workers find the newest snapshot.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// Everything that workers serve by. Clones share everything.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The store's revision that this is the state of.
    pub revision: i64,
    pub router: Router<Route>,
    pub sni: SniMap,
    /// Served to clients that name no server, or one that nobody has (`ssl.fallback_sni`).
    pub fallback: Option<Arc<Served>>,
    pub consumers: Consumers,
    /// The plugins that run for a consumer, by its name; absent when there are none.
    pub consumer_chains: imbl::HashMap<Arc<str>, Chain>,
    /// What runs on every request.
    pub globals: Chain,
}

/// A compiled route.
pub struct Route {
    pub facts: Arc<RouteFacts>,
    /// Metric labels for each pair of path and host that it can match by.
    labels: Vec<MatchedLabels>,
    pub chain: Chain,
    /// `None` when plugins answer.
    pub upstream: Option<Arc<Upstream>>,
    pub timeouts: Timeouts,
    pub websocket: bool,
    remote_addrs: Vec<IpNet>,
    vars: Option<Expr>,
    /// `filter_func`.
    filter: Option<lua::Function>,
}

struct MatchedLabels {
    path: Arc<str>,
    host: Option<Arc<str>>,
    labels: Arc<Labels>,
}

// === impl Snapshot ===

impl Snapshot {
    /// The route for the request of `ctx`.
    pub fn find(&self, ctx: &Ctx, method: &Method) -> Option<Found<'_, Route>> {
        let host = ctx.request.host.as_deref();
        self.router.find(host, ctx.path(), method, |route| route.accepts(ctx))
    }

    /// Whether a request for `host` needs a connection that was made for that very name: its
    /// clients have to show a certificate, and a connection for another name did not ask for it.
    ///
    /// Source: APISIX `init.lua`, `verify_https_client`.
    pub fn is_bound_to_its_name(&self, host: &str) -> bool {
        self.sni.verifies_clients() && self.sni.find(host).is_some_and(|s| s.verifies_clients)
    }

    /// What is served for a server name.
    pub fn certificate(&self, name: Option<&str>) -> Option<Arc<Served>> {
        let named = name.and_then(|name| self.sni.find(name));
        named.or(self.fallback.as_ref()).cloned()
    }
}

// === impl Route ===

impl Route {
    /// What a route asks for besides host, path and method.
    fn accepts(&self, ctx: &Ctx) -> bool {
        let from = || {
            let ip = ctx.remote_ip();
            self.remote_addrs.iter().any(|network| network.contains(&ip))
        };
        (self.remote_addrs.is_empty() || from())
            && self.vars.as_ref().is_none_or(|vars| vars.matches(ctx))
            && self.filter.as_ref().is_none_or(|filter| filter.accepts(ctx))
    }

    /// The metric labels for the patterns that matched.
    pub fn labels(&self, path: &Arc<str>, host: Option<&Arc<str>>) -> Option<&Arc<Labels>> {
        let matched = |labels: &&MatchedLabels| {
            Arc::ptr_eq(&labels.path, path) && labels.host.as_ref() == host
        };
        let found = self.labels.iter().find(matched).or_else(|| self.labels.first());
        found.map(|found| &found.labels)
    }

    /// Every label set, for telling which metric series are of routes that still are.
    pub fn all_labels(&self) -> impl Iterator<Item = &Arc<Labels>> {
        self.labels.iter().map(|labels| &labels.labels)
    }
}

#[cfg(test)]
mod tests;
