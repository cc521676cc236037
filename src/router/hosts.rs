//! Things by host, in the order in which hosts are preferred.

use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::FixedState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

/// Values of exact hosts, of wildcards, and of everything without a host. Clones share.
#[derive(Clone)]
pub(super) struct Hosts<V> {
    exact: Map<V>,
    /// By what stands after the `*`.
    wildcard: Map<V>,
    any: V,
    /// Wildcards whose `*` is not followed by a dot; while there are any, every suffix of a host
    /// is looked up, not only those that begin a label.
    odd_wildcards: usize,
}

/// Only config is put in, so that no client can choose what collides.
type Map<V> = GenericHashMap<Arc<str>, V, FixedState, DefaultSharedPtr>;

// === impl Hosts ===

impl<V: Clone + Default> Hosts<V> {
    /// Changes the value of a host as it is written, `None` for the one of no host. A value that
    /// `change` says is empty afterwards is dropped.
    pub(super) fn change(&mut self, host: Option<&str>, change: impl FnOnce(&mut V) -> IsEmpty) {
        let Some(host) = host else {
            change(&mut self.any);
            return;
        };
        let key = host.to_ascii_lowercase();
        let (map, key, is_odd) = match key.strip_prefix('*') {
            None => (&mut self.exact, key.as_str(), false),
            Some(suffix) => (&mut self.wildcard, suffix, !suffix.starts_with('.')),
        };
        if let Some(value) = map.get_mut(key) {
            if change(value) == IsEmpty::Yes {
                map.remove(key);
                self.odd_wildcards -= usize::from(is_odd);
            }
            return;
        }
        let mut value = V::default();
        if change(&mut value) == IsEmpty::No {
            map.insert(key.into(), value);
            self.odd_wildcards += usize::from(is_odd);
        }
    }

    /// Visits what there is for a host in lower case: its own, its wildcards', the longest first,
    /// and that of no host.
    pub(super) fn walk<'h, B>(
        &'h self,
        host: Option<&str>,
        mut visit: impl FnMut(&'h V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(host) = host {
            if let Some(value) = self.exact.get(host) {
                visit(value)?;
            }
            if self.odd_wildcards > 0 {
                let ends = (0..=host.len()).filter(|at| host.is_char_boundary(*at));
                self.walk_suffixes(host, ends, &mut visit)?;
            } else if !self.wildcard.is_empty() {
                let dots = memchr::memchr_iter(b'.', host.as_bytes());
                self.walk_suffixes(host, dots, &mut visit)?;
            }
        }
        visit(&self.any)
    }

    fn walk_suffixes<'h, B>(
        &'h self,
        host: &str,
        starts: impl Iterator<Item = usize>,
        visit: &mut impl FnMut(&'h V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for start in starts {
            if let Some(value) = self.wildcard.get(&host[start..]) {
                visit(value)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether a value has nothing in it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsEmpty {
    Yes,
    No,
}

// === impl IsEmpty ===

impl From<bool> for IsEmpty {
    fn from(is_empty: bool) -> Self {
        if is_empty { Self::Yes } else { Self::No }
    }
}

impl<V: Default> Default for Hosts<V> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            wildcard: Map::default(),
            any: V::default(),
            odd_wildcards: 0,
        }
    }
}
