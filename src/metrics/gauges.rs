//! What the control side knows: the store, the snapshot, certificates, secrets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Values that the control side sets and the scrape reads.
#[derive(Default)]
pub struct Gauges(Mutex<Values>);

/// The values, by what they are about.
#[derive(Default, Clone)]
pub(super) struct Values {
    pub(super) store_reachable: bool,
    /// Newest revision by folder (`routes`), and `x_etcd_index` for the whole store.
    pub(super) modify_indexes: BTreeMap<String, i64>,
    pub(super) snapshot_revision: i64,
    pub(super) applied: u64,
    pub(super) apply_seconds_sum: f64,
    pub(super) apply_seconds_last: f64,
    pub(super) rejected: BTreeMap<String, u64>,
    /// Seconds since 1970 by ssl id and first server name.
    pub(super) certificate_expiry: BTreeMap<(String, String), i64>,
    /// By manager and result.
    pub(super) secret_fetches: BTreeMap<(String, &'static str), u64>,
}

// === impl Gauges ===

impl Gauges {
    fn with<T>(&self, change: impl FnOnce(&mut Values) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn values(&self) -> Values {
        self.with(|values| values.clone())
    }

    /// Whether the store answers.
    pub fn store_reachable(&self, reachable: bool) {
        self.with(|values| values.store_reachable = reachable);
    }

    /// The newest revision seen of a folder.
    pub fn modify_index(&self, key: &str, revision: i64) {
        self.with(|values| {
            let index = values.modify_indexes.entry(key.to_owned()).or_default();
            *index = (*index).max(revision);
        });
    }

    /// A snapshot of `revision` was published, `took` after its events had come.
    pub fn applied(&self, revision: i64, took: Duration) {
        self.with(|values| {
            values.snapshot_revision = revision;
            values.applied += 1;
            values.apply_seconds_sum += took.as_secs_f64();
            values.apply_seconds_last = took.as_secs_f64();
        });
    }

    /// How many resources of each kind are rejected now.
    pub fn rejected(&self, by_kind: BTreeMap<String, u64>) {
        self.with(|values| values.rejected = by_kind);
    }

    /// When each served certificate ends, by ssl id and server name.
    pub fn certificates(&self, expiry: BTreeMap<(String, String), i64>) {
        self.with(|values| values.certificate_expiry = expiry);
    }

    /// A secret was fetched, or was not (`result` is `ok` or `error`).
    pub fn secret_fetched(&self, manager: &str, result: &'static str) {
        self.with(|values| {
            *values.secret_fetches.entry((manager.to_owned(), result)).or_default() += 1;
        });
    }
}
