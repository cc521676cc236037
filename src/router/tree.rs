//! A radix tree over the keys of paths, shared between versions.
//!
//! What a lookup costs in a large table is memory that is not at hand: each pointer that has to be
//! followed before the next is known is a hundred nanoseconds. So a tree, or a part of one, that
//! holds few candidates is a leaf: one block, keys and candidates side by side, in the order in
//! which they are asked. That is all there is for most hosts. A leaf that grows beyond [`FEW`]
//! bursts into a branch with leaves of its own (as in a burst trie; Heinz, Zobel and Williams,
//! 2002).

use std::cmp::Reverse;
use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use smallvec::SmallVec;

use super::candidates::{Ask, Candidate, Candidates, FEW};
use super::matcher::{Matcher, Rank};

/// Candidates by the keys of their paths.
pub(super) enum Tree<T> {
    Leaf(Arc<[Entry<T>]>),
    Branch(Arc<Branch<T>>),
}

/// A candidate under what is left of its key.
///
/// Entries stand in the order in which they are asked: longer keys first, of one key the exact
/// path before the prefix, then by rank.
pub(super) struct Entry<T> {
    key: Label,
    candidate: Candidate<T>,
}

/// Where keys part.
pub(super) struct Branch<T> {
    /// What all keys begin with.
    label: Label,
    /// Those whose key ends here, and the path with it.
    exact: Option<Arc<Candidates<T>>>,
    /// Those whose key ends here, and the path may go on.
    prefix: Option<Arc<Candidates<T>>>,
    /// The byte after the label by which each child goes on, and begins.
    firsts: SmallVec<[u8; 16]>,
    children: Vec<Tree<T>>,
}

/// Bytes, in place when they are few.
#[derive(Clone)]
enum Label {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// What fits beside the length and the tag in the room that a long label needs anyway.
const SHORT: usize = 22;

/// The place of an entry in a leaf.
type Place<'e> = (Reverse<usize>, &'e [u8], bool, Rank<'e>);

// === impl Tree ===

impl<T> Tree<T> {
    /// Adds a candidate under a key.
    pub(super) fn insert(&mut self, key: &[u8], candidate: Candidate<T>) {
        match self {
            Self::Leaf(entries) if entries.len() < FEW => {
                let entry = Entry { key: key.into(), candidate };
                let at = entries.partition_point(|other| other.place() < entry.place());
                let (before, after) = entries.split_at(at);
                let before = before.iter().cloned();
                *entries = before.chain([entry]).chain(after.iter().cloned()).collect();
            }
            Self::Leaf(entries) => {
                let mut branch = Branch::new(common(entries, key));
                for entry in &**entries {
                    branch.insert(&entry.key, entry.candidate.clone());
                }
                branch.insert(key, candidate);
                *self = Self::Branch(Arc::new(branch));
            }
            Self::Branch(branch) => Arc::make_mut(branch).insert(key, candidate),
        }
    }

