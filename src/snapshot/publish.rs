//! The config road's driver: events in, one `ArcSwap` store out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::compile::Compiler;
use super::{Published, Snapshot};
use crate::metrics::{Metrics, SecretGauges};
use crate::resource::Kind;
use crate::secret::{self, Reference, Secrets};
use crate::store::{Change, ConfigStore, Event};
use crate::tls::Served;

/// How long the first snapshot may wait for secrets, names and staples, and a certificate that
/// clients believe only with a staple for that.
const SETTLE: Duration = Duration::from_secs(5);

/// How often it is looked whether workers still have a snapshot that was replaced.
const LET_GO: Duration = Duration::from_secs(1);

/// How often metric series of routes that are gone are dropped.
const SWEEP: Duration = Duration::from_secs(30);

/// The compiler, shared between this road, the Admin API's checks and the control API. Workers
/// never come here.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Compiler>>);

/// What drives the road.
pub struct Road {
    pub compiler: Shared,
    pub store: Arc<dyn ConfigStore>,
    pub secrets: Secrets,
    pub changed_secrets: mpsc::UnboundedReceiver<Reference>,
    pub published: Published,
    pub metrics: Arc<Metrics>,
    /// Turns true with the first snapshot.
    pub ready: watch::Sender<bool>,
    /// The revision that workers have.
    pub applied: watch::Sender<i64>,
    /// A task for each ssl object that waits for its staples.
    pub held: JoinSet<Held>,
    /// Snapshots that were replaced, until workers have them no more. What nothing newer holds is
    /// freed here then: a worker would keep its requests waiting meanwhile, for some 10 ms where
    /// 20,000 routes changed at once.
    pub replaced: Vec<Arc<Snapshot>>,
}

/// The id of an ssl object, and what is to be served for it.
pub type Held = (Arc<str>, Arc<Served>);

// === impl Shared ===

impl Shared {
    /// Shares `compiler`.
    pub fn new(compiler: Compiler) -> Self {
        Self(Arc::new(Mutex::new(compiler)))
    }

    /// The compiler, for as long as the guard is held.
    pub fn lock(&self) -> MutexGuard<'_, Compiler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the compiler has applied what the store delivered up to `revision`, for `limit`
    /// at most. Returns whether it has.
    pub async fn reach(&self, revision: i64, limit: Duration) -> bool {
        let mut reached = self.lock().reached();
        let reaches = reached.wait_for(|at| *at >= revision);
        tokio::time::timeout(limit, reaches).await.is_ok_and(|there| there.is_ok())
    }
}

// === impl Road ===

impl Road {
    /// Applies what the store and the secret managers deliver, for ever.
    pub async fn run(mut self) {
        let mut events = self.store.clone().watch();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.apply(event).await,
                    None => {
                        tracing::error!("the store's watch ended; config changes are not seen any more");
                        return;
                    }
                },
                Some(reference) = self.changed_secrets.recv() => self.refresh(reference),
                Some(Ok(held)) = self.held.join_next() => self.release(&held),
                () = tokio::time::sleep(LET_GO), if !self.replaced.is_empty() => self.let_go(),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    async fn apply(&mut self, event: Event) {
        let began = Instant::now();
        let is_first = !*self.ready.borrow();
        match event {
            Event::Progress { revision } => {
                self.note_index("x_etcd_index", revision);
                return;
            }
            Event::Loaded(listing) => {
                self.note_index("x_etcd_index", listing.revision);
                for entry in &listing.entries {
                    self.note_index(folder(&entry.key), entry.mod_revision);
                }
                self.compiler.lock().load(listing.revision, listing.entries);
            }
            Event::Changed { revision, changes } => {
                self.note_index("x_etcd_index", revision);
                let changes = changes.into_iter().map(|change| match change {
                    Change::Put(entry) => {
                        self.note_index(folder(&entry.key), entry.mod_revision);
                        (entry.key, Some((entry.value, entry.mod_revision)))
                    }
                    Change::Delete { key } => {
                        self.note_index(folder(&key), revision);
                        (key, None)
                    }
                });
                self.compiler.lock().apply(revision, changes.collect());
            }
        }
        if is_first {
            self.settle().await;
        }
        self.publish(began);
        if is_first {
            // Nobody may be waiting any more; the value is kept.
            self.ready.send_replace(true);
        }
    }

    /// Waits for secrets, names and staples, so that a node that starts serves its certificates from
    /// the first connection on and finds its nodes with the first request.
    async fn settle(&mut self) {
        let end = Instant::now() + SETTLE;
        loop {
            self.secrets.settle(end.saturating_duration_since(Instant::now())).await;
            let issued = self.compiler.lock().issued();
            issued.settle(end.saturating_duration_since(Instant::now())).await;
            // A secret that came may let something compile that has others.
            if !self.take_changed(Vec::new()) || Instant::now() >= end {
                break;
            }
        }
        let dns = self.compiler.lock().dns();
        dns.settle(end.saturating_duration_since(Instant::now())).await;
        let staples = self.compiler.lock().staples();
        if let Some(staples) = staples {
            staples.settle(end.saturating_duration_since(Instant::now())).await;
        }
        let mut compiler = self.compiler.lock();
        for (id, served) in compiler.newly_held() {
            compiler.release(&id, &served);
        }
    }

