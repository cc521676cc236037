//! Finding the route: `radixtree_host_uri`.
//!
//! Order of preference, as in APISIX: an exact host before wildcard hosts (longest first) before
//! routes without a host; within one of these an exact path before prefixes (longest first);
//! within one path the highest priority, then the smallest id. When everything under one host
//! refuses a request, the next host's routes are asked.
//!
//! A [`Router`] is immutable and structurally shared: clones cost nothing, and a change copies
//! only the path from a root to a leaf. Runs nothing: what a route requires besides host, path
//! and method is the caller's `accept`.
//!
//! Source: APISIX `http/router/radixtree_host_uri.lua`, lua-resty-radixtree.

mod methods;
mod tree;

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

pub use self::methods::Methods;
use self::tree::{Candidate, Tree};

/// What a route matches by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    pub id: Arc<str>,
    /// Exact or `*` wildcard; none means every host.
    pub hosts: Vec<Arc<str>>,
    /// Exact, or a prefix with `*` at its end.
    pub paths: Vec<Arc<str>>,
    pub methods: Methods,
    pub priority: i64,
}

/// All routes, ready to be searched.
pub struct Router<T> {
    exact: imbl::HashMap<Arc<str>, Tree<T>>,
    /// By what stands after the `*`.
    wildcard: imbl::HashMap<Arc<str>, Tree<T>>,
    any: Tree<T>,
    /// Wildcards whose `*` is not followed by a dot; while there are any, every suffix of a host
    /// is looked up, not only those that begin a label.
    odd_wildcards: usize,
    len: usize,
}

/// A route that matched, and by which of its patterns.
#[derive(Debug)]
pub struct Found<'r, T> {
    pub value: &'r Arc<T>,
    /// The path as written: `/foo/*`.
    pub path: &'r Arc<str>,
    /// The host as written; `None` for a route without.
    pub host: Option<&'r Arc<str>>,
}

// === impl Router ===

impl<T> Router<T> {
    /// Adds a route. Its id must not be in the router under this matcher.
    pub fn insert(&mut self, matcher: &Matcher, value: &Arc<T>) {
        self.len += 1;
        let add = |tree: &mut Tree<T>, host: Option<&Arc<str>>| {
            for path in &matcher.paths {
                tree.insert(Candidate {
                    priority: matcher.priority,
                    id: matcher.id.clone(),
                    methods: matcher.methods,
                    path: path.clone(),
                    host: host.cloned(),
                    value: value.clone(),
                });
            }
        };
        if matcher.hosts.is_empty() {
            add(&mut self.any, None);
        }
        for host in &matcher.hosts {
            let key: Arc<str> = host.to_ascii_lowercase().into();
            match key.strip_prefix('*') {
                None => add(self.exact.entry(key).or_default(), Some(host)),
                Some(suffix) => {
                    self.odd_wildcards += usize::from(is_odd(suffix));
                    add(self.wildcard.entry(suffix.into()).or_default(), Some(host));
                }
            }
        }
    }

    /// Takes out the route that was inserted with this matcher.
    pub fn remove(&mut self, matcher: &Matcher) {
        self.len = self.len.saturating_sub(1);
        let take = |tree: &mut Tree<T>| {
            for path in &matcher.paths {
                tree.remove(path, &matcher.id);
            }
            tree.is_empty()
        };
        if matcher.hosts.is_empty() {
            take(&mut self.any);
        }
        for host in &matcher.hosts {
            let key = host.to_ascii_lowercase();
            let (map, key) = match key.strip_prefix('*') {
                None => (&mut self.exact, key.as_str()),
                Some(suffix) => {
                    self.odd_wildcards -= usize::from(is_odd(suffix));
                    (&mut self.wildcard, suffix)
                }
            };
            if map.get_mut(key).is_some_and(take) {
                map.remove(key);
            }
        }
    }

    /// The best route for a request that `accept` agrees with.
    ///
    /// `host` is without its port. Costs a hash per label of the host and a walk along the path;
    /// allocates nothing, but for a host in upper case.
    pub fn find(
        &self,
        host: Option<&str>,
        path: &str,
        method: &Method,
        mut accept: impl FnMut(&T) -> bool,
    ) -> Option<Found<'_, T>> {
        let mut check =
            |candidate: &Candidate<T>| candidate.methods.has(method) && accept(&candidate.value);
        if let Some(host) = host {
            let host = lower_case(host);
            let exact = self.exact.get(&*host);
            if let Some(found) = exact.and_then(|tree| tree.find(path, &mut check)) {
                return Some(found);
            }
            if !self.wildcard.is_empty() {
                for (at, _) in host.char_indices().chain([(host.len(), ' ')]).skip(1) {
                    let suffix = &host[at..];
                    if self.odd_wildcards == 0 && !suffix.starts_with('.') {
                        continue;
                    }
                    let tree = self.wildcard.get(suffix);
                    if let Some(found) = tree.and_then(|tree| tree.find(path, &mut check)) {
                        return Some(found);
                    }
                }
            }
        }
        self.any.find(path, &mut check)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn is_odd(suffix: &str) -> bool {
    !suffix.starts_with('.')
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

// Derived implementations would ask for `T: Clone` and `T: Default`, which sharing does not need.
impl<T> Clone for Router<T> {
    fn clone(&self) -> Self {
        Self {
            exact: self.exact.clone(),
            wildcard: self.wildcard.clone(),
            any: self.any.clone(),
            odd_wildcards: self.odd_wildcards,
            len: self.len,
        }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self {
            exact: imbl::HashMap::new(),
            wildcard: imbl::HashMap::new(),
            any: Tree::default(),
            odd_wildcards: 0,
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests;
