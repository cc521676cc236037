//! The store: bytes at a revision, and nothing about what they mean.
//!
//! A backend lists everything at one revision, then streams what changed since. Keys are
//! relative to the configured prefix and have no leading slash: `routes/1`.

pub mod embedded;
pub mod etcd;
pub mod file;
pub mod last_good;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

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

/// The outcome of a write that the store carried out or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Done, at this revision.
    Done { revision: i64 },
    /// Not done: the expectation did not hold. Holds the entry as it is, if it exists.
    Conflict { current: Option<Entry> },
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
    #[error("{backend} store: {reason}")]
    Broken { backend: &'static str, reason: String },
}

/// A place where config lives.
#[async_trait]
pub trait ConfigStore: Send + Sync + 'static {
    /// Reads one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Reads every key that starts with `prefix` (`routes/`, or empty for everything), by key.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

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

    /// Moves the store's revision by one and returns it: the source of generated ids.
    async fn next_revision(&self) -> Result<i64, StoreError>;

    /// Starts watching everything below the prefix. Never ends by itself: the backend reconnects
    /// and relists as needed. Dropping the receiver stops it.
    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event>;

    /// Whether the last contact succeeded (`apisix_etcd_reachable`).
    fn is_reachable(&self) -> bool;
}