    /// Serves what has waited for its staples.
    fn release(&mut self, (id, served): &Held) {
        let began = Instant::now();
        if self.compiler.lock().release(id, served) {
            self.publish(began);
        }
    }

    fn refresh(&mut self, first: Reference) {
        let began = Instant::now();
        self.take_changed(vec![first]);
        self.publish(began);
    }

    /// Takes over the secrets that have changed; whether there were any.
    fn take_changed(&mut self, mut changed: Vec<Reference>) -> bool {
        while let Ok(more) = self.changed_secrets.try_recv() {
            changed.push(more);
        }
        if !changed.is_empty() {
            self.compiler.lock().refresh(&changed);
        }
        !changed.is_empty()
    }

    fn publish(&mut self, began: Instant) {
        let (snapshot, held, staples) = {
            let mut compiler = self.compiler.lock();
            (compiler.snapshot().clone(), compiler.newly_held(), compiler.staples())
        };
        for (id, served) in held {
            let staples = staples.clone();
            self.held.spawn(async move {
                if let Some(staples) = staples {
                    staples.settle_for(&served, SETTLE).await;
                }
                (id, served)
            });
        }
        let revision = snapshot.revision;
        self.replaced.push(self.published.swap(Arc::new(snapshot)));
        self.applied.send_replace(revision);
        let took = began.elapsed();
        self.metrics.set_snapshot_revision(revision);
        self.metrics.observe_apply(took);
        tracing::debug!(revision, took_us = took.as_micros() as u64, "published");
        self.let_go();
    }

    /// Frees the snapshots that nobody has but this road.
    fn let_go(&mut self) {
        self.replaced.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn note_index(&self, key: &str, revision: i64) {
        self.metrics.set_modify_index(key, revision);
    }

    fn sweep(&self) {
        let live = self.compiler.lock().live_routes();
        self.metrics.retain_routes(|route| live.contains(route));
    }
}

/// Brings the gauges up to date that are looked at rarely and would cost each change too much:
/// what is rejected, and when certificates end. To be called before a scrape.
pub fn refresh_gauges(compiler: &Shared, metrics: &Metrics) {
    let (rejected, certificates) = {
        let compiler = compiler.lock();
        let mut rejected: BTreeMap<&str, usize> =
            Kind::ALL.iter().map(|kind| (kind.name(), 0)).collect();
        for (kind, ..) in compiler.rejected() {
            *rejected.entry(kind.name()).or_default() += 1;
        }
        let certificates: BTreeMap<(String, String), i64> = compiler
            .certificates()
            .map(|(ssl, name, end)| ((ssl.to_owned(), name.to_owned()), end))
            .collect();
        (rejected, certificates)
    };
    metrics.set_secrets(secret_gauges(&compiler.lock().secret_status()));
    for (kind, count) in rejected {
        metrics.set_rejected(kind, count);
    }
    metrics.retain_certificates(|ssl, sni| {
        certificates.contains_key(&(ssl.to_owned(), sni.to_owned()))
    });
    for ((ssl, sni), end) in &certificates {
        metrics.set_certificate_expiry(ssl, sni, *end);
    }
}

/// What metrics tell of each manager's secrets.
fn secret_gauges(all: &[secret::Status]) -> BTreeMap<String, SecretGauges> {
    let mut told: BTreeMap<String, SecretGauges> = BTreeMap::new();
    for status in all {
        let gauges = told.entry(status.manager.to_string()).or_default();
        *gauges.states.entry(status.state.name()).or_default() += 1;
        gauges.failures = gauges.failures.max(status.failures);
        gauges.oldest = gauges.oldest.max(status.age);
    }
    told
}

fn folder(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Keyring;
    use crate::snapshot::rig;
    use crate::store::file::File;

    #[tokio::test]
    async fn frees_what_was_replaced_itself_once_no_worker_has_it() {
        let folder = tempfile::tempdir().unwrap();
        // Of a file that is not there comes nothing, so that nothing else is published.
        let store = File::new(&folder.path().join("none.yaml"));
        let mut road = rig::road(store, rig::compiler(Keyring::default()));
        let worker = road.published.load_full();
        let replaced = Arc::downgrade(&worker);
        road.publish(Instant::now());
        drop(worker);
        assert!(replaced.upgrade().is_some(), "it was the worker that freed it");
        let running = tokio::spawn(road.run());
        let freed = async {
            while replaced.upgrade().is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), freed).await.expect("it is never freed");
        running.abort();
    }
}
