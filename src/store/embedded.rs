//! The embedded store: one redb file, durable, for a single node.
//!
//! Every write is a transaction on disk before it is answered. Revisions count writes, as in
//! etcd; keys with a time to live are deleted when it is over, also across restarts.

mod ends;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{broadcast, mpsc};

use self::ends::Ends;
use super::{
    Action, BESIDE, Change, ConfigStore, Entry, Event, Expect, Listing, Read, Step, StoreError,
    Transacted, Written,
};
use crate::clock;

/// Key → value.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");

/// Key → create revision, modification revision, end of life in seconds since 1970 (0 is never).
const REVISIONS: TableDefinition<'_, &str, (i64, i64, u64)> = TableDefinition::new("revisions");

/// `revision` → the newest revision.
const COUNTERS: TableDefinition<'_, &str, i64> = TableDefinition::new("counters");

/// How often keys are looked at whose time may be over.
const EXPIRY_CHECK: Duration = Duration::from_millis(500);

/// The embedded backend.
pub struct Embedded {
    database: Arc<Database>,
    path: PathBuf,
    /// Also the order of writes: it is held while one is carried out.
    live: Arc<Mutex<Live>>,
}

/// What is not read from the file each time.
struct Live {
    /// Changes since it was opened.
    changes: broadcast::Sender<Committed>,
    ends: Ends,
}

/// A transaction's revision and what it changed in the config.
type Committed = (i64, Vec<Change>);

// === impl Embedded ===

impl Embedded {
    /// Opens or makes the store at `path`.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when the file cannot be used, for instance because another process
    /// has it open.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        Self::open_at(path, clock::unix())
    }

    /// Opens it when the calendar says `now`, in seconds since 1970.
    fn open_at(path: &Path, now: i64) -> Result<Arc<Self>, StoreError> {
        let broken = |reason: String| StoreError::Broken {
            backend: "embedded",
            reason: format!("{}: {reason}", path.display()),
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| broken(error.to_string()))?;
        }
        // It holds tokens and keys: for its owner's eyes only, also where an older one was not.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                Ok(file)
            })
            .map_err(|error| broken(error.to_string()))?;
        let database = redb::backends::FileBackend::new(file)
            .and_then(|file| redb::Builder::new().create_with_backend(file))
            .map_err(|error| broken(error.to_string()))?;
        let tables = make_tables(&database);
        let ends = tables.and_then(|()| Ends::read(&database.begin_read()?, now));
        let ends = ends.map_err(|error| broken(error.to_string()))?;
        let (changes, _) = broadcast::channel(1024);
        Ok(Arc::new(Self {
            database: Arc::new(database),
            path: path.to_owned(),
            live: Arc::new(Mutex::new(Live { changes, ends })),
        }))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = Self {
            database: self.database.clone(),
            path: self.path.clone(),
            live: self.live.clone(),
        };
        let outcome = tokio::task::spawn_blocking(move || work(&this)).await;
        let broken = |reason: String| StoreError::Broken {
            backend: "embedded",
            reason: format!("{}: {reason}", self.path.display()),
        };
        match outcome {
            Ok(done) => done.map_err(|error| broken(error.to_string())),
            Err(error) => Err(broken(error.to_string())),
        }
    }

    fn read(&self, key: &str) -> Result<Option<Entry>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let values = transaction.open_table(VALUES)?;
        let revisions = transaction.open_table(REVISIONS)?;
        entry(&values, &revisions, key)
    }

    fn read_all(&self, prefix: &str) -> Result<Listing, redb::Error> {
        self.read_below(&self.database.begin_read()?, prefix)
    }

    fn read_below(
        &self,
        transaction: &redb::ReadTransaction,
        prefix: &str,
    ) -> Result<Listing, redb::Error> {
        let values = transaction.open_table(VALUES)?;
        let revisions = transaction.open_table(REVISIONS)?;
        let counters = transaction.open_table(COUNTERS)?;
        let revision = counters.get("revision")?.map_or(0, |value| value.value());
        let mut entries = Vec::new();
        // What stands beside the config is stepped over, however much it is.
        let beyond = format!("{}0", BESIDE.trim_end_matches('/'));
        let (first, second) = if prefix.starts_with(BESIDE) {
            (values.range(prefix..)?, None)
        } else {
            (
                values.range(prefix..BESIDE.max(prefix))?,
                Some(values.range(beyond.as_str().max(prefix)..)?),
            )
        };
        for item in first.chain(second.into_iter().flatten()) {
            let (key, _) = item?;
            if !key.value().starts_with(prefix) {
                break;
            }
            entries.extend(entry(&values, &revisions, key.value())?);
        }
        Ok(Listing { revision, entries })
    }

    /// Carries out all of `steps` in one transaction, then tells the watchers; or none, returning
    /// the steps whose expectations do not hold, each with what is there.
    fn write(&self, steps: &[Step]) -> Result<Outcome, redb::Error> {
        let mut live = self.live();
        let transaction = self.database.begin_write()?;
        let revision;
        let mut told = Vec::new();
        {
            let mut values = transaction.open_table(VALUES)?;
            let mut revisions = transaction.open_table(REVISIONS)?;
            let mut counters = transaction.open_table(COUNTERS)?;
            let mut lives = transaction.open_table(ends::LIVES)?;
            let mut before = Vec::new();
            let mut conflicts = Vec::new();
            for (index, step) in steps.iter().enumerate() {
                let current = entry(&values, &revisions, &step.key)?;
                if !step.expect.holds(current.as_ref()) {
                    conflicts.push((index, current.clone()));
                }
                before.push(current);
            }
            if !conflicts.is_empty() {
                return Ok(Err(conflicts));
            }
            revision = counters.get("revision")?.map_or(0, |value| value.value()) + 1;
            counters.insert("revision", revision)?;
            for (step, current) in steps.iter().zip(before) {
                let key = step.key.as_str();
                let end = match ends::write(&mut lives, step)? {
                    Some(end) => end,
                    None => revisions.get(key)?.map_or(0, |at| at.value().2),
                };
                let change = match &step.action {
                    Action::Put { value, .. } => {
                        let created = current.map_or(revision, |entry| entry.create_revision);
                        values.insert(key, &**value)?;
                        revisions.insert(key, (created, revision, end))?;
                        Change::Put(Entry {
                            key: key.into(),
                            value: value.clone(),
                            create_revision: created,
                            mod_revision: revision,
                        })
                    }
                    Action::Delete if current.is_none() => continue,
                    Action::Delete => {
                        values.remove(key)?;
                        revisions.remove(key)?;
                        Change::Delete { key: key.into() }
                    }
                };
                if !key.starts_with(BESIDE) {
                    told.push(change);
                }
            }
        }
        transaction.commit()?;
        live.ends.follow(steps, revision);
        if !told.is_empty() {
            // Nobody may be watching; that is no failure.
            let _ = live.changes.send((revision, told));
        }
        Ok(Ok(revision))
    }

    /// Carries out one step.
    fn write_one(&self, step: Step) -> Result<Written, redb::Error> {
        Ok(match self.write(&[step])? {
            Ok(revision) => Written::Done { revision },
            Err(conflicts) => {
                Written::Conflict { current: conflicts.into_iter().find_map(|(_, entry)| entry) }
            }
        })
    }

    fn expire(&self) -> Result<(), redb::Error> {
        let over = self.live().ends.over();
        for (key, written) in over {
            // A key that was written again since has a new life, and the conflict says so.
            let _ = self.write(&[Step::delete(key, Expect::Revision(written))])?;
        }
        Ok(())
    }
}

