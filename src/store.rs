//! The store: bytes at a revision, and nothing about what they mean.
//!
//! A backend lists everything at one revision, then streams what changed since. Keys are
//! relative to the configured prefix and have no leading slash: `routes/1`. What Sluice keeps for
//! itself stands [`BESIDE`] the config: neither listed with everything nor watched, so that it costs
//! no node anything and no APISIX on the same etcd ever sees it.

pub mod embedded;
pub mod etcd;
pub mod file;
pub mod last_good;
pub mod pushed;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// What the keys begin with that are no config: `sluice/nodes/1`. Only [`ConfigStore::get`] and a
/// [`ConfigStore::list`] that names them find them.
pub const BESIDE: &str = "sluice/";

/// One stored value and where it stands in the store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the prefix, no leading slash: `routes/1`.
    pub key: Arc<str>,
    pub value: Bytes,
    /// Revision at which the key was created (`createdIndex` in the Admin API).
    pub create_revision: i64,
    /// Revision of the last write (`modifiedIndex` in the Admin API).
    pub mod_revision: i64,
}

/// Everything below a prefix at one revision.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub revision: i64,
    pub entries: Vec<Entry>,
}

/// One key's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(Entry),
    Delete { key: Arc<str> },
}

/// What a watch delivers, in order.
#[derive(Debug)]
pub enum Event {
    /// The whole content: first on every watch, and again after a compaction or a restored
    /// store. The receiver compares it with what it has; what is the same is not touched.
    Loaded(Listing),
    /// Changes of one or more revisions, the newest being `revision`.
    Changed { revision: i64, changes: Vec<Change> },
    /// Nothing changed up to `revision`.
    Progress { revision: i64 },
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there, if anything.
    Any,
    /// The key does not exist.
    Absent,
    /// The key's `mod_revision` is this.
    Revision(i64),
}

impl Expect {
    /// That everything is as it was seen: `entry`, or nothing.
    pub fn unchanged(entry: Option<&Entry>) -> Self {
        entry.map_or(Self::Absent, |entry| Self::Revision(entry.mod_revision))
    }
}

/// The outcome of a write that the store carried out or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Done, at this revision.
    Done { revision: i64 },
    /// Not done: the expectation did not hold. Holds the entry as it is, if it exists.
    Conflict { current: Option<Entry> },
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub key: String,
    pub action: Action,
    pub expect: Expect,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes a value.
    Put { value: Bytes, life: Life },
    /// Takes the key away; that there is none is no conflict.
    Delete,
}

/// How long a key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Endless,
    /// It disappears after so many seconds.
    Seconds(i64),
    /// For as long as what stood there before would have been. There has to be something.
    AsBefore,
}

/// Something to read of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// One key.
    Key(String),
    /// Every key that begins so.
    Below(String),
}

/// The outcome of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transacted {
    /// Every step is done, all at this revision.
    Done { revision: i64 },
    /// None is done: the expectations of these keys did not hold.
    Conflict { keys: Vec<String> },
}

/// Why the store did not answer. Names the endpoint; never a password or a value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("store unreachable at {endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("store refused the credentials at {endpoint}")]
    Unauthenticated { endpoint: String },
    #[error("the {backend} store is read-only: edit {place} instead")]
    ReadOnly { backend: &'static str, place: String },
    #[error("{backend} store: a transaction of {steps} steps, expected {most} at most")]
    TooMany { backend: &'static str, steps: usize, most: usize },
    #[error("{backend} store: {reason}")]
    Broken { backend: &'static str, reason: String },
}

// === impl Step ===

impl Step {
    /// Writes `value` if `expect` holds.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>, expect: Expect) -> Self {
        Self::put_for(key, value, Life::Endless, expect)
    }

    /// Writes `value` for as long as `life` says, if `expect` holds.
    pub fn put_for(
        key: impl Into<String>,
        value: impl Into<Bytes>,
        life: Life,
        expect: Expect,
    ) -> Self {
        let action = Action::Put { value: value.into(), life };
        Self { key: key.into(), action, expect }
    }

    /// Deletes the key if `expect` holds.
    pub fn delete(key: impl Into<String>, expect: Expect) -> Self {
        Self { key: key.into(), action: Action::Delete, expect }
    }
}

// === impl Life ===

impl From<Option<i64>> for Life {
    fn from(ttl: Option<i64>) -> Self {
        ttl.map_or(Self::Endless, Self::Seconds)
    }
}

// === impl Expect ===

impl Expect {
    /// Whether it holds of a key whose entry is `current`.
    pub fn holds(self, current: Option<&Entry>) -> bool {
        match (self, current) {
            (Self::Any, _) | (Self::Absent, None) => true,
            (Self::Revision(wanted), Some(entry)) => entry.mod_revision == wanted,
            (Self::Absent, Some(_)) | (Self::Revision(_), None) => false,
        }
    }
}

/// A place where config lives.
#[async_trait]
pub trait ConfigStore: Send + Sync + 'static {
    /// Reads one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Reads every key that starts with `prefix` (`routes/`, or empty for everything), by key.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Reads several things in one go, each the entries that were found, by key.
    async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Entry>>, StoreError> {
        let mut found = Vec::with_capacity(reads.len());
        for read in reads {
            found.push(match read {
                Read::Key(key) => self.get(key).await?.into_iter().collect(),
                Read::Below(prefix) => self.list(prefix).await?.entries,
            });
        }
        Ok(found)
    }

    /// Writes `value` if `expect` holds. `ttl` is in seconds, after which the key disappears.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError>;

    /// Deletes `key` if `expect` holds; `Conflict { current: None }` when there is no such key.
    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError>;

    /// Carries out all of `steps` at one revision, or none of them. No key may come twice.
    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError>;

    /// Moves the store's revision by one and returns it: the source of generated ids.
    async fn next_revision(&self) -> Result<i64, StoreError>;

    /// Starts watching everything below the prefix. Never ends by itself: the backend reconnects
    /// and relists as needed. Dropping the receiver stops it.
    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event>;

    /// Whether the last contact succeeded (`apisix_etcd_reachable`).
    fn is_reachable(&self) -> bool;
}
