//! The cells: counters that one worker writes and the control side reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::sample::{RouteLabels, Sample};

/// The parts of `http_latency`: label `type`, in the order of [`Cells`]' histograms.
pub(super) const LATENCY_TYPES: [&str; 3] = ["request", "upstream", "apisix"];

/// A number with one writing thread. Plain loads and stores: no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

/// What a sample is known by, as a worker tells one from another: four words.
pub(super) type Identity = [u64; 4];

/// What one worker counted for one identity.
///
/// One block of the worker's own heap, which clones share: the identity; requests, ingress and
/// egress bytes, and the nanoseconds of each latency type; then, by bucket and latency type, the
/// observations, not cumulative, where the last bucket is `+Inf`. With ten thousand routes hardly any
/// of it is at hand when a request ends, so that what one request needs stands together: one that
/// took less than the first bound, as nearly all do, is counted on two lines of memory.
#[derive(Debug, Clone)]
pub(super) struct Cells(Arc<[Cell]>);

/// The parts of [`Cells`].
struct Parts<'c> {
    identity: &'c [Cell; 4],
    requests: &'c Cell,
    ingress_bytes: &'c Cell,
    egress_bytes: &'c Cell,
    sums: &'c [Cell; 3],
    buckets: &'c [[Cell; 3]],
}

/// Cells between the identity and the buckets.
const TOTALS: usize = 3 + LATENCY_TYPES.len();

/// The values of [`Cells`] at one moment, or what was added to them between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) requests: u64,
    pub(super) ingress_bytes: u64,
    pub(super) egress_bytes: u64,
    pub(super) sums: [u64; 3],
    /// By latency type, then by bucket.
    pub(super) buckets: Box<[u64]>,
}

/// A worker's new cells and the label values that they stand for, on their way to the merged
/// series.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) route: Arc<RouteLabels>,
    pub(super) prefers_names: bool,
    pub(super) consumer: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) status: u16,
    pub(super) source: &'static str,
    pub(super) cells: Cells,
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
    /// Zeroes for `identity`, and for `bounds` finite buckets a histogram.
    pub(super) fn new(identity: Identity, bounds: usize) -> Self {
        let zeroes = TOTALS + LATENCY_TYPES.len() * (bounds + 1);
        let cells = identity.into_iter().chain(std::iter::repeat_n(0, zeroes));
        Self(cells.map(|n| Cell(AtomicU64::new(n))).collect())
    }

    /// Whose they are.
    pub(super) fn identity(&self) -> Identity {
        self.parts().map_or([0; 4], |parts| parts.identity.each_ref().map(Cell::get))
    }

    /// Whether somebody else has them too: those that their worker has let go of do not change any
    /// more.
    pub(super) fn are_shared(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_none()
    }

    /// Counts one exchange. `bounds` are the finite buckets' upper bounds in nanoseconds.
    pub(super) fn record(&self, sample: &Sample<'_>, bounds: &[u64]) {
        let Some(parts) = self.parts() else {
            return;
        };
        let observe = |kind: usize, nanos: u64| {
            let bucket = bounds.partition_point(|bound| *bound < nanos);
            if let Some(cells) = parts.buckets.get(bucket) {
                cells[kind].add(1);
            }
            parts.sums[kind].add(nanos);
        };
        let whole = nanos(sample.latency);
        observe(0, whole);
        let mut own = whole;
        if let Some(upstream) = sample.upstream_latency {
            let upstream = nanos(upstream);
            observe(1, upstream);
            own = whole.saturating_sub(upstream);
        }
        observe(2, own);
        parts.ingress_bytes.add(sample.ingress_bytes);
        parts.egress_bytes.add(sample.egress_bytes);
        // Last and with release: who sees this count sees the rest of its sample too.
        let requests = parts.requests;
        requests.0.store(requests.get().wrapping_add(1), Ordering::Release);
    }

    /// What was added since `seen`, which is brought up to date; `None` when nothing was.
    pub(super) fn since(&self, seen: &mut Reading) -> Option<Reading> {
        let parts = self.parts()?;
        let requests = parts.requests.0.load(Ordering::Acquire);
        if requests == seen.requests {
            return None;
        }
        let buckets_of = |kind: usize| parts.buckets.iter().map(move |cells| cells[kind].get());
        let now = Reading {
            requests,
            ingress_bytes: parts.ingress_bytes.get(),
            egress_bytes: parts.egress_bytes.get(),
            sums: parts.sums.each_ref().map(Cell::get),
            buckets: [0, 1, 2].into_iter().flat_map(buckets_of).collect(),
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

    /// `None` of none that were made here.
    fn parts(&self) -> Option<Parts<'_>> {
        let (identity, rest) = self.0.split_first_chunk()?;
        let (totals, buckets) = rest.split_first_chunk::<TOTALS>()?;
        let [requests, ingress_bytes, egress_bytes, sums @ ..] = totals;
        let (buckets, _) = buckets.as_chunks();
        Some(Parts { identity, requests, ingress_bytes, egress_bytes, sums, buckets })
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
            buckets: vec![0; cells.parts().map_or(0, |parts| parts.buckets.as_flattened().len())]
                .into(),
        }
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
