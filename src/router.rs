//! Finding the route: `radixtree_host_uri`, `radixtree_uri` and `radixtree_uri_with_parameter`.
//!
//! Order of preference, as in APISIX. `radixtree_host_uri`: an exact host before wildcard hosts
//! (longest first) before routes without a host; within one of these an exact path before prefixes
//! (longest first); within one key the highest priority, then the longest pattern, then the
//! smallest id. When everything under one host refuses a request, the next host's routes are
//! asked. The other two go by the path alone, and a host is one more thing that a candidate may
//! refuse; with parameters, what stands before the first of them is the key.
//!
//! A [`Router`] is immutable and structurally shared: clones cost nothing, and a change copies
//! only the path from a root to a leaf. Runs nothing: what a route requires besides host, path
//! and method is the caller's `accept`.
//!
//! Source: APISIX `http/router/*.lua`, lua-resty-radixtree.

mod matcher;
mod methods;
mod pattern;
mod candidates;
mod sorted;
mod index;
mod hosts;
mod label;
mod leaf;
mod tree;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;

use self::candidates::{Ask, Candidate, NO_HOST};
use self::hosts::Hosts;
pub use self::matcher::Matcher;
pub use self::methods::Methods;
pub use self::pattern::{Captured, Pattern};
use self::tree::Tree;
use crate::expr::Variables;

/// All routes, ready to be searched.
pub struct Router<T> {
    kind: Kind,
    /// Only the tree of no host is used where hosts do not come first.
    hosts: Hosts<Tree<T>>,
    len: usize,
}

/// How routes are found (`apisix.router.http`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `radixtree_host_uri`: by host, then path.
    #[default]
    HostUri,
    /// `radixtree_uri`: by path; hosts only refuse.
    Uri,
    /// `radixtree_uri_with_parameter`: as `Uri`, and paths may have parameters: `/user/:name`.
    UriWithParameter,
}

/// What a request asks for.
#[derive(Clone, Copy, Default)]
pub struct Target<'a> {
    /// The host without its port.
    pub host: Option<&'a str>,
    /// The host as sent, with its port; only looked at where a route's host has a port too.
    pub authority: Option<&'a str>,
    pub path: &'a str,
    /// What routes may be looked up by that [`Matcher::pins`] something; without, all are asked.
    pub variables: Option<&'a dyn Variables>,
}

/// A route that matches, and by which of its patterns.
///
/// What is not asked for is not looked at: with many routes, each thing of one is a thing to be
/// fetched from memory.
pub struct Found<'r, T> {
    candidate: &'r Candidate<T>,
    host: Option<&'r Arc<str>>,
}

// === impl Router ===

impl<T> Router<T> {
    /// A router of nothing.
    pub fn new(kind: Kind) -> Self {
        Self { kind, hosts: Hosts::default(), len: 0 }
    }

    /// Adds a route. Its id must not be in the router under this matcher, whose paths must have
    /// been parsed for this kind of router.
    pub fn insert(&mut self, matcher: &Arc<Matcher>, value: &Arc<T>) {
        self.len += 1;
        self.each_tree(matcher, |tree, host| {
            for (at, path) in (0..).zip(&matcher.paths) {
                let candidate = Candidate::new(matcher, value, at, host);
                tree.insert(path.key(), candidate);
            }
        });
    }

    /// Takes out the route that was inserted with this matcher.
    pub fn remove(&mut self, matcher: &Matcher) {
        self.len = self.len.saturating_sub(1);
        self.each_tree(matcher, |tree, host| {
            for (at, path) in (0..).zip(&matcher.paths) {
                tree.remove(path.key(), matcher, at, host);
            }
        });
    }

    /// The best route for a request that `accept` agrees with. Those whose pins the request's
    /// variables do not fit may not be asked.
    ///
    /// Costs a hash per label of the host and a walk along the path; allocates nothing, but for a
    /// host in upper case.
    pub fn find(
        &self,
        target: Target<'_>,
        method: &Method,
        mut accept: impl FnMut(&T) -> bool,
    ) -> Option<Found<'_, T>> {
        let found = self.walk(target, Methods::of(method), |candidate, ask| {
            if accept(candidate.value()) {
                ControlFlow::Break(candidate.found(ask))
            } else {
                ControlFlow::Continue(())
            }
        });
        found.break_value()
    }

    /// Visits every route whose host and path are meant, whatever its methods, in the order in
    /// which [`Router::find`] asks them; until `visit` breaks. Dearer than that where there are
    /// many of one path: all are sorted.
    pub fn candidates<'r, B>(
        &'r self,
        target: Target<'_>,
        mut visit: impl FnMut(Found<'r, T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let target = Target { variables: None, ..target };
        self.walk(target, Methods::default(), |candidate, ask| visit(candidate.found(ask)))
    }

    /// Whether [`Target::authority`] can make a difference.
    pub fn compares_authorities(&self) -> bool {
        self.kind != Kind::HostUri
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Visits the candidates for one of `methods`, best first.
    fn walk<'r, B>(
        &'r self,
        target: Target<'_>,
        method: Methods,
        mut visit: impl FnMut(&'r Candidate<T>, &Ask<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let host = target.host.map(lower_case);
        let host = host.as_deref();
        let Target { authority, path, variables, .. } = target;
        let ask = Ask { host, authority, path, method, variables };
        // Where hosts are not looked up before paths, everything is under no host.
        let host = host.filter(|_| self.kind == Kind::HostUri);
        self.hosts.walk(host, |tree| tree.walk(&ask, &mut |candidate| visit(candidate, &ask)))
    }

    /// Changes the tree of each of a route's hosts; `change` is told which host that is.
    fn each_tree(&mut self, matcher: &Matcher, mut change: impl FnMut(&mut Tree<T>, u32)) {
        let mut change = |tree: &mut Tree<T>, host| {
            change(tree, host);
            tree.is_empty().into()
        };
        if self.kind != Kind::HostUri || matcher.hosts.is_empty() {
            return self.hosts.change(None, |tree| change(tree, NO_HOST));
        }
        for (at, host) in (0..).zip(&matcher.hosts) {
            self.hosts.change(Some(host), |tree| change(tree, at));
        }
    }
}

// === impl Found ===

impl<'r, T> Found<'r, T> {
    pub fn value(&self) -> &'r Arc<T> {
        self.candidate.value()
    }

    pub fn matcher(&self) -> &'r Arc<Matcher> {
        self.candidate.matcher()
    }

    /// One of the matcher's paths.
    pub fn path(&self) -> &'r Pattern {
        self.candidate.pattern()
    }

    /// One of the matcher's hosts; `None` for a route without.
    pub fn host(&self) -> Option<&'r Arc<str>> {
        self.host
    }

    /// What the parameters of its path stand for in the request's.
    pub fn captured(&self, path: &str) -> Captured {
        if self.candidate.captures() { self.path().captured(path) } else { Captured::default() }
    }
}

/// A host as hosts are compared; copied only where it has upper case.
pub fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

// Derived implementations would ask for `T: Clone` and `T: Default`, which sharing does not need.
impl<T> Clone for Router<T> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, hosts: self.hosts.clone(), len: self.len }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self::new(Kind::default())
    }
}

#[cfg(test)]
mod tests;
