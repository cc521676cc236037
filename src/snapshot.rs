//! Snapshots: what workers serve, compiled from resources and swapped in whole.
//!
//! A [`Snapshot`] is immutable and structurally shared. [`compile`] keeps the compiled form of
//! every resource and who refers to whom, so that an event recompiles only what it touches; a
//! resource that cannot be compiled is refused alone, with its reasons, and its last good version
//! goes on being served. [`publish`] drives it. Opens no socket to a client.

pub mod batch;
pub mod check;
pub mod compile;
pub mod explain;
pub mod publish;
mod parts;
mod references;
#[cfg(test)]
pub(crate) mod rig;

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use http::Method;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use ipnet::IpNet;

use crate::context::{Consumers, Ctx};
use crate::expr::Expr;
use crate::issue::{CHALLENGES, Challenges};
use crate::lua;
use crate::metrics::RouteLabels;
use crate::plugin::chain::Chain;
use crate::router::{Found, Router, Target};
use crate::tls::proof::Proofs;
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
    /// The server name of clients that name none (`ssl.fallback_sni`).
    pub fallback_sni: Option<Arc<str>>,
    /// What ACME servers are answered, by token; empty but for moments.
    pub challenges: Challenges,
    /// What they are shown in handshakes; as rarely there.
    pub proofs: Proofs,
    pub consumers: Consumers,
    /// The plugins that run for a consumer, by its name; absent when there are none. Only config is
    /// put in, so that no client can choose what collides.
    pub consumer_chains: GenericHashMap<Arc<str>, Chain, FixedState, DefaultSharedPtr>,
    /// What runs on every request.
    pub globals: Chain,
}

/// A compiled route.
///
/// Small: where there are many, hardly any of one is at hand when a request comes for it, and what
/// most routes do not have stands apart.
pub struct Route {
    /// What it is told by, for the first pair of path and host that it can match by.
    labels: Arc<RouteLabels>,
    pub chain: Chain,
    /// `None` when plugins answer.
    pub upstream: Option<Arc<Upstream>>,
    pub websocket: bool,
    rare: Option<Box<Rare>>,
}

/// What most routes do not have.
struct Rare {
    /// What it is told by for the other pairs of path and host.
    labels: Box<[Arc<RouteLabels>]>,
    /// Where they are not its upstream's.
    timeouts: Option<Timeouts>,
    // What it asks for besides host, path and method.
    remote_addrs: Box<[IpNet]>,
    vars: Option<Expr>,
    /// `filter_func`.
    filter: Option<lua::Function>,
}

/// Why a route does not take a request whose host and path it is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Method,
    Address,
    Vars,
    /// `filter_func`.
    Filter,
    /// It asks for the request's body, and there is none to ask.
    Body,
}

// === impl Snapshot ===

impl Snapshot {
    /// The route for the request of `ctx`. When a route's conditions ask for the request's body
    /// and it has not been read, `ctx.payload` says so, and what is found means nothing.
    pub fn find(&self, ctx: &Ctx, method: &Method) -> Option<Found<'_, Route>> {
        let target = Target { variables: Some(ctx), ..self.target(ctx) };
        self.router.find(target, method, |route| route.refusal(ctx).is_none())
    }

    /// Visits the routes for the request of `ctx` in the order in which [`Snapshot::find`] asks
    /// them, those of other methods too.
    fn candidates<'s, B>(
        &'s self,
        ctx: &Ctx,
        visit: impl FnMut(Found<'s, Route>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.router.candidates(self.target(ctx), visit)
    }

    fn target<'c>(&self, ctx: &'c Ctx) -> Target<'c> {
        let mut target = ctx.request.target();
        if self.router.compares_authorities() {
            let field = ctx.request.headers.get(http::header::HOST);
            target.authority = field.and_then(|field| field.to_str().ok());
        }
        target
    }

    /// Whether a request for `host` comes over a connection that was made for `sni` and needs one
    /// that was made for that very host: its clients have to show a certificate, and a connection
    /// for another name asked for another one or for none.
    ///
    /// Source: APISIX `init.lua`, `verify_https_client`.
    pub fn is_of_another_name(&self, sni: Option<&str>, host: &str) -> bool {
        let is_its_name = || {
            let sni = sni.or(self.fallback_sni.as_deref());
            sni.is_some_and(|sni| sni.eq_ignore_ascii_case(host))
        };
        self.sni.verifies_clients()
            && self.sni.find(host).is_some_and(|served| served.verifies_clients)
            && !is_its_name()
    }

    /// What an ACME server is answered that asks for `path`. Costs a look at whether there is
    /// anything when there is nothing, as nearly always.
    pub fn challenge(&self, path: &str) -> Option<&str> {
        if self.challenges.is_empty() {
            return None;
        }
        self.challenges.get(path.strip_prefix(CHALLENGES)?).map(String::as_str)
    }

    /// What is served for a server name, or to clients that name none.
    pub fn certificate(&self, name: Option<&str>) -> Option<&Arc<Served>> {
        self.sni.find(name.or(self.fallback_sni.as_deref())?)
    }
}

