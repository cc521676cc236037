//! Few candidates of any keys, in one block of memory.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use smallvec::SmallVec;
use triomphe::ThinArc;

use super::candidates::{Ask, Candidate};
use super::label::{Label, same};
use super::matcher::{Matcher, Rank};

/// As many hints as stand on one line of memory with the count of who shares them and their number.
const MOST: usize = 12;

/// At most [`MOST`] candidates, shared between versions.
///
/// Entries stand in the order in which they are asked: longer keys first, of one key the exact path
/// before the prefix, then by rank. Before them all stand their hints, on one line of memory: a
/// lookup fetches no entry but those whose hints agree, and that is hardly ever one too many.
pub(super) struct Leaf<T>(ThinArc<[Hint; MOST], Entry<T>>);

/// A candidate under what is left of its key.
pub(super) struct Entry<T> {
    key: Label,
    candidate: Candidate<T>,
}

/// What of a key can be told without looking at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Hint {
    /// How long it is; [`u16::MAX`] where it is longer than that, and nothing else is told.
    len: u16,
    /// A hash of its last bytes: what a leaf's keys begin with, many of them have in common.
    end: u16,
}

/// The place of an entry in a leaf.
type Place<'e> = (Reverse<usize>, &'e [u8], bool, Rank<'e>);

// === impl Leaf ===

impl<T> Leaf<T> {
    fn new(entries: SmallVec<[Entry<T>; MOST]>) -> Self {
        let mut hints = [Hint::default(); MOST];
        for (hint, entry) in hints.iter_mut().zip(&entries) {
            *hint = Hint::of(&entry.key);
        }
        Self(ThinArc::from_header_and_iter(hints, entries.into_iter()))
    }

    /// Keys and candidates.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &Candidate<T>)> {
        self.0.slice.iter().map(|entry| (&*entry.key, &entry.candidate))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.slice.is_empty()
    }

    /// Whether no more fits in.
    pub(super) fn is_full(&self) -> bool {
        self.0.slice.len() >= MOST
    }

    /// This and another candidate, for which there is room.
    pub(super) fn with(&self, key: &[u8], candidate: Candidate<T>) -> Self {
        let entry = Entry { key: key.into(), candidate };
        let at = self.0.slice.partition_point(|other| other.place() < entry.place());
        let (before, after) = self.0.slice.split_at(at);
        Self::new(before.iter().cloned().chain([entry]).chain(after.iter().cloned()).collect())
    }

    /// This without what is under a key for this path and host of a matcher; `None` where it has
    /// no such.
    pub(super) fn without(
        &self,
        key: &[u8],
        matcher: &Matcher,
        path: u32,
        host: u32,
    ) -> Option<Self> {
        let entries = &self.0.slice;
        let is_prefix = matcher.paths[path as usize].is_prefix();
        let place = place(key, is_prefix, matcher.rank(path, host));
        let at = entries.binary_search_by(|entry| entry.place().cmp(&place)).ok()?;
        Some(Self::new(entries[..at].iter().chain(&entries[at + 1..]).cloned().collect()))
    }

    /// With `label` before every key.
    pub(super) fn behind(&self, label: &[u8]) -> Self {
        let entry = |entry: &Entry<T>| Entry {
            key: entry.key.behind(label),
            candidate: entry.candidate.clone(),
        };
        Self::new(self.0.slice.iter().map(entry).collect())
    }

    /// What `key` and all keys of this begin with.
    pub(super) fn common<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        self.entries().fold(key, |key, (other, _)| &key[..same(key, other)])
    }

    /// Visits the candidates whose keys lead to a path of which `rest` is left, and that are meant.
    pub(super) fn walk<'l, B>(
        &'l self,
        rest: &[u8],
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'l Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut look = |entry: &'l Entry<T>| {
            if entry.leads(rest) && entry.candidate.is_meant(ask) {
                visit(&entry.candidate)
            } else {
                ControlFlow::Continue(())
            }
        };
        if let [only] = &self.0.slice {
            return look(only);
        }
        // Of a key that leads there; made once for each length, by which entries are sorted.
        let mut wanted = Hint::of(rest);
        for (hint, entry) in self.0.header.header.iter().zip(&self.0.slice) {
            if hint.len != wanted.len {
                let Some(begin) = rest.get(..hint.len.into()) else {
                    continue;
                };
                wanted = Hint::of(begin);
            }
            if *hint == wanted {
                look(entry)?;
            }
        }
        ControlFlow::Continue(())
    }
}

// === impl Entry ===

impl<T> Entry<T> {
    fn place(&self) -> Place<'_> {
        place(&self.key, self.candidate.is_prefix(), self.candidate.rank())
    }

    /// Whether the key leads to a path of which `rest` is left.
    fn leads(&self, rest: &[u8]) -> bool {
        rest.starts_with(&self.key) && (self.candidate.is_prefix() || rest.len() == self.key.len())
    }
}

fn place<'e>(key: &'e [u8], is_prefix: bool, rank: Rank<'e>) -> Place<'e> {
    (Reverse(key.len()), key, is_prefix, rank)
}

// === impl Hint ===

impl Hint {
    fn of(key: &[u8]) -> Self {
        let Some(len) = u16::try_from(key.len()).ok().filter(|len| *len < u16::MAX) else {
            return Self { len: u16::MAX, end: 0 };
        };
        let last = key.last_chunk().copied().unwrap_or_else(|| {
            let mut whole = [0; 8];
            whole[..key.len()].copy_from_slice(key);
            whole
        });
        // Multiplicative hashing: the upper bits depend on all of the lower ones.
        let product = u64::from_le_bytes(last).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { len, end: (product >> 48) as u16 }
    }
}

// Derived implementations would ask for `T: Clone` and `T: Default`, which sharing does not need.
impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), candidate: self.candidate.clone() }
    }
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Self::new(SmallVec::new())
    }
}
