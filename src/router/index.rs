//! Many candidates of one key, by what can be looked up: their host, their methods, and the values
//! that their conditions demand of a variable.
//!
//! A candidate whose conditions pin several variables stands under the one of them that sets it
//! apart best when it is added: the one whose group of equal values is the smallest. What is
//! looked up is merged in order of rank with what is not, so the order of preference is that of a
//! scan. One change copies a path through a map and a chunk of a group, however many there are.

use std::ops::ControlFlow;

use foldhash::fast::FixedState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use smallvec::SmallVec;

use super::candidates::{Ask, Candidate, NO_HOST};
use super::hosts::Hosts;
use super::matcher::{Matcher, Rank, has_port};
use super::methods::Methods;
use super::sorted::Sorted;
use crate::expr::{Pin, Variable, Variables};

/// How many variables are looked up for one request; candidates that pin none of them are asked
/// one after the other.
const VARIABLES: usize = 8;

/// The longest list of values that a candidate stands under, each once.
const VALUES: usize = 64;

/// Candidates by host.
pub(super) struct Index<T> {
    hosts: Hosts<Buckets<T>>,
    len: usize,
}

/// Candidates of one host by their sets of methods, of which there are few.
struct Buckets<T>(SmallVec<[(Methods, Bucket<T>); 1]>);

/// Candidates of one host and set of methods.
struct Bucket<T> {
    /// Those that are under no value.
    loose: Sorted<T>,
    /// At most [`VARIABLES`].
    pinned: Vec<Pinned<T>>,
}

/// Candidates by the values of one variable.
struct Pinned<T> {
    variable: Variable,
    groups: GenericHashMap<u64, Sorted<T>, FixedState, DefaultSharedPtr>,
}

// === impl Index ===

impl<T> Index<T> {
    pub(super) fn insert(&mut self, candidate: &Candidate<T>) {
        self.len += 1;
        each_key(candidate.matcher(), candidate.host(), |host| {
            self.hosts.change(host, |buckets| {
                buckets.of(candidate.methods()).insert(candidate.clone());
                false.into()
            });
        });
    }

    pub(super) fn remove(&mut self, matcher: &Matcher, path: u32, host: u32) {
        let mut was_there = false;
        each_key(matcher, host, |key| {
            self.hosts.change(key, |buckets| {
                let rank = matcher.rank(path, host);
                was_there |= buckets.of(matcher.methods).remove(&matcher.pins, &rank);
                buckets.0.retain(|(_, bucket)| !bucket.is_empty());
                buckets.0.is_empty().into()
            });
        });
        self.len -= usize::from(was_there);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Visits those that are meant, in order.
    pub(super) fn walk<'c, B>(
        &'c self,
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'c Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut found = SmallVec::<[&'c Sorted<T>; 8]>::new();
        // Walked to the end: the buckets of no host are the last of them.
        let _: ControlFlow<()> = self.hosts.walk(ask.host, |buckets| {
            for (methods, bucket) in &buckets.0 {
                if methods.meets(ask.method) {
                    bucket.find(ask.variables, |sorted| found.push(sorted));
                }
            }
            ControlFlow::Continue(())
        });
        let mut visit = |candidate: &'c Candidate<T>| {
            if candidate.is_meant(ask) { visit(candidate) } else { ControlFlow::Continue(()) }
        };
        if ask.variables.is_none() {
            // There are as many lists as values.
            let mut all: Vec<_> = found.iter().flat_map(|sorted| sorted.iter()).collect();
            all.sort_by(|one, other| one.rank().cmp(&other.rank()));
            all.dedup_by(|one, other| one.rank() == other.rank());
            return all.into_iter().try_for_each(visit);
        }
        match found.as_slice() {
            [only] => only.iter().try_for_each(visit),
            several => merge(several, &mut visit),
        }
    }
}

