//! The cells that one worker writes and the scrape reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::{RouteLabels, Sample};

/// What tells one series from another: identities of shared label values, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    route: usize,
    consumer: usize,
    node: usize,
    status: u16,
    from_upstream: bool,
}

/// The counters of one combination of labels on one worker.
pub(super) struct Series {
    pub(super) route: Arc<RouteLabels>,
    pub(super) consumer: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) status: u16,
    pub(super) from_upstream: bool,
    pub(super) requests: Cell,
    pub(super) ingress_bytes: Cell,
    pub(super) egress_bytes: Cell,
    pub(super) latency: [Histogram; 3],
}

/// A histogram of milliseconds: a cell a bucket (not cumulative), and the sum.
pub(super) struct Histogram {
    pub(super) buckets: Box<[Cell]>,
    pub(super) sum_micros: Cell,
}

/// A counter with one writer: no read-modify-write is needed.
#[derive(Default)]
pub(super) struct Cell(AtomicU64);

/// nginx's `stub_status`, counted.
#[derive(Default)]
pub(super) struct Connections {
    pub(super) accepted: Cell,
    pub(super) active: AtomicI64,
    pub(super) requests: Cell,
    pub(super) writing: AtomicI64,
}

/// Places in [`Series::latency`].
pub(super) const REQUEST: usize = 0;
pub(super) const UPSTREAM: usize = 1;
pub(super) const APISIX: usize = 2;

// === impl SeriesKey ===

impl SeriesKey {
    pub(super) fn of(sample: &Sample<'_>) -> Self {
        // A series holds its labels, so no identity is given to other labels while it lives.
        let identity = |text: &Arc<str>| Arc::as_ptr(text).cast::<u8>() as usize;
        Self {
            route: Arc::as_ptr(sample.route) as usize,
            consumer: sample.consumer.map_or(0, identity),
            node: sample.node.map_or(0, identity),
            status: sample.status,
            from_upstream: sample.from_upstream,
        }
    }
}

// === impl Series ===

impl Series {
    pub(super) fn new(sample: &Sample<'_>, buckets: usize) -> Self {
        let histogram = || Histogram {
            buckets: std::iter::repeat_with(Cell::default).take(buckets + 1).collect(),
            sum_micros: Cell::default(),
        };
        Self {
            route: sample.route.clone(),
            consumer: sample.consumer.cloned(),
            node: sample.node.cloned(),
            status: sample.status,
            from_upstream: sample.from_upstream,
            requests: Cell::default(),
            ingress_bytes: Cell::default(),
            egress_bytes: Cell::default(),
            latency: [histogram(), histogram(), histogram()],
        }
    }

    pub(super) fn count(&self, sample: &Sample<'_>, bounds: &[f64]) {
        self.requests.add(1);
        self.ingress_bytes.add(sample.ingress_bytes);
        self.egress_bytes.add(sample.egress_bytes);
        self.latency[REQUEST].observe(sample.latency, bounds);
        if let Some(upstream) = sample.upstream_latency {
            self.latency[UPSTREAM].observe(upstream, bounds);
        }
        let own = sample.latency.saturating_sub(sample.upstream_latency.unwrap_or_default());
        self.latency[APISIX].observe(own, bounds);
    }
}

// === impl Histogram ===

impl Histogram {
    fn observe(&self, duration: Duration, bounds: &[f64]) {
        let micros = duration.as_micros() as u64;
        let millis = micros as f64 / 1000.0;
        let bucket = bounds.iter().position(|bound| millis <= *bound);
        self.buckets[bucket.unwrap_or(bounds.len())].add(1);
        self.sum_micros.add(micros);
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Connections ===

impl Connections {
    pub(super) fn opened(&self) {
        self.accepted.add(1);
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn request_began(&self) {
        self.requests.add(1);
        self.writing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ended(&self) {
        self.writing.fetch_sub(1, Ordering::Relaxed);
    }
}
