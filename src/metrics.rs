//! Metrics in APISIX's names and labels, counted without a lock and merged on read.
//!
//! Each worker owns its cells ([`Worker`]): atomics that one thread writes and the scrape reads.
//! A series is found by the identities of its labels, not by hashing their text; its first
//! sample registers it, which is the only time a lock is taken. Never formats a label on the
//! request road.

mod cells;
mod exporter;
mod gauges;

use std::collections::HashMap;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use self::exporter::serve;
pub use self::gauges::Gauges;
use self::cells::{Connections, Series, SeriesKey};

/// Upper bounds of the latency buckets in milliseconds.
///
/// Source: APISIX `plugins/prometheus/exporter.lua`.
pub const BUCKETS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 30000.0,
    60000.0,
];

/// How metrics are named and bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `apisix_`, so that existing boards work.
    pub prefix: String,
    /// Latency buckets in milliseconds, rising.
    pub buckets: Vec<f64>,
    /// Series beyond this are counted as dropped, not kept.
    pub max_series: usize,
    pub hostname: String,
    pub version: String,
}

/// Label values of a route, shared by all its requests; their identity keys the series.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RouteLabels {
    pub route: String,
    pub matched_uri: String,
    pub matched_host: String,
    pub service: String,
}

/// One exchange to be counted.
pub struct Sample<'a> {
    pub route: &'a Arc<RouteLabels>,
    pub consumer: Option<&'a Arc<str>>,
    /// IP of the node that was asked last.
    pub node: Option<&'a Arc<str>>,
    pub status: u16,
    /// Whether the upstream gave the response.
    pub from_upstream: bool,
    /// The whole exchange.
    pub latency: Duration,
    /// The upstream's part of it.
    pub upstream_latency: Option<Duration>,
    pub ingress_bytes: u64,
    pub egress_bytes: u64,
}

/// Everything that is exported.
pub struct Metrics {
    settings: Settings,
    workers: Mutex<Vec<Arc<Shelf>>>,
    series: AtomicU64,
    dropped: AtomicU64,
    /// What the control side knows.
    pub gauges: Gauges,
}

/// What one worker has counted.
#[derive(Default)]
struct Shelf {
    series: Mutex<Vec<Arc<Series>>>,
    connections: Connections,
}

/// A worker's hand on its cells. Stays on its thread.
pub struct Worker {
    metrics: Arc<Metrics>,
    shelf: Arc<Shelf>,
    known: RefCell<HashMap<SeriesKey, Option<Arc<Series>>>>,
}

// === impl Metrics ===

impl Metrics {
    /// Nothing counted yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            workers: Mutex::default(),
            series: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            gauges: Gauges::default(),
        })
    }

    /// Cells for one more worker.
    pub fn worker(self: &Arc<Self>) -> Worker {
        let shelf = Arc::new(Shelf::default());
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(shelf.clone());
        Worker {
            metrics: self.clone(),
            shelf,
            known: RefCell::default(),
        }
    }

    /// Forgets the series whose labels `is_live` refuses, so that deleted routes do not stay in
    /// every scrape for ever.
    pub fn retain(&self, is_live: impl Fn(&Arc<RouteLabels>) -> bool) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in workers.iter() {
            let mut series = shelf.series.lock().unwrap_or_else(PoisonError::into_inner);
            let before = series.len();
            series.retain(|series| is_live(&series.route));
            let gone = (before - series.len()) as u64;
            self.series.fetch_sub(gone, Ordering::Relaxed);
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Counts an exchange.
    pub fn record(&self, sample: Sample<'_>) {
        let key = SeriesKey::of(&sample);
        let mut known = self.known.borrow_mut();
        if let Some(series) = known.get(&key) {
            if let Some(series) = series {
                series.count(&sample, &self.metrics.settings.buckets);
            } else {
                self.metrics.dropped.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let series = self.register(&sample);
        match &series {
            Some(series) => series.count(&sample, &self.metrics.settings.buckets),
            None => {
                self.metrics.dropped.fetch_add(1, Ordering::Relaxed);
                // A bound on what is known to be dropped, too.
                if known.len() >= self.metrics.settings.max_series * 2 {
                    return;
                }
            }
        }
        known.insert(key, series);
    }

    fn register(&self, sample: &Sample<'_>) -> Option<Arc<Series>> {
        let most = self.metrics.settings.max_series as u64;
        if self.metrics.series.fetch_add(1, Ordering::Relaxed) >= most {
            self.metrics.series.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let series = Arc::new(Series::new(sample, self.metrics.settings.buckets.len()));
        let mut all = self.shelf.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(series.clone());
        Some(series)
    }

    /// Lets go of series whose routes are gone; called now and then by the worker itself.
    pub fn sweep(&self) {
        let mut known = self.known.borrow_mut();
        // Not on the shelf any more: the route is gone. What was dropped may fit now.
        known.retain(|_, series| {
            series.as_ref().is_some_and(|series| Arc::strong_count(series) > 1)
        });
    }

    /// A connection was accepted.
    pub fn opened(&self) {
        self.shelf.connections.opened();
    }

    /// A connection ended.
    pub fn closed(&self) {
        self.shelf.connections.closed();
    }

    /// A request's head has been read.
    pub fn request_began(&self) {
        self.shelf.connections.request_began();
    }

    /// A response has been handed over, or given up.
    pub fn request_ended(&self) {
        self.shelf.connections.request_ended();
    }
}
