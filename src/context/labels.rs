//! What the matched route is told by, where it stands.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use yoke::Yoke;
use yoke::erased::ErasedRcCart;

use crate::metrics::RouteLabels;

/// [`RouteLabels`] in the keeping of what the exchange holds anyway.
///
/// A clone of the `Arc` would be a write to memory that all workers share, and with many routes one
/// that is seldom at hand.
#[derive(Clone)]
pub struct Labels(Yoke<&'static Arc<RouteLabels>, ErasedRcCart>);

// === impl Labels ===

impl Labels {
    /// Those that stand in something which this thread alone counts.
    pub fn kept<K: 'static>(labels: Yoke<&'static Arc<RouteLabels>, Rc<K>>) -> Self {
        Self(labels.erase_rc_cart())
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::kept(Yoke::attach_to_cart(Rc::default(), |labels: &Arc<RouteLabels>| labels))
    }
}

impl Deref for Labels {
    type Target = Arc<RouteLabels>;

    fn deref(&self) -> &Arc<RouteLabels> {
        self.0.get()
    }
}
