//! The workers as a whole: their connections, requests and new series.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::cells::{Cell, Registration, WorkerCells};
use super::exposition::{self, gauge, labels};
use super::{Settings, lock};

/// All workers that record, and what those that ended have counted.
#[derive(Default)]
pub(super) struct Workers {
    cells: Vec<Arc<WorkerCells>>,
    ended: Totals,
}

/// Counts that only grow.
#[derive(Default, Clone, Copy)]
struct Totals {
    accepted: u64,
    handled: u64,
    requests: u64,
    dropped: u64,
}

// === impl Workers ===

impl Workers {
    /// Makes room for one more worker.
    pub(super) fn add(&mut self) -> Arc<WorkerCells> {
        let cells = Arc::<WorkerCells>::default();
        self.cells.push(cells.clone());
        cells
    }

    /// Takes what the workers have registered since the last call, and lets go of those that
    /// ended.
    pub(super) fn arrivals(&mut self) -> Vec<Registration> {
        let mut arrivals = Vec::new();
        let ended = &mut self.ended;
        self.cells.retain_mut(|worker| {
            // Looked at first: what an ended worker leaves is complete.
            let is_live = Arc::get_mut(worker).is_none();
            arrivals.append(&mut lock(&worker.inbox));
            if !is_live {
                ended.add(worker);
            }
            is_live
        });
        arrivals
    }

    /// Samples that workers did not record because their maps were full.
    pub(super) fn dropped(&self) -> u64 {
        self.totals().dropped
    }

    fn totals(&self) -> Totals {
        let mut totals = self.ended;
        for worker in &self.cells {
            totals.add(worker);
        }
        totals
    }

    /// The families, read from the cells as they are.
    pub(super) fn families(&self, settings: &Settings) -> Vec<MetricFamily> {
        let Totals { accepted, handled, requests, .. } = self.totals();
        let sum = |cell: fn(&WorkerCells) -> &Cell| -> u64 {
            self.cells.iter().map(|worker| cell(worker).get()).sum()
        };
        let reading = sum(|worker| &worker.reading);
        let writing = sum(|worker| &worker.writing);
        let waiting = sum(|worker| &worker.waiting);
        let states = [
            ("accepted", accepted),
            ("active", reading + writing + waiting),
            ("handled", handled),
            ("reading", reading),
            ("waiting", waiting),
            ("writing", writing),
        ]
        .map(|(state, n)| gauge(labels(&[("state", state)]), n as f64));
        let prefix = &settings.prefix;
        vec![
            exposition::gauges(
                format!("{prefix}nginx_http_current_connections"),
                "Client connections by state, as nginx's stub_status counts them",
                states,
            ),
            // A gauge, although it only grows: so it is in APISIX.
            exposition::gauges(
                format!("{prefix}http_requests_total"),
                "Requests from clients since the start",
                [gauge(Vec::new(), requests as f64)],
            ),
        ]
    }
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, worker: &WorkerCells) {
        self.accepted += worker.accepted.get();
        self.handled += worker.handled.get();
        self.requests += worker.requests.get();
        self.dropped += worker.dropped.get();
    }
}