// === impl Found ===

impl<'s> Found<'s, Route> {
    /// What the route is told by for the patterns that matched.
    pub fn labels(&self) -> &'s Arc<RouteLabels> {
        let route: &Route = self.value();
        if route.rare.as_ref().is_none_or(|rare| rare.labels.is_empty()) {
            return &route.labels;
        }
        let (path, host) = (self.path().text(), self.host().map_or("", |host| host));
        let matched = |labels: &&Arc<RouteLabels>| {
            Arc::ptr_eq(&labels.matched_uri, path) && *labels.matched_host == *host
        };
        route.all_labels().find(matched).unwrap_or(&route.labels)
    }

    /// Why the route does not take the request of `ctx`, if it does not.
    fn refusal(&self, ctx: &Ctx) -> Option<Refusal> {
        if !self.matcher().methods.has(&ctx.request.method) {
            return Some(Refusal::Method);
        }
        self.value().refusal(ctx)
    }
}

// === impl Route ===

impl Route {
    /// What of the things that a route asks for, besides host, path and method, is not so.
    fn refusal(&self, ctx: &Ctx) -> Option<Refusal> {
        self.rare.as_ref()?.refusal(ctx)
    }

    /// All that it is told by, for telling which metric series are of routes that still are.
    pub fn all_labels(&self) -> impl Iterator<Item = &Arc<RouteLabels>> {
        std::iter::once(&self.labels).chain(self.rare.iter().flat_map(|rare| &rare.labels))
    }

    /// The limits of its tries, which lead to `upstream`.
    pub fn timeouts<'r>(&'r self, upstream: &'r Upstream) -> &'r Timeouts {
        let own = self.rare.as_ref().and_then(|rare| rare.timeouts.as_ref());
        own.unwrap_or(&upstream.timeouts)
    }
}

// === impl Rare ===

impl Rare {
    /// Whether there is anything in it.
    fn is_some(&self) -> bool {
        !self.labels.is_empty()
            || self.timeouts.is_some()
            || !self.remote_addrs.is_empty()
            || self.vars.is_some()
            || self.filter.is_some()
    }

    /// What of the things that it asks for is not so.
    fn refusal(&self, ctx: &Ctx) -> Option<Refusal> {
        let from = || {
            let ip = ctx.remote_ip();
            self.remote_addrs.iter().any(|network| network.contains(&ip))
        };
        if !self.remote_addrs.is_empty() && !from() {
            return Some(Refusal::Address);
        }
        // One that misses the body ends the search.
        let missed = || ctx.payload.is_missed();
        if self.vars.as_ref().is_some_and(|vars| !vars.matches(ctx)) {
            return (!missed()).then_some(Refusal::Vars);
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(ctx)) {
            return (!missed()).then_some(Refusal::Filter);
        }
        None
    }
}

#[cfg(test)]
mod tests;
