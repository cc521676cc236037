//! The cache: one task for each path in use, which reads it, keeps it fresh and never lets go of
//! a good value because of a bad answer.
//!
//! All fields of a path come with one read, so any number of references costs one request to the
//! manager at a time (single flight by construction).

mod life;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

pub use self::life::{Outcome, State, Status};
use super::aws::Aws;
use super::gcp::Gcp;
use super::vault::Vault;
use super::{Fields, Manager, Reference, Secret, SecretError};
use crate::resource;

/// The first retry after a manager did not answer, or was not able to; doubled up to the negative
/// TTL.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A version of a secret does not change; it is looked at only for being deleted, after so many
/// times the TTL.
const PINNED: u32 = 4;

/// How long values are good (`apisix.lru.secret`), and whom managers trust.
///
/// `count` and `neg_count` bound APISIX's cache. What is in use is all kept here, since a value
/// that is dropped could not be served while its manager is away; what nobody refers to any more
/// goes at once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A value is read again before it is this old.
    pub ttl: Duration,
    /// A refusal is asked about again after this.
    pub neg_ttl: Duration,
    /// File with the authorities of managers that name none (`apisix.ssl.ssl_trusted_certificate`).
    pub trusted: Option<PathBuf>,
}

/// What is known of a reference now.
#[derive(Debug, Clone)]
pub enum Lookup {
    Ready(Secret),
    /// It is being read for the first time.
    Pending,
    /// It could not be read; that goes on being tried.
    Failed(SecretError),
}

/// Every secret in use. Clones share everything.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

