//! The candidates that share one key, in the order in which they are asked.

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::hosts::Hosts;
use super::matcher::{Matcher, Rank, has_port};
use super::methods::Methods;
use super::{Found, Pattern};

/// How many candidates are asked one after the other; more are sorted by host and method, so that
/// thousands of routes on `/*` are not all asked.
pub(super) const FEW: usize = 16;

/// The greatest number of candidates that one change copies.
const CHUNK: usize = 64;

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
    /// Whether the path may still not fit the pattern.
    asks_path: bool,
}

/// The candidates of one key.
pub(super) enum Candidates<T> {
    Few(SmallVec<[Candidate<T>; 1]>),
    Many(Index<T>),
}

/// Candidates by host and methods.
pub(super) struct Index<T> {
    hosts: Hosts<Buckets<T>>,
    len: usize,
}

/// Candidates of one host by their sets of methods, of which there are few.
struct Buckets<T>(SmallVec<[(Methods, Sorted<T>); 1]>);

/// Candidates in order, in chunks that versions share.
struct Sorted<T>(SmallVec<[Arc<Vec<Candidate<T>>>; 1]>);

/// What is asked of every candidate.
pub(super) struct Ask<'a> {
    /// In lower case.
    pub(super) host: Option<&'a str>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) method: Methods,
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
            matcher: matcher.clone(),
            value: value.clone(),
        }
    }

    pub(super) fn value(&self) -> &Arc<T> {
        &self.value
    }

    pub(super) fn found(&self, ask: &Ask<'_>) -> Found<'_, T> {
        let host = if self.host == NO_HOST {
            self.matcher.host(ask.host, ask.authority)
        } else {
            self.matcher.hosts.get(self.host as usize)
        };
        Found { value: &self.value, matcher: &self.matcher, path: self.pattern(), host }
    }

    fn pattern(&self) -> &Pattern {
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
                let mut index = Index { hosts: Hosts::default(), len: 0 };
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
            Self::Many(index) => index.len == 0,
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

// === impl Index ===

impl<T> Index<T> {
    fn insert(&mut self, candidate: &Candidate<T>) {
        self.len += 1;
        each_key(&candidate.matcher, candidate.host, |host| {
            self.hosts.change(host, |buckets| {
                buckets.of(candidate.methods).insert(candidate.clone());
                false.into()
            });
        });
    }

    fn remove(&mut self, matcher: &Matcher, path: u32, host: u32) {
        let mut was_there = false;
        each_key(matcher, host, |key| {
            self.hosts.change(key, |buckets| {
                was_there |= buckets.of(matcher.methods).remove(&matcher.rank(path, host));
                buckets.0.retain(|(_, sorted)| !sorted.0.is_empty());
                buckets.0.is_empty().into()
            });
        });
        self.len -= usize::from(was_there);
    }

    /// Merges what is there for the host and method, best first.
    fn walk<'c, B>(
        &'c self,
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'c Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut lines = SmallVec::<[_; 8]>::new();
        // Walked to the end: the bucket of no host is the last of them.
        let _: ControlFlow<()> = self.hosts.walk(ask.host, |buckets| {
            let meant = buckets.0.iter().filter(|(methods, _)| methods.meets(ask.method));
            lines.extend(meant.map(|(_, sorted)| sorted.iter().peekable()));
            ControlFlow::Continue(())
        });
        if let [line] = lines.as_mut_slice() {
            for candidate in line {
                if candidate.is_meant(ask) {
                    visit(candidate)?;
                }
            }
            return ControlFlow::Continue(());
        }
        let mut last: Option<&'c Candidate<T>> = None;
        loop {
            let heads = lines.iter_mut().enumerate();
            let heads = heads.filter_map(|(at, line)| Some((line.peek()?.rank(), at)));
            let Some((_, at)) = heads.min() else {
                return ControlFlow::Continue(());
            };
            let Some(candidate) = lines[at].next() else {
                continue;
            };
            // Two of its hosts may be meant by one name.
            let is_again = last.is_some_and(|last| last.rank() == candidate.rank());
            last = Some(candidate);
            if !is_again && candidate.is_meant(ask) {
                visit(candidate)?;
            }
        }
    }
}

/// Every key under which a candidate stands: its hosts, or none when that cannot be looked up.
fn each_key(matcher: &Matcher, host: u32, mut with: impl FnMut(Option<&str>)) {
    let is_looked_up = host == NO_HOST && !matcher.hosts.iter().any(|host| has_port(host));
    if !is_looked_up || matcher.hosts.is_empty() {
        return with(None);
    }
    for (at, host) in matcher.hosts.iter().enumerate() {
        let mut before = matcher.hosts[..at].iter();
        if !before.any(|other| other.eq_ignore_ascii_case(host)) {
            with(Some(host));
        }
    }
}

// === impl Buckets ===

impl<T> Buckets<T> {
    fn of(&mut self, methods: Methods) -> &mut Sorted<T> {
        let at = self.0.iter().position(|(known, _)| *known == methods);
        let at = at.unwrap_or_else(|| {
            self.0.push((methods, Sorted(SmallVec::new())));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

// === impl Sorted ===

impl<T> Sorted<T> {
    fn iter(&self) -> impl Iterator<Item = &Candidate<T>> {
        self.0.iter().flat_map(|chunk| chunk.iter())
    }

    fn insert(&mut self, candidate: Candidate<T>) {
        if self.0.is_empty() {
            self.0.push(Arc::new(vec![candidate]));
            return;
        }
        let at = self.chunk_of(&candidate.rank()).min(self.0.len() - 1);
        let chunk = Arc::make_mut(&mut self.0[at]);
        let within = chunk.partition_point(|other| other.rank() < candidate.rank());
        chunk.insert(within, candidate);
        if chunk.len() > CHUNK {
            let second = chunk.split_off(CHUNK / 2);
            self.0.insert(at + 1, Arc::new(second));
        }
    }

    /// Whether there was one of that rank.
    fn remove(&mut self, rank: &Rank<'_>) -> bool {
        let at = self.chunk_of(rank);
        let Some(chunk) = self.0.get_mut(at) else {
            return false;
        };
        let Ok(within) = chunk.binary_search_by(|other| other.rank().cmp(rank)) else {
            return false;
        };
        Arc::make_mut(chunk).remove(within);
        if self.0[at].is_empty() {
            self.0.remove(at);
        }
        true
    }

    /// The first chunk that does not end before `rank`.
    fn chunk_of(&self, rank: &Rank<'_>) -> usize {
        self.0.partition_point(|chunk| chunk.last().is_some_and(|last| last.rank() < *rank))
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

impl<T> Clone for Index<T> {
    fn clone(&self) -> Self {
        Self { hosts: self.hosts.clone(), len: self.len }
    }
}

impl<T> Clone for Buckets<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}