/// Visits what is in any of `lists`, in order; once, since two hosts of a candidate, or two of its
/// values, may be meant by one request.
fn merge<'c, T, B>(
    lists: &[&'c Sorted<T>],
    visit: &mut impl FnMut(&'c Candidate<T>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let lines = lists.iter().map(|sorted| sorted.iter().peekable());
    let mut lines: SmallVec<[_; 8]> = lines.collect();
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
        let is_again = last.is_some_and(|last| last.rank() == candidate.rank());
        last = Some(candidate);
        if !is_again {
            visit(candidate)?;
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
    fn of(&mut self, methods: Methods) -> &mut Bucket<T> {
        let at = self.0.iter().position(|(known, _)| *known == methods);
        let at = at.unwrap_or_else(|| {
            self.0.push((methods, Bucket::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

// === impl Bucket ===

impl<T> Bucket<T> {
    fn insert(&mut self, candidate: Candidate<T>) {
        let pins = candidate.matcher().pins.iter();
        let Some(pin) = pins.filter(|pin| self.takes(pin)).min_by_key(|pin| self.crowd(pin)) else {
            return self.loose.insert(candidate);
        };
        let at = self.place(&pin.variable).unwrap_or_else(|| {
            self.pinned.push(Pinned::new(pin.variable.clone()));
            self.pinned.len() - 1
        });
        let groups = &mut self.pinned[at].groups;
        for key in pin.keys() {
            if let Some(group) = groups.get_mut(key) {
                group.insert(candidate.clone());
            } else {
                groups.insert(*key, Sorted::One(candidate.clone()));
            }
        }
    }

    /// Whether there was one of that rank, whose conditions pin `pins`.
    fn remove(&mut self, pins: &[Pin], rank: &Rank<'_>) -> bool {
        let mut was_there = false;
        // All of them: two pins of one variable may have values in common, and the first that it is
        // found under need not be the one that it was put under.
        for pin in pins {
            let Some(at) = self.place(&pin.variable) else {
                continue;
            };
            let groups = &mut self.pinned[at].groups;
            for key in pin.keys() {
                if let Some(group) = groups.get_mut(key) {
                    was_there |= group.remove(rank);
                    if group.is_empty() {
                        groups.remove(key);
                    }
                }
            }
            if groups.is_empty() {
                self.pinned.swap_remove(at);
            }
        }
        was_there || self.loose.remove(rank)
    }

    /// Gives the lists in which those stand that may agree with `variables`; all lists without.
    fn find<'c>(&'c self, variables: Option<&dyn Variables>, mut give: impl FnMut(&'c Sorted<T>)) {
        if !self.loose.is_empty() {
            give(&self.loose);
        }
        for pinned in &self.pinned {
            let Some(variables) = variables else {
                pinned.groups.values().for_each(&mut give);
                continue;
            };
            let value = variables.datum(&pinned.variable);
            let keys = value.as_ref().map(Pin::keys_of).unwrap_or_default();
            keys.iter().filter_map(|key| pinned.groups.get(key)).for_each(&mut give);
        }
    }

    /// Whether a candidate can stand under the values of a pin.
    fn takes(&self, pin: &Pin) -> bool {
        let has_room = || self.pinned.len() < VARIABLES || self.place(&pin.variable).is_some();
        (1..=VALUES).contains(&pin.keys().len()) && has_room()
    }

    /// How many there are with one value of a pin, at most.
    fn crowd(&self, pin: &Pin) -> usize {
        let Some(at) = self.place(&pin.variable) else {
            return 0;
        };
        let groups = pin.keys().iter().filter_map(|key| self.pinned[at].groups.get(key));
        groups.map(Sorted::len).max().unwrap_or(0)
    }

    fn place(&self, variable: &Variable) -> Option<usize> {
        self.pinned.iter().position(|pinned| pinned.variable == *variable)
    }

    fn is_empty(&self) -> bool {
        self.loose.is_empty() && self.pinned.is_empty()
    }
}

// === impl Pinned ===

impl<T> Pinned<T> {
    fn new(variable: Variable) -> Self {
        Self { variable, groups: GenericHashMap::default() }
    }
}

// Derived implementations would ask for `T: Clone` and `T: Default`, which sharing does not need.
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

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { loose: self.loose.clone(), pinned: self.pinned.clone() }
    }
}

impl<T> Clone for Pinned<T> {
    fn clone(&self) -> Self {
        Self { variable: self.variable.clone(), groups: self.groups.clone() }
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { hosts: Hosts::default(), len: 0 }
    }
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Self { loose: Sorted::default(), pinned: Vec::new() }
    }
}
