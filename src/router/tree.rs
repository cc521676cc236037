//! A radix tree over the keys of paths, shared between versions.
//!
//! What a lookup costs in a large table is memory that is not at hand: each pointer that has to be
//! followed before the next is known is a hundred nanoseconds. So a tree, or a part of one, that
//! holds few candidates is a [`Leaf`], one block; that is all there is for most hosts. A leaf that
//! grows beyond that bursts into a branch with leaves of its own (as in a burst trie; Heinz, Zobel
//! and Williams, 2002).

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::candidates::{Ask, Candidate, Candidates};
use super::label::{Label, same};
use super::leaf::Leaf;
use super::matcher::Matcher;

/// Candidates by the keys of their paths.
pub(super) enum Tree<T> {
    Leaf(Leaf<T>),
    Branch(Arc<Branch<T>>),
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

// === impl Tree ===

impl<T> Tree<T> {
    /// Adds a candidate under a key.
    pub(super) fn insert(&mut self, key: &[u8], candidate: Candidate<T>) {
        match self {
            Self::Leaf(leaf) if !leaf.is_full() => *leaf = leaf.with(key, candidate),
            Self::Leaf(leaf) => {
                let mut branch = Branch::new(leaf.common(key));
                for (key, candidate) in leaf.entries() {
                    branch.insert(key, candidate.clone());
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
            Self::Leaf(leaf) => {
                if let Some(rest) = leaf.without(key, matcher, path, host) {
                    *leaf = rest;
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
        matches!(self, Self::Leaf(leaf) if leaf.is_empty())
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
                Self::Leaf(leaf) => {
                    leaf.walk(rest, ask, visit)?;
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
        match self {
            Self::Leaf(leaf) => Self::Leaf(leaf.behind(label)),
            Self::Branch(branch) => {
                let label = branch.label.behind(label);
                Self::Branch(Arc::new(Branch { label, ..Branch::clone(branch) }))
            }
        }
    }
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

// Derived implementations would ask for `T: Clone`, which sharing does not need.
impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
            Self::Branch(branch) => Self::Branch(branch.clone()),
        }
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
        Self::Leaf(Leaf::default())
    }
}
