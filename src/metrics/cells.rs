//! The cells: counters that one worker writes and the control side reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::sample::{RouteLabels, Sample};

/// The parts of `http_latency`: label `type`, in the order of [`Cells`]' histograms.
pub(super) const LATENCY_TYPES: [&str; 3] = ["request", "upstream", "apisix"];

/// A number with one writing thread. Plain loads and stores: no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

/// What one worker counted for one set of identities. One allocation of the worker's own heap,
/// besides the buckets.
#[derive(Debug)]
pub(super) struct Cells {
    requests: Cell,
    ingress_bytes: Cell,
    egress_bytes: Cell,
    /// Nanoseconds, by latency type.
    sums: [Cell; 3],
    /// Observations by latency type and bucket, not cumulative; the last bucket of each type is
    /// `+Inf`.
    buckets: Box<[Cell]>,
}

/// The values of [`Cells`] at one moment, or what was added to them between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) requests: u64,
    pub(super) ingress_bytes: u64,
    pub(super) egress_bytes: u64,
    pub(super) sums: [u64; 3],
    pub(super) buckets: Box<[u64]>,
}

/// A worker's new cells and the label values that they stand for, on their way to the merged
/// series.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) route: Arc<RouteLabels>,
    pub(super) consumer: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) status: u16,
    pub(super) source: &'static str,
    pub(super) cells: Arc<Cells>,
}

/// What a worker shares with the control side.
#[derive(Debug, Default)]
pub(super) struct WorkerCells {
    /// Held by the worker to push once for each new series, and by the control side to take the
    /// whole list: neither keeps the other waiting.
    pub(super) inbox: Mutex<Vec<Registration>>,
    pub(super) accepted: Cell,
    pub(super) handled: Cell,
    pub(super) requests: Cell,
    pub(super) reading: Cell,
    pub(super) writing: Cell,
    pub(super) waiting: Cell,
    pub(super) dropped: Cell,
}

// === impl Cell ===

impl Cell {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.0.store(self.get().wrapping_sub(n), Ordering::Relaxed);
    }
}

// === impl Cells ===

impl Cells {
    /// Zeroes, for `bounds` finite buckets a histogram.
    pub(super) fn new(bounds: usize) -> Self {
        Self {
            requests: Cell::default(),
            ingress_bytes: Cell::default(),
            egress_bytes: Cell::default(),
            sums: Default::default(),
            buckets: (0..LATENCY_TYPES.len() * (bounds + 1)).map(|_| Cell::default()).collect(),
        }
    }

    /// Counts one exchange. `bounds` are the finite buckets' upper bounds in nanoseconds.
    pub(super) fn record(&self, sample: &Sample<'_>, bounds: &[u64]) {
        let whole = nanos(sample.latency);
        self.observe(0, whole, bounds);
        let mut own = whole;
        if let Some(upstream) = sample.upstream_latency {
            let upstream = nanos(upstream);
            self.observe(1, upstream, bounds);
            own = whole.saturating_sub(upstream);
        }
        self.observe(2, own, bounds);
        self.ingress_bytes.add(sample.ingress_bytes);
        self.egress_bytes.add(sample.egress_bytes);
        // Last and with release: who sees this count sees the rest of its sample too.
        self.requests.0.store(self.requests.get().wrapping_add(1), Ordering::Release);
    }

    fn observe(&self, kind: usize, nanos: u64, bounds: &[u64]) {
        let bucket = bounds.partition_point(|bound| *bound < nanos);
        if let Some(cell) = self.buckets.get(kind * (bounds.len() + 1) + bucket) {
            cell.add(1);
        }
        self.sums[kind].add(nanos);
    }

    /// What was added since `seen`, which is brought up to date; `None` when nothing was.
    pub(super) fn since(&self, seen: &mut Reading) -> Option<Reading> {
        let requests = self.requests.0.load(Ordering::Acquire);
        if requests == seen.requests {
            return None;
        }
        let now = Reading {
            requests,
            ingress_bytes: self.ingress_bytes.get(),
            egress_bytes: self.egress_bytes.get(),
            sums: [0, 1, 2].map(|kind| self.sums[kind].get()),
            buckets: self.buckets.iter().map(Cell::get).collect(),
        };
        let mut added = now.clone();
        added.requests -= seen.requests;
        added.ingress_bytes = added.ingress_bytes.wrapping_sub(seen.ingress_bytes);
        added.egress_bytes = added.egress_bytes.wrapping_sub(seen.egress_bytes);
        for (sum, seen) in added.sums.iter_mut().zip(&seen.sums) {
            *sum = sum.wrapping_sub(*seen);
        }
        for (bucket, seen) in added.buckets.iter_mut().zip(&seen.buckets) {
            *bucket = bucket.wrapping_sub(*seen);
        }
        *seen = now;
        Some(added)
    }
}

// === impl Reading ===

impl Reading {
    /// All zero, with the shape of `cells`.
    pub(super) fn zero(cells: &Cells) -> Self {
        Self {
            requests: 0,
            ingress_bytes: 0,
            egress_bytes: 0,
            sums: [0; 3],
            buckets: vec![0; cells.buckets.len()].into(),
        }
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
