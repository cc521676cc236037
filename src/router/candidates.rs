//! The candidates that share one key, in the order in which they are asked.

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::index::Index;
use super::matcher::{Matcher, Rank};
use super::methods::Methods;
use super::{Found, Pattern};
use crate::expr::Variables;

/// How many candidates are asked one after the other; more are sorted by what can be looked
/// up, so that thousands of routes on `/*` are not all asked.
pub(super) const FEW: usize = 16;

/// Stands where a candidate is under no host in particular.
pub(super) const NO_HOST: u32 = u32::MAX;

/// One route under one of its paths, and one of its hosts where hosts are looked up before paths.
pub(super) struct Candidate<T> {
    matcher: Arc<Matcher>,
    value: Arc<T>,
    path: u32,
    /// The host that led here, or [`NO_HOST`].
    host: u32,
    methods: Methods,
    /// Whether the path may go on after the key.
    is_prefix: bool,
    /// Whether the host has yet to be compared with those of the matcher.
    asks_host: bool,
    /// Whether the path may still not fit the pattern, and whether that has parameters.
    asks_path: bool,
    captures: bool,
}

/// The candidates of one key.
pub(super) enum Candidates<T> {
    Few(SmallVec<[Candidate<T>; 1]>),
    Many(Index<T>),
}

/// What is asked of every candidate.
pub(super) struct Ask<'a> {
    /// In lower case.
    pub(super) host: Option<&'a str>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) method: Methods,
    /// By which candidates are looked up; all are visited without.
    pub(super) variables: Option<&'a dyn Variables>,
}

// === impl Candidate ===

impl<T> Candidate<T> {
    /// The route under its `path`th path; `host` is [`NO_HOST`] or the host that leads there.
    pub(super) fn new(matcher: &Arc<Matcher>, value: &Arc<T>, path: u32, host: u32) -> Self {
        let pattern = &matcher.paths[path as usize];
        Self {
            path,
            host,
            methods: matcher.methods,
            is_prefix: pattern.is_prefix(),
            asks_host: host == NO_HOST && !matcher.hosts.is_empty(),
            asks_path: pattern.is_shaped(),
            captures: pattern.captures(),
            matcher: matcher.clone(),
            value: value.clone(),
        }
    }

    pub(super) fn matcher(&self) -> &Arc<Matcher> {
        &self.matcher
    }

    /// The host that led here, or [`NO_HOST`].
    pub(super) fn host(&self) -> u32 {
        self.host
    }

    pub(super) fn methods(&self) -> Methods {
        self.methods
    }

    pub(super) fn value(&self) -> &Arc<T> {
        &self.value
    }

    pub(super) fn found(&self, ask: &Ask<'_>) -> Found<'_, T> {
        let host = match self.host {
            NO_HOST if self.asks_host => self.matcher.host(ask.host, ask.authority),
            NO_HOST => None,
            host => self.matcher.hosts.get(host as usize),
        };
        Found { candidate: self, host }
    }

    pub(super) fn captures(&self) -> bool {
        self.captures
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.matcher.paths[self.path as usize]
    }

    pub(super) fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    pub(super) fn rank(&self) -> Rank<'_> {
        self.matcher.rank(self.path, self.host)
    }

    pub(super) fn is_meant(&self, ask: &Ask<'_>) -> bool {
        self.methods.meets(ask.method)
            && (!self.asks_host || self.matcher.host(ask.host, ask.authority).is_some())
            && (!self.asks_path || self.pattern().fits(ask.path))
    }
}

// === impl Candidates ===

impl<T> Candidates<T> {
    pub(super) fn insert(&mut self, candidate: Candidate<T>) {
        match self {
            Self::Few(few) if few.len() < FEW => {
                let at = few.partition_point(|other| other.rank() < candidate.rank());
                few.insert(at, candidate);
            }
            Self::Few(few) => {
                let mut index = Index::default();
                for one in std::mem::take(few).into_iter().chain([candidate]) {
                    index.insert(&one);
                }
                *self = Self::Many(index);
            }
            Self::Many(index) => index.insert(&candidate),
        }
    }

    /// Takes out what was inserted for this path and host of a matcher.
    pub(super) fn remove(&mut self, matcher: &Matcher, path: u32, host: u32) {
        match self {
            Self::Few(few) => {
                let rank = matcher.rank(path, host);
                few.retain(|candidate| candidate.rank() != rank);
            }
            Self::Many(index) => index.remove(matcher, path, host),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(index) => index.is_empty(),
        }
    }

    /// Visits the candidates that are meant, in order.
    pub(super) fn walk<'c, B>(
        &'c self,
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'c Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self {
            Self::Few(few) => {
                for candidate in few {
                    if candidate.is_meant(ask) {
                        visit(candidate)?;
                    }
                }
                ControlFlow::Continue(())
            }
            Self::Many(index) => index.walk(ask, visit),
        }
    }
}

// Derived implementations would ask for `T: Clone`, which sharing does not need.
impl<T> Clone for Candidate<T> {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.clone(), value: self.value.clone(), ..*self }
    }
}

impl<T> Clone for Candidates<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Few(few) => Self::Few(few.clone()),
            Self::Many(index) => Self::Many(index.clone()),
        }
    }
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}
