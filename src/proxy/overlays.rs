//! The chains of routes with consumers' plugins laid over them, as one worker has met them.
//!
//! Every pair of a route and a consumer would be far too many to compile ahead; those that are
//! asked for are put together once for as long as the snapshot is served.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::plugin::chain::{Chain, Overlay};

/// Pairs that are kept; when there are more, all are let go and put together again.
const MOST: usize = 4096;

/// Overlays by route and consumer of one snapshot, which outlives them.
#[derive(Default)]
pub(super) struct Overlays(RefCell<HashMap<Pair, Rc<Overlay>, FixedState>>);

/// The addresses of a route's chain and a consumer's name; no client chooses any.
type Pair = (usize, usize);

// === impl Overlays ===

impl Overlays {
    /// The chain of a route, which stays where it is, with `own` of `consumer` laid over it.
    pub(super) fn get(&self, route: &Chain, consumer: &Arc<str>, own: &Chain) -> Rc<Overlay> {
        let pair = (std::ptr::from_ref(route).addr(), Arc::as_ptr(consumer).addr());
        let mut known = self.0.borrow_mut();
        if let Some(overlay) = known.get(&pair) {
            return overlay.clone();
        }
        if known.len() >= MOST {
            known.clear();
        }
        let overlay = Rc::new(route.overlaid(own));
        known.insert(pair, overlay.clone());
        overlay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_a_pair_together_once_and_keeps_a_bounded_number() {
        let overlays = Overlays::default();
        let (route, other, own) = (Chain::default(), Chain::default(), Chain::default());
        let jack: Arc<str> = "jack".into();
        let first = overlays.get(&route, &jack, &own);
        assert!(Rc::ptr_eq(&first, &overlays.get(&route, &jack, &own)));
        assert!(!Rc::ptr_eq(&first, &overlays.get(&other, &jack, &own)));
        let many: Vec<Arc<str>> = (0..MOST).map(|n| n.to_string().into()).collect();
        for name in &many {
            overlays.get(&route, name, &own);
        }
        assert!(overlays.0.borrow().len() <= MOST);
    }
}
