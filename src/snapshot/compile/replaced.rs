//! Upstreams that something has taken the place of, until nobody is served by them.

use std::mem;
use std::sync::Arc;

use super::Compiler;
use crate::resource::Kind;
use crate::snapshot::references::Key;
use crate::upstream::Upstream;

/// Each with the resource that it was of.
#[derive(Default)]
pub(super) struct Replaced(Vec<(Key, Arc<Upstream>)>);

// === impl Replaced ===

impl Replaced {
    /// Notes what was the upstream of `key`; one that it only named is another's.
    pub(super) fn note(&mut self, key: &Key, old: Option<Arc<Upstream>>) {
        let (kind, id) = key;
        let is_own = |old: &Arc<Upstream>| old.source.split_once('/') == Some((kind.dir(), id));
        self.0.extend(old.filter(is_own).map(|old| (key.clone(), old)));
    }
}

// === impl Compiler ===

impl Compiler {
    /// Has the connections closed that the config does not lead to any more. Whoever could not be
    /// compiled anew may still be served by what was replaced, and keeps its connections.
    pub(super) fn retire_replaced(&mut self) {
        for (key, old) in mem::take(&mut self.replaced.0) {
            if self.is_served_by(&key, &old) {
                self.replaced.0.push((key, old));
            } else {
                old.retire(self.upstream_of(&key).map(|new| &**new));
            }
        }
    }

    /// Whether one of those who refer to `key`, in one step or by a service, has `old`.
    fn is_served_by(&self, key: &Key, old: &Arc<Upstream>) -> bool {
        let has = |user: &Key| self.upstream_of(user).is_some_and(|own| Arc::ptr_eq(own, old));
        self.users
            .of(key)
            .any(|user| has(user) || (user.0 == Kind::Service && self.users.of(user).any(has)))
    }

    fn upstream_of(&self, (kind, id): &Key) -> Option<&Arc<Upstream>> {
        match kind {
            Kind::Upstream => self.parts.upstreams.get(id),
            Kind::Service => self.parts.services.get(id)?.upstream.as_ref(),
            Kind::Route => self.parts.routes.get(id)?.route.upstream.as_ref(),
            _ => None,
        }
    }
}
