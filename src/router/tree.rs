//! A radix tree over paths, shared between versions.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Found, Methods};

/// The routes of one host by path.
pub(super) struct Tree<T> {
    root: Arc<Node<T>>,
}

/// One route under one of its paths and hosts.
pub(super) struct Candidate<T> {
    pub(super) priority: i64,
    pub(super) id: Arc<str>,
    pub(super) methods: Methods,
    pub(super) path: Arc<str>,
    pub(super) host: Option<Arc<str>>,
    pub(super) value: Arc<T>,
}

struct Node<T> {
    /// What leads here from the parent; empty at the root only.
    label: Box<[u8]>,
    /// Routes whose path ends here.
    exact: Vec<Candidate<T>>,
    /// Routes whose path goes on with `*`.
    prefix: Vec<Candidate<T>>,
    /// By the first byte of their labels, sorted.
    children: Vec<Arc<Node<T>>>,
}

// === impl Tree ===

impl<T> Tree<T> {
    pub(super) fn insert(&mut self, candidate: Candidate<T>) {
        let (key, is_prefix) = split(&candidate.path);
        let node = node_at(Arc::make_mut(&mut self.root), key.as_bytes());
        let list = node.list(is_prefix);
        let at = list.partition_point(|other| other.order(&candidate).is_lt());
        list.insert(at, candidate);
    }

    pub(super) fn remove(&mut self, path: &str, id: &str) {
        let (key, is_prefix) = split(path);
        remove_at(Arc::make_mut(&mut self.root), key.as_bytes(), is_prefix, id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_unused()
    }

    pub(super) fn find(
        &self,
        path: &str,
        check: &mut impl FnMut(&Candidate<T>) -> bool,
    ) -> Option<Found<'_, T>> {
        let mut node = &*self.root;
        let mut rest = path.as_bytes();
        let mut prefixes: SmallVec<[&[Candidate<T>]; 16]> = SmallVec::new();
        loop {
            if !node.prefix.is_empty() {
                prefixes.push(&node.prefix);
            }
            if rest.is_empty() {
                if let Some(found) = node.exact.iter().find(|candidate| check(candidate)) {
                    return Some(found.found());
                }
                break;
            }
            let Some(child) = node.child(rest[0]) else {
                break;
            };
            let Some(after) = rest.strip_prefix(&*child.label) else {
                break;
            };
            node = child;
            rest = after;
        }
        let longest_first = prefixes.into_iter().rev();
        let mut candidates = longest_first.flatten();
        candidates.find(|candidate| check(candidate)).map(Candidate::found)
    }
}

/// Cuts the `*` off a pattern; whatever stands after it has no meaning, as in APISIX.
fn split(pattern: &str) -> (&str, bool) {
    match pattern.split_once('*') {
        Some((key, _)) => (key, true),
        None => (pattern, false),
    }
}

fn node_at<'n, T>(node: &'n mut Node<T>, key: &[u8]) -> &'n mut Node<T> {
    let Some(first) = key.first() else {
        return node;
    };
    let place = node.place(*first);
    let at = match place {
        Ok(at) => at,
        Err(at) => {
            node.children.insert(at, Arc::new(Node::new(key)));
            return Arc::make_mut(&mut node.children[at]);
        }
    };
    let child = Arc::make_mut(&mut node.children[at]);
    let same = child.label.iter().zip(key).take_while(|(a, b)| a == b).count();
    if same < child.label.len() {
        let mut upper = Node::new(&child.label[..same]);
        std::mem::swap(child, &mut upper);
        // `upper` is the old child now; it goes below the new, shorter one.
        upper.label = upper.label[same..].into();
        child.children.push(Arc::new(upper));
    }
    node_at(child, &key[same..])
}

fn remove_at<T>(node: &mut Node<T>, key: &[u8], is_prefix: bool, id: &str) {
    let Some(first) = key.first() else {
        node.list(is_prefix).retain(|candidate| *candidate.id != *id);
        return;
    };
    let Ok(at) = node.place(*first) else {
        return;
    };
    let Some(after) = key.strip_prefix(&*node.children[at].label) else {
        return;
    };
    let child = Arc::make_mut(&mut node.children[at]);
    remove_at(child, after, is_prefix, id);
    if child.is_unused() {
        node.children.remove(at);
    } else if child.exact.is_empty() && child.prefix.is_empty() && child.children.len() == 1 {
        // A fork that leads one way only is no fork.
        let mut only = child.children.remove(0);
        let label = [&*child.label, &*only.label].concat();
        Arc::make_mut(&mut only).label = label.into();
        node.children[at] = only;
    }
}

// === impl Node ===

impl<T> Node<T> {
    fn new(label: &[u8]) -> Self {
        Self { label: label.into(), exact: Vec::new(), prefix: Vec::new(), children: Vec::new() }
    }

    fn place(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |child| child.label[0])
    }

    fn child(&self, first: u8) -> Option<&Self> {
        let at = self.place(first).ok()?;
        Some(&self.children[at])
    }

    fn list(&mut self, is_prefix: bool) -> &mut Vec<Candidate<T>> {
        if is_prefix { &mut self.prefix } else { &mut self.exact }
    }

    fn is_unused(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty() && self.children.is_empty()
    }
}

// === impl Candidate ===

impl<T> Candidate<T> {
    fn order(&self, other: &Self) -> Ordering {
        let by_priority = other.priority.cmp(&self.priority);
        by_priority.then_with(|| self.id.cmp(&other.id))
    }

    fn found(&self) -> Found<'_, T> {
        Found { value: &self.value, path: &self.path, host: self.host.as_ref() }
    }
}

// Derived implementations would ask for `T: Clone`, which sharing does not need.
impl<T> Clone for Candidate<T> {
    fn clone(&self) -> Self {
        Self {
            priority: self.priority,
            id: self.id.clone(),
            methods: self.methods,
            path: self.path.clone(),
            host: self.host.clone(),
            value: self.value.clone(),
        }
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self {
            label: self.label.clone(),
            exact: self.exact.clone(),
            prefix: self.prefix.clone(),
            children: self.children.clone(),
        }
    }
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::new(&[])) }
    }
}