    /// Takes out what was inserted under a key for this path and host of a matcher.
    pub(super) fn remove(&mut self, key: &[u8], matcher: &Matcher, path: u32, host: u32) {
        match self {
            Self::Leaf(entries) => {
                let is_prefix = matcher.paths[path as usize].is_prefix();
                let place = place(key, is_prefix, matcher.rank(path, host));
                if let Ok(at) = entries.binary_search_by(|entry| entry.place().cmp(&place)) {
                    let (before, after) = (&entries[..at], &entries[at + 1..]);
                    *entries = before.iter().chain(after).cloned().collect();
                }
            }
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                branch.remove(key, matcher, path, host);
                if let Some(simpler) = branch.closed_up() {
                    *self = simpler;
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Leaf(entries) if entries.is_empty())
    }

    /// Visits the candidates that are meant: those of the exact path, then those of prefixes, the
    /// longest first.
    pub(super) fn walk<'t, B>(
        &'t self,
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'t Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut prefixes: SmallVec<[&Candidates<T>; 16]> = SmallVec::new();
        let mut tree = self;
        let mut rest = ask.path.as_bytes();
        loop {
            let branch = match tree {
                Self::Branch(branch) => branch,
                Self::Leaf(entries) => {
                    for entry in &**entries {
                        if entry.leads(rest) && entry.candidate.is_meant(ask) {
                            visit(&entry.candidate)?;
                        }
                    }
                    break;
                }
            };
            let Some(after) = rest.strip_prefix(&*branch.label) else {
                break;
            };
            prefixes.extend(branch.prefix.as_deref());
            let Some(first) = after.first() else {
                if let Some(exact) = &branch.exact {
                    exact.walk(ask, visit)?;
                }
                break;
            };
            let Some(child) = branch.child(*first) else {
                break;
            };
            tree = child;
            rest = after;
        }
        for prefix in prefixes.into_iter().rev() {
            prefix.walk(ask, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// With `label` before every key.
    fn behind(&self, label: &[u8]) -> Self {
        let longer = |key: &Label| Label::from([label, key].concat().as_slice());
        match self {
            Self::Leaf(entries) => {
                let entry = |entry: &Entry<T>| Entry {
                    key: longer(&entry.key),
                    candidate: entry.candidate.clone(),
                };
                Self::Leaf(entries.iter().map(entry).collect())
            }
            Self::Branch(branch) => {
                let label = longer(&branch.label);
                Self::Branch(Arc::new(Branch { label, ..Branch::clone(branch) }))
            }
        }
    }
}

/// What `key` and the keys of `entries` begin with.
fn common<'k, T>(entries: &[Entry<T>], key: &'k [u8]) -> &'k [u8] {
    entries.iter().fold(key, |key, entry| &key[..same(key, &entry.key)])
}

/// How many bytes two keys begin alike with.
fn same(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
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

// === impl Branch ===

impl<T> Branch<T> {
    fn new(label: &[u8]) -> Self {
        let (firsts, children) = (SmallVec::new(), Vec::new());
        Self { label: label.into(), exact: None, prefix: None, firsts, children }
    }

    fn insert(&mut self, key: &[u8], candidate: Candidate<T>) {
        let same = same(&self.label, key);
        if same < self.label.len() {
            let upper = Self::new(&self.label[..same]);
            let mut lower = std::mem::replace(self, upper);
            lower.label = lower.label[same..].into();
            self.push(lower.label[0], Tree::Branch(Arc::new(lower)));
        }
        let rest = &key[same..];
        if let Some(first) = rest.first() {
            let at = self.place(*first).unwrap_or_else(|| self.push(*first, Tree::default()));
            self.children[at].insert(rest, candidate);
        } else {
            let list = if candidate.is_prefix() { &mut self.prefix } else { &mut self.exact };
            Arc::make_mut(list.get_or_insert_default()).insert(candidate);
        }
    }

    fn remove(&mut self, key: &[u8], matcher: &Matcher, path: u32, host: u32) {
        let Some(rest) = key.strip_prefix(&*self.label) else {
            return;
        };
        let Some(first) = rest.first() else {
            let is_prefix = matcher.paths[path as usize].is_prefix();
            let list = if is_prefix { &mut self.prefix } else { &mut self.exact };
            if let Some(candidates) = list {
                Arc::make_mut(candidates).remove(matcher, path, host);
            }
            list.take_if(|candidates| candidates.is_empty());
            return;
        };
        let Some(at) = self.place(*first) else {
            return;
        };
        self.children[at].remove(rest, matcher, path, host);
        if self.children[at].is_empty() {
            self.firsts.swap_remove(at);
            self.children.swap_remove(at);
        }
    }

    /// What stands for a branch that holds nothing, or only leads on.
    fn closed_up(&self) -> Option<Tree<T>> {
        if self.exact.is_some() || self.prefix.is_some() {
            return None;
        }
        match self.children.as_slice() {
            [] => Some(Tree::default()),
            [only] => Some(only.behind(&self.label)),
            _ => None,
        }
    }

    fn place(&self, first: u8) -> Option<usize> {
        self.firsts.iter().position(|known| *known == first)
    }

    fn child(&self, first: u8) -> Option<&Tree<T>> {
        self.children.get(self.place(first)?)
    }

    fn push(&mut self, first: u8, child: Tree<T>) -> usize {
        self.firsts.push(first);
        // There are many branches, and most of them change seldom: none keeps room that it may
        // need.
        self.children.reserve_exact(1);
        self.children.push(child);
        self.children.len() - 1
    }
}

// === impl Label ===

impl From<&[u8]> for Label {
    fn from(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl Deref for Label {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..*len as usize],
            Self::Long(bytes) => bytes,
        }
    }
}

// Derived implementations would ask for `T: Clone`, which sharing does not need.
impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(entries.clone()),
            Self::Branch(branch) => Self::Branch(branch.clone()),
        }
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), candidate: self.candidate.clone() }
    }
}

impl<T> Clone for Branch<T> {
    fn clone(&self) -> Self {
        Self {
            label: self.label.clone(),
            exact: self.exact.clone(),
            prefix: self.prefix.clone(),
            firsts: self.firsts.clone(),
            children: self.children.clone(),
        }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self::Leaf(Arc::new([]))
    }
}
