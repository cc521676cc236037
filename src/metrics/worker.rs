//! The worker's end: from a sample to its cells without lock, text or allocation.

use std::cell::{Cell as Local, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use super::cells::{Cells, Identity, Registration, WorkerCells};
use super::sample::{RouteLabels, Sample};

/// Records what one worker thread does. Cheap to clone, bound to its thread.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    cells: Arc<WorkerCells>,
    bounds: Arc<[u64]>,
    slots: RefCell<HashTable<Slot>>,
    /// The most slots, also the most registrations waiting.
    max_slots: usize,
    /// First samples until the next search for slots that nobody can hit any more.
    until_sweep: Local<usize>,
}

/// Small, since a request looks at one of many: whose it is say the cells, which are looked at
/// anyway, and what only a search for dead ones looks at is apart.
struct Slot {
    /// Of the cells' identity, so that the table is searched and grows without a look at the cells of
    /// others.
    hash: u64,
    cells: Cells,
    owners: Box<Owners>,
}

struct Owners {
    route: Weak<RouteLabels>,
    consumer: Option<Weak<str>>,
    node: Option<Weak<str>>,
}

/// A client connection being served, as nginx's `stub_status` counts it: it begins as waiting and
/// is gone when this is dropped.
#[must_use = "the connection is counted as long as this lives"]
pub struct Connection {
    worker: Worker,
    state: Local<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Reading,
    Writing,
}

/// First samples after which the slots are searched for dead ones, at least.
const SWEEP_AFTER: usize = 64;

// === impl Worker ===

impl Worker {
    pub(super) fn new(cells: Arc<WorkerCells>, bounds: Arc<[u64]>, max_slots: usize) -> Self {
        Self(Rc::new(Inner {
            cells,
            bounds,
            slots: RefCell::default(),
            max_slots,
            until_sweep: Local::new(SWEEP_AFTER),
        }))
    }

    /// One whose counts nobody reads.
    pub fn apart() -> Self {
        Self::new(Arc::default(), Arc::default(), 0)
    }

    /// Counts a finished exchange: `http_status`, `http_latency` and `bandwidth`.
    pub fn record(&self, sample: Sample<'_>) {
        let identity = identity(&sample);
        let hash = hash(&identity);
        let slots = self.0.slots.borrow();
        // By the hash first: the cells of another are not at hand.
        let is_its = |slot: &Slot| slot.hash == hash && slot.cells.identity() == identity;
        if let Some(slot) = slots.find(hash, is_its) {
            slot.cells.record(&sample, &self.0.bounds);
            return;
        }
        drop(slots);
        self.record_first(identity, hash, &sample);
    }

    /// Counts a request (`http_requests_total`), when its first bytes arrive.
    pub fn request(&self) {
        self.0.cells.requests.add(1);
    }

    /// Counts an accepted connection.
    pub fn accepted(&self) {
        self.0.cells.accepted.add(1);
    }

    /// Counts a connection that is going to be served (not refused for a limit), and follows it.
    pub fn handled(&self) -> Connection {
        self.0.cells.handled.add(1);
        self.0.cells.waiting.add(1);
        Connection { worker: self.clone(), state: Local::new(State::Waiting) }
    }

    #[cold]
    fn record_first(&self, identity: Identity, hash: u64, sample: &Sample<'_>) {
        let inner = &*self.0;
        let mut slots = inner.slots.borrow_mut();
        // After as many first samples as there are slots, so that the search costs each of them
        // a constant.
        match inner.until_sweep.get() {
            0 => {
                slots.retain(|slot| slot.owners.are_live());
                inner.until_sweep.set(slots.len().max(SWEEP_AFTER));
            }
            n => inner.until_sweep.set(n - 1),
        }
        let mut inbox = super::lock(&inner.cells.inbox);
        if slots.len() >= inner.max_slots || inbox.len() >= inner.max_slots {
            inner.cells.dropped.add(1);
            return;
        }
        let cells = Cells::new(identity, inner.bounds.len());
        cells.record(sample, &inner.bounds);
        inbox.push(Registration {
            route: sample.route.clone(),
            prefers_names: sample.prefers_names,
            consumer: sample.consumer.cloned(),
            node: sample.node.cloned(),
            status: sample.status,
            source: sample.source(),
            cells: cells.clone(),
        });
        let owners = Box::new(Owners {
            route: Arc::downgrade(sample.route),
            consumer: sample.consumer.map(Arc::downgrade),
            node: sample.node.map(Arc::downgrade),
        });
        slots.insert_unique(hash, Slot { hash, cells, owners }, |slot| slot.hash);
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.0.slots.borrow().len()
    }
}

// === impl Owners ===

impl Owners {
    /// Whether a sample with these identities can still come.
    fn are_live(&self) -> bool {
        let is_live = |name: &Option<Weak<str>>| name.as_ref().is_none_or(|n| n.strong_count() > 0);
        self.route.strong_count() > 0 && is_live(&self.consumer) && is_live(&self.node)
    }
}

/// What a sample is known by: addresses, which stay unique because a slot's weak references keep the
/// allocations; and its status, above it whether that is the upstream's, and whether labels are names.
fn identity(sample: &Sample<'_>) -> Identity {
    let address = |name: Option<&Arc<str>>| name.map_or(0, |n| Arc::as_ptr(n).addr() as u64);
    [
        Arc::as_ptr(sample.route).addr() as u64,
        address(sample.consumer),
        address(sample.node),
        u64::from(sample.status)
            | u64::from(sample.from_upstream) << 16
            | u64::from(sample.prefers_names) << 17,
    ]
}

/// Multiplies and folds: the words are few, and no client chooses them.
fn hash(identity: &Identity) -> u64 {
    identity.iter().fold(0, |hash, word| {
        let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
        #[expect(clippy::cast_possible_truncation, reason = "folds both halves")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded.rotate_left(23)
    })
}

// === impl Connection ===

impl Connection {
    /// A request's head is being read.
    pub fn reading(&self) {
        self.enter(State::Reading);
    }

    /// A request is being worked on or its response written.
    pub fn writing(&self) {
        self.enter(State::Writing);
    }

    /// Nothing is under way: kept alive until the next request.
    pub fn waiting(&self) {
        self.enter(State::Waiting);
    }

    fn enter(&self, state: State) {
        if self.state.get() != state {
            self.cell().subtract(1);
            self.state.set(state);
            self.cell().add(1);
        }
    }

    fn cell(&self) -> &super::cells::Cell {
        let cells = &self.worker.0.cells;
        match self.state.get() {
            State::Waiting => &cells.waiting,
            State::Reading => &cells.reading,
            State::Writing => &cells.writing,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cell().subtract(1);
    }
}
