//! A radix tree over the keys of paths, shared between versions.
//!
//! The children of a node lie in one block, with the first bytes of their labels before them: a
//! step of a walk reads one line of memory to choose the child and one to compare its label, where
//! a pointer a child took a line a comparison (8 % of a request through 10,000 siblings).

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use smallvec::SmallVec;

use super::candidates::{Ask, Candidate, Candidates};

/// Candidates by the keys of their paths.
pub(super) struct Tree<T> {
    root: Arc<Node<T>>,
}

struct Node<T> {
    /// What leads here from the parent.
    label: Label,
    /// Those whose key ends here, and the path with it.
    exact: Option<Arc<Candidates<T>>>,
    /// Those whose key ends here, and the path may go on.
    prefix: Option<Arc<Candidates<T>>>,
    fork: Option<Arc<Fork<T>>>,
}

/// The children of a node.
struct Fork<T> {
    /// The first byte of each child's label.
    firsts: SmallVec<[u8; 16]>,
    children: Vec<Node<T>>,
}

/// Bytes, in place when they are few.
#[derive(Clone)]
enum Label {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// What fits beside the length and the tag in the room that a long label needs anyway.
const SHORT: usize = 22;

// === impl Tree ===

impl<T> Tree<T> {
    /// Adds a candidate under a key; `is_prefix` when the path may go on.
    pub(super) fn insert(&mut self, key: &[u8], is_prefix: bool, candidate: Candidate<T>) {
        let node = Arc::make_mut(&mut self.root).at(key);
        let list = if is_prefix { &mut node.prefix } else { &mut node.exact };
        Arc::make_mut(list.get_or_insert_default()).insert(candidate);
    }

    /// Changes the candidates of a key, if there are any.
    pub(super) fn change(
        &mut self,
        key: &[u8],
        is_prefix: bool,
        change: impl FnOnce(&mut Candidates<T>),
    ) {
        Arc::make_mut(&mut self.root).change(key, is_prefix, change);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_unused()
    }

    /// Visits the candidates that are meant: those of the exact path, then those of prefixes, the
    /// longest first.
    pub(super) fn walk<'t, B>(
        &'t self,
        ask: &Ask<'_>,
        visit: &mut impl FnMut(&'t Candidate<T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut prefixes: SmallVec<[&Candidates<T>; 16]> = SmallVec::new();
        let mut node = &*self.root;
        let mut rest = ask.path.as_bytes();
        while let Some(after) = rest.strip_prefix(&*node.label) {
            prefixes.extend(node.prefix.as_deref());
            let Some(first) = after.first() else {
                if let Some(exact) = &node.exact {
                    exact.walk(ask, visit)?;
                }
                break;
            };
            let Some(child) = node.fork.as_ref().and_then(|fork| fork.child(*first)) else {
                break;
            };
            node = child;
            rest = after;
        }
        for prefix in prefixes.into_iter().rev() {
            prefix.walk(ask, visit)?;
        }
        ControlFlow::Continue(())
    }
}

// === impl Node ===

impl<T> Node<T> {
    fn new(label: &[u8]) -> Self {
        Self { label: label.into(), exact: None, prefix: None, fork: None }
    }

    /// The node of a key, made if it is not there.
    fn at(&mut self, key: &[u8]) -> &mut Self {
        if self.is_unused() {
            self.label = key.into();
            return self;
        }
        let same = self.label.iter().zip(key).take_while(|(a, b)| a == b).count();
        if same < self.label.len() {
            let upper = Self::new(&self.label[..same]);
            let mut lower = std::mem::replace(self, upper);
            lower.label = lower.label[same..].into();
            Arc::make_mut(self.fork.get_or_insert_default()).push(lower);
        }
        let rest = &key[same..];
        let Some(first) = rest.first() else {
            return self;
        };
        let fork = Arc::make_mut(self.fork.get_or_insert_default());
        let at = fork.place(*first).unwrap_or_else(|| fork.push(Self::new(rest)));
        fork.children[at].at(rest)
    }

    fn change(&mut self, key: &[u8], is_prefix: bool, change: impl FnOnce(&mut Candidates<T>)) {
        let Some(rest) = key.strip_prefix(&*self.label) else {
            return;
        };
        let Some(first) = rest.first() else {
            let list = if is_prefix { &mut self.prefix } else { &mut self.exact };
            if let Some(candidates) = list {
                change(Arc::make_mut(candidates));
            }
            list.take_if(|candidates| candidates.is_empty());
            return self.close_up();
        };
        let Some(fork) = &mut self.fork else {
            return;
        };
        let Some(at) = fork.place(*first) else {
            return;
        };
        let fork = Arc::make_mut(fork);
        fork.children[at].change(rest, is_prefix, change);
        if fork.children[at].is_unused() {
            fork.firsts.swap_remove(at);
            fork.children.swap_remove(at);
        }
        self.close_up();
    }

    /// Joins a node that only leads on with the one that it leads to.
    fn close_up(&mut self) {
        self.fork.take_if(|fork| fork.children.is_empty());
        if self.exact.is_some() || self.prefix.is_some() {
            return;
        }
        let only = self.fork.as_mut().filter(|fork| fork.children.len() == 1);
        if let Some(mut only) = only.and_then(|fork| Arc::make_mut(fork).children.pop()) {
            only.label = [&*self.label, &*only.label].concat().as_slice().into();
            *self = only;
        }
    }

    fn is_unused(&self) -> bool {
        self.exact.is_none() && self.prefix.is_none() && self.fork.is_none()
    }
}

// === impl Fork ===

impl<T> Fork<T> {
    fn place(&self, first: u8) -> Option<usize> {
        self.firsts.iter().position(|known| *known == first)
    }

    fn child(&self, first: u8) -> Option<&Node<T>> {
        self.children.get(self.place(first)?)
    }

    fn push(&mut self, child: Node<T>) -> usize {
        self.firsts.push(child.label[0]);
        // There are many forks, and most of them change seldom: none keeps room that it may need.
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
        Self { root: self.root.clone() }
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self {
            label: self.label.clone(),
            exact: self.exact.clone(),
            prefix: self.prefix.clone(),
            fork: self.fork.clone(),
        }
    }
}

impl<T> Clone for Fork<T> {
    fn clone(&self) -> Self {
        Self { firsts: self.firsts.clone(), children: self.children.clone() }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::new(&[])) }
    }
}

impl<T> Default for Fork<T> {
    fn default() -> Self {
        Self { firsts: SmallVec::new(), children: Vec::new() }
    }
}