/// The revision of a transaction that was carried out, or the steps that stood in its way.
type Outcome = Result<i64, Vec<(usize, Option<Entry>)>>;

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(VALUES)?;
    transaction.open_table(REVISIONS)?;
    transaction.open_table(COUNTERS)?;
    transaction.open_table(ends::LIVES)?;
    transaction.commit()?;
    Ok(())
}

fn entry(
    values: &impl ReadableTable<&'static str, &'static [u8]>,
    revisions: &impl ReadableTable<&'static str, (i64, i64, u64)>,
    key: &str,
) -> Result<Option<Entry>, redb::Error> {
    let (Some(value), Some(at)) = (values.get(key)?, revisions.get(key)?) else {
        return Ok(None);
    };
    let (create_revision, mod_revision, _) = at.value();
    Ok(Some(Entry {
        key: key.into(),
        value: Bytes::copy_from_slice(value.value()),
        create_revision,
        mod_revision,
    }))
}

#[async_trait]
impl ConfigStore for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |store| store.read(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |store| store.read_all(&prefix)).await
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Entry>>, StoreError> {
        let reads = reads.to_vec();
        self.blocking(move |store| {
            let transaction = store.database.begin_read()?;
            let values = transaction.open_table(VALUES)?;
            let revisions = transaction.open_table(REVISIONS)?;
            let one = |read: &Read| {
                Ok(match read {
                    Read::Key(key) => entry(&values, &revisions, key)?.into_iter().collect(),
                    Read::Below(prefix) => store.read_below(&transaction, prefix)?.entries,
                })
            };
            reads.iter().map(one).collect()
        })
        .await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError> {
        let step =
            Step { key: key.to_owned(), action: Action::Put { value, life: ttl.into() }, expect };
        self.blocking(move |store| store.write_one(step)).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError> {
        let step = Step::delete(key, expect);
        self.blocking(move |store| {
            // Here, unlike in a transaction, a key that is not there is a conflict.
            if store.read(&step.key)?.is_none() {
                return Ok(Written::Conflict { current: None });
            }
            store.write_one(step)
        })
        .await
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError> {
        self.blocking(move |store| {
            Ok(match store.write(&steps)? {
                Ok(revision) => Transacted::Done { revision },
                Err(conflicts) => {
                    let key =
                        |(index, _): (usize, _)| steps.get(index).map(|step| step.key.clone());
                    Transacted::Conflict { keys: conflicts.into_iter().filter_map(key).collect() }
                }
            })
        })
        .await
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        let value = Bytes::from_static(b"1");
        match self.put("gen_id", value, Expect::Any, None).await? {
            Written::Done { revision } => Ok(revision),
            Written::Conflict { .. } => Ok(0),
        }
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(64);
        tokio::spawn(follow(self, events));
        receiver
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

async fn follow(store: Arc<Embedded>, events: mpsc::Sender<Event>) {
    loop {
        // Subscribed before the listing: what is written in between comes twice, which is
        // harmless, and never not at all.
        let mut changes = store.live().changes.subscribe();
        let listing = match store.list("").await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::error!(%error, "embedded store: the config could not be listed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let listed = listing.revision;
        if events.send(Event::Loaded(listing)).await.is_err() {
            return;
        }
        let mut expiry = tokio::time::interval(EXPIRY_CHECK);
        loop {
            let next = tokio::select! {
                () = events.closed() => return,
                _ = expiry.tick() => {
                    if let Err(error) = store.blocking(|store| store.expire()).await {
                        tracing::error!(%error, "embedded store: keys could not be expired");
                    }
                    continue;
                }
                next = changes.recv() => next,
            };
            match next {
                Ok((revision, _)) if revision <= listed => {}
                Ok((revision, changes)) => {
                    if events.send(Event::Changed { revision, changes }).await.is_err() {
                        return;
                    }
                }
                // Too many changes at once: list again.
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