type OnFetch = Box<dyn Fn(&str, &'static str) + Send + Sync>;

struct Inner {
    settings: Settings,
    runtime: tokio::runtime::Handle,
    state: Mutex<Known>,
    changed: mpsc::UnboundedSender<Reference>,
    settled: Notify,
    on_fetch: OnFetch,
}

#[derive(Default)]
struct Known {
    managers: HashMap<Arc<str>, Arc<dyn Manager>>,
    entries: HashMap<Source, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    manager: Arc<str>,
    path: Arc<str>,
    version: Option<u32>,
}

#[derive(Default)]
struct Entry {
    users: BTreeSet<Reference>,
    fields: Option<Arc<Fields>>,
    read_at: Option<Instant>,
    error: Option<SecretError>,
    task: Option<JoinHandle<()>>,
    /// Whether the first read is still under way.
    pending: bool,
    /// Told to read at once.
    wake: Arc<Notify>,
    /// How many reads have begun, and which was the last to end.
    begun: u64,
    ended: u64,
    /// When the next read is due.
    next: Option<Instant>,
    /// When the value of each reference in use was last another than before.
    changes: BTreeMap<Reference, SystemTime>,
    failures: u32,
}

// === impl Secrets ===

impl Secrets {
    /// No secrets yet. The receiver is told of every reference whose value has changed, come for
    /// the first time, or failed for the first time. `on_fetch` counts reads by manager and result.
    pub fn new(
        settings: Settings,
        runtime: tokio::runtime::Handle,
        on_fetch: impl Fn(&str, &'static str) + Send + Sync + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<Reference>) {
        let (changed, receiver) = mpsc::unbounded_channel();
        let inner = Inner {
            settings,
            runtime,
            state: Mutex::default(),
            changed,
            settled: Notify::new(),
            on_fetch: Box::new(on_fetch),
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// Adds or replaces the manager `id` (`vault/quickstart`) and reads what refers to it again.
    pub fn set_manager(&self, id: &str, written: &resource::Secret) {
        let id: Arc<str> = id.into();
        let manager = self.0.manager(written);
        let mut state = self.0.lock();
        match manager {
            Some(manager) => state.managers.insert(id.clone(), manager),
            None => state.managers.remove(&id),
        };
        self.0.restart(&mut state, &id);
    }

    /// Takes a manager away. What was read from it stays for as long as it is in use.
    pub fn remove_manager(&self, id: &str) {
        let mut state = self.0.lock();
        state.managers.remove(id);
        self.0.restart(&mut state, id);
    }

    /// The Vault that `id` (`vault/quickstart`) names, with its login; `None` where there is no
    /// such manager or it is no Vault. Ask again each time: a changed manager is another.
    pub(crate) fn vault(&self, id: &str) -> Option<Arc<Vault>> {
        let manager = self.0.lock().managers.get(id).cloned();
        manager?.into_vault()
    }

    /// Says that what `reference` stands for has changed, though it is not kept here: a certificate
    /// that was issued.
    pub(crate) fn tell(&self, reference: &Reference) {
        // Nobody listens only when the process ends.
        let _ = self.0.changed.send(reference.clone());
    }

    /// What `reference` stands for. Never waits; the first lookup starts the reading.
    pub fn lookup(&self, reference: &Reference) -> Lookup {
        match reference {
            Reference::Env { name, key } => env(name, key.as_deref()),
            Reference::Managed { manager, path, field, version } => {
                let source =
                    Source { manager: manager.clone(), path: path.clone(), version: *version };
                let mut state = self.0.lock();
                if !state.entries.contains_key(&source) {
                    state.entries.insert(source.clone(), Entry::default());
                    self.0.start(&mut state, &source);
                }
                let Some(entry) = state.entries.get_mut(&source) else {
                    return Lookup::Pending;
                };
                entry.users.insert(reference.clone());
                entry.lookup(&source, field.as_deref())
            }
        }
    }

    /// Says that nobody uses `reference` any more; its path is no longer read when that was the
    /// last of it.
    pub fn release(&self, reference: &Reference) {
        if let Reference::Managed { manager, path, version, .. } = reference {
            let source = Source { manager: manager.clone(), path: path.clone(), version: *version };
            let mut state = self.0.lock();
            if let Some(entry) = state.entries.get_mut(&source) {
                entry.users.remove(reference);
                entry.changes.remove(reference);
                if entry.users.is_empty() {
                    entry.stop();
                    state.entries.remove(&source);
                    self.0.settled.notify_waiters();
                }
            }
        }
    }

    /// Waits until no first read is under way, at most for `limit`.
    pub async fn settle(&self, limit: Duration) {
        let settled = async {
            loop {
                let notified = self.0.settled.notified();
                if !self.0.lock().entries.values().any(|entry| entry.pending) {
                    return;
                }
                notified.await;
            }
        };
        // What has not come by then comes later, by the same road.
        let _ = tokio::time::timeout(limit, settled).await;
    }
}

// === impl Inner ===

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restart(self: &Arc<Self>, state: &mut Known, manager: &str) {
        let sources = state.entries.keys().filter(|source| *source.manager == *manager);
        for source in sources.cloned().collect::<Vec<_>>() {
            self.start(state, &source);
        }
    }

    /// Starts the task of `source`, or notes that it has no manager.
    fn start(self: &Arc<Self>, state: &mut Known, source: &Source) {
        let manager = state.managers.get(&source.manager).cloned();
        let Some(entry) = state.entries.get_mut(source) else {
            return;
        };
        entry.stop();
        match manager {
            None => {
                entry.pending = false;
                entry.next = None;
                entry.error = Some(SecretError::NoManager(source.manager.to_string()));
                self.settled.notify_waiters();
            }
            Some(manager) => {
                entry.pending = entry.fields.is_none();
                let wake = entry.wake.clone();
                let keep = self.clone().keep(source.clone(), manager, wake);
                entry.task = Some(self.runtime.spawn(keep));
            }
        }
    }

    /// The manager that `written` describes, where it keeps secrets.
    fn manager(&self, written: &resource::Secret) -> Option<Arc<dyn Manager>> {
        match written {
            resource::Secret::Vault(vault) => {
                let trusted = self.settings.trusted.as_deref();
                Some(Arc::new(Vault::new(vault, trusted, self.runtime.clone())))
            }
            resource::Secret::Aws(aws) => Some(Arc::new(Aws::new(aws))),
            resource::Secret::Gcp(gcp) => Some(Arc::new(Gcp::new(gcp))),
            // Keeps no secrets, but issues certificates.
            resource::Secret::Acme(_) => None,
        }
    }

    /// Reads a path, and again whenever it is due or woken, until it is stopped.
    ///
    /// Pauses are by the monotonic clock, which a corrected wall clock does not disturb. While the
    /// machine sleeps it stands still; what is old then is read no later than a TTL after.
    async fn keep(self: Arc<Self>, source: Source, manager: Arc<dyn Manager>, wake: Arc<Notify>) {
        let Settings { ttl, neg_ttl, .. } = self.settings;
        let ttl = if source.version.is_some() { ttl * PINNED } else { ttl };
        let mut retry = FIRST_RETRY;
        let mut is_first = true;
        loop {
            self.begin(&source);
            let read = match source.version {
                None => manager.read(&source.path).await,
                Some(version) => manager.read_version(&source.path, version).await,
            };
            (self.on_fetch)(&source.manager, if read.is_ok() { "ok" } else { "error" });
            let pause = match &read {
                // A field that is asked for may be on its way, as after a refusal.
                Ok(fields) if self.lacks(&source, fields) => neg_ttl.min(ttl),
                // Early enough that a rotated secret is live within the TTL. A thousand paths that
                // were read together are spread over most of it, and stay so.
                Ok(_) => {
                    retry = FIRST_RETRY;
                    let (from, width) = if is_first { (0.25, 0.6) } else { (0.7, 0.15) };
                    is_first = false;
                    ttl.mul_f64(from + width * fastrand::f64())
                }
                // So are those that failed together: a manager that comes back is not run down.
                Err(error) if error.is_passing() => {
                    let pause = retry.min(neg_ttl);
                    retry = (retry * 2).min(neg_ttl);
                    pause.mul_f64(0.75 + 0.25 * fastrand::f64())
                }
                Err(_) => neg_ttl.mul_f64(0.75 + 0.25 * fastrand::f64()),
            };
            self.learn(&source, read, Instant::now() + pause);
            // Woken or due, it is read.
            let _ = tokio::time::timeout(pause, wake.notified()).await;
        }
    }

    fn begin(&self, source: &Source) {
        if let Some(entry) = self.lock().entries.get_mut(source) {
            entry.begun += 1;
            entry.next = None;
        }
    }

    /// Whether a reference in use asks for a field that `fields` does not have.
    fn lacks(&self, source: &Source, fields: &Fields) -> bool {
        let state = self.lock();
        let mut users = state.entries.get(source).into_iter().flat_map(|entry| &entry.users);
        users.any(|user| match user {
            Reference::Managed { field, .. } => fields.get(field.as_deref()).is_none(),
            Reference::Env { .. } => false,
        })
    }

    fn learn(&self, source: &Source, read: Result<Fields, SecretError>, next: Instant) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(source) else {
            return;
        };
        let first = std::mem::take(&mut entry.pending);
        (entry.ended, entry.next) = (entry.begun, Some(next));
        let mut told: Vec<Reference> = Vec::new();
        match read {
            Ok(fields) => {
                let old = entry.fields.replace(Arc::new(fields));
                let new = entry.fields.as_deref();
                let had_failed = entry.error.take().is_some();
                entry.read_at = Some(Instant::now());
                entry.failures = 0;
                for user in &entry.users {
                    let Reference::Managed { field, .. } = user else {
                        continue;
                    };
                    let of = |fields: Option<&Fields>| fields?.get(field.as_deref()).cloned();
                    let is_other = of(old.as_deref()) != of(new);
                    if is_other {
                        entry.changes.insert(user.clone(), SystemTime::now());
                    }
                    if is_other && old.is_some() {
                        tracing::info!(reference = %user, "a secret has changed");
                    }
                    if first || had_failed && old.is_none() || is_other {
                        told.push(user.clone());
                    }
                }
            }
            Err(error) => {
                if entry.error.is_none() {
                    let stale = entry.fields.is_some();
                    tracing::warn!(
                        manager = %source.manager, path = %source.place(), %error, serving_stale = stale,
                        "a secret could not be read"
                    );
                }
                if entry.fields.is_none() && (first || entry.error.is_none()) {
                    told.extend(entry.users.iter().cloned());
                }
                entry.failures = entry.failures.saturating_add(1);
                entry.error = Some(error);
            }
        }
        // Told before the lock is let go: who sees that nothing is pending finds it told.
        for reference in told {
            // Nobody listens any more only when the process ends.
            let _ = self.changed.send(reference);
        }
        drop(state);
        self.settled.notify_waiters();
    }
}

// === impl Entry ===

impl Entry {
    fn lookup(&self, source: &Source, field: Option<&str>) -> Lookup {
        if let Some(fields) = &self.fields {
            let place = || format!("{}/{}", source.manager, source.place());
            return match (fields.get(field), field) {
                (Some(value), _) => Lookup::Ready(value.clone()),
                (None, None) => Lookup::Failed(SecretError::NoWhole(place())),
                (None, Some(field)) => {
                    let field = field.to_owned();
                    Lookup::Failed(SecretError::NoField { place: place(), field })
                }
            };
        }
        match &self.error {
            Some(error) if !self.pending => Lookup::Failed(error.clone()),
            _ => Lookup::Pending,
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

// === impl Source ===

impl Source {
    /// Path and version, as a reference has them.
    fn place(&self) -> Arc<str> {
        match self.version {
            None => self.path.clone(),
            Some(version) => format!("{}?version={version}", self.path).into(),
        }
    }

    fn of(reference: &Reference) -> Option<Self> {
        match reference {
            Reference::Managed { manager, path, version, .. } => {
                Some(Self { manager: manager.clone(), path: path.clone(), version: *version })
            }
            Reference::Env { .. } => None,
        }
    }
}

/// What an environment variable holds, or a field of the JSON object in it.
pub(super) fn env(name: &str, key: Option<&str>) -> Lookup {
    let Ok(value) = std::env::var(name) else {
        return Lookup::Failed(SecretError::NoVariable(name.to_owned()));
    };
    let Some(key) = key else {
        return Lookup::Ready(Secret::new(value));
    };
    let object: serde_json::Value = serde_json::from_str(&value).unwrap_or_default();
    match &object[key] {
        serde_json::Value::Null => Lookup::Failed(SecretError::NoField {
            place: format!("$env://{name}"),
            field: key.to_owned(),
        }),
        serde_json::Value::String(text) => Lookup::Ready(Secret::new(text.as_str())),
        other => Lookup::Ready(Secret::new(other.to_string())),
    }
}
