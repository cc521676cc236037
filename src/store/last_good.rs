//! The last known good content on disk, from which a node starts while its store is away.
//!
//! Values are kept as the store holds them: what is encrypted there is encrypted here, and what
//! is no text stays what it is. An empty listing never replaces a copy: a store that was wiped is
//! more likely than a user who wants nothing.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::{DecodeError, Engine as _, prelude::BASE64_STANDARD as STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    Change, ConfigStore, Entry, Event, Expect, Listing, Read, Step, StoreError, Transacted, Written,
};

/// How long the store may take before the copy is used.
const PATIENCE: Duration = Duration::from_secs(3);

/// Changes are written to disk together, this long after the first of them.
const DELAY: Duration = Duration::from_secs(1);

/// A store with a copy on disk.
pub struct WithLastGood {
    inner: Arc<dyn ConfigStore>,
    path: PathBuf,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Copy {
    revision: i64,
    /// Key, value, create revision, modification revision.
    entries: Vec<(String, Value, i64, i64)>,
}

/// A value in the file: text as it is, so that a person can read it, else base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Binary { base64: String },
}

// === impl WithLastGood ===

impl WithLastGood {
    /// Keeps a copy of what `inner` holds at `path`.
    pub fn new(inner: Arc<dyn ConfigStore>, path: &Path) -> Arc<Self> {
        Arc::new(Self { inner, path: path.to_owned() })
    }
}

// === impl Value ===

impl Value {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary { base64: STANDARD.encode(bytes) },
        }
    }

    fn into_bytes(self) -> Result<Bytes, DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Binary { base64 } => STANDARD.decode(base64).map(Bytes::from),
        }
    }
}

/// Reads the copy; `None` when there is none or it is damaged, which is told.
pub(super) fn load(path: &Path) -> Option<Listing> {
    let told = |error: &dyn std::fmt::Display| {
        tracing::error!(path = %path.display(), %error, "the last good copy cannot be used");
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            told(&error);
            return None;
        }
    };
    let copy = serde_json::from_slice::<Copy>(&text).inspect_err(|error| told(error)).ok()?;
    let entries = copy.entries.into_iter().map(|(key, value, create_revision, mod_revision)| {
        Ok(Entry { key: key.into(), value: value.into_bytes()?, create_revision, mod_revision })
    });
    let entries: Result<Vec<_>, DecodeError> = entries.collect();
    Some(Listing {
        revision: copy.revision,
        entries: entries.inspect_err(|error| told(error)).ok()?,
    })
}

/// Writes the copy so that a crash at any moment leaves the old one or the new one.
fn save(path: &Path, revision: i64, entries: &BTreeMap<Arc<str>, Entry>) -> std::io::Result<()> {
    let entries = entries.values().map(|entry| {
        let value = Value::of(&entry.value);
        (entry.key.to_string(), value, entry.create_revision, entry.mod_revision)
    });
    let copy = Copy { revision, entries: entries.collect() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&serde_json::to_vec(&copy)?)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// Writes the copy where blocking is allowed; a failure is told.
pub(super) async fn keep(path: &Path, revision: i64, entries: &BTreeMap<Arc<str>, Entry>) {
    let (to, entries) = (path.to_owned(), entries.clone());
    let saved = tokio::task::spawn_blocking(move || save(&to, revision, &entries)).await;
    if let Ok(Err(error)) = saved {
        tracing::error!(path = %path.display(), %error, "the last good copy could not be written");
    }
}

async fn follow(store: Arc<WithLastGood>, events: mpsc::Sender<Event>) {
    let mut inner = store.inner.clone().watch();
    let mut first = tokio::time::timeout(PATIENCE, inner.recv()).await.ok();
    // An empty store says as little as none: whoever emptied it may not have meant to.
    let says_nothing = match &first {
        None => true,
        Some(Some(Event::Loaded(listing))) => listing.entries.is_empty(),
        Some(_) => false,
    };
    if says_nothing {
        let path = store.path.clone();
        let copy = tokio::task::spawn_blocking(move || load(&path)).await.ok().flatten();
        match copy {
            Some(listing) => {
                tracing::warn!(
                    revision = listing.revision,
                    "the store does not answer, or is empty: starting from the last good copy"
                );
                if events.send(Event::Loaded(listing)).await.is_err() {
                    return;
                }
            }
            None if first.is_none() => {
                tracing::warn!("the store does not answer and there is no last good copy");
            }
            None => {}
        }
    }
    let mut entries: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
    let mut revision = 0;
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        let event = match first.take() {
            Some(event) => event,
            None => tokio::select! {
                () = events.closed() => {
                    if due.is_some() {
                        keep(&store.path, revision, &entries).await;
                    }
                    return;
                }
                event = inner.recv() => event,
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    due = None;
                    keep(&store.path, revision, &entries).await;
                    continue;
                }
            },
        };
        let Some(event) = event else {
            return;
        };
        match &event {
            Event::Loaded(listing) => {
                let pairs = listing.entries.iter().map(|entry| (entry.key.clone(), entry.clone()));
                entries = pairs.collect();
                revision = listing.revision;
            }
            Event::Changed { revision: at, changes } => {
                for change in changes {
                    match change {
                        Change::Put(entry) => {
                            entries.insert(entry.key.clone(), entry.clone());
                        }
                        Change::Delete { key } => {
                            entries.remove(key);
                        }
                    }
                }
                revision = *at;
            }
            Event::Progress { .. } => {}
        }
        let is_worth_keeping = match &event {
            Event::Loaded(listing) => !listing.entries.is_empty(),
            Event::Changed { .. } => true,
            Event::Progress { .. } => false,
        };
        if is_worth_keeping {
            due.get_or_insert_with(|| tokio::time::Instant::now() + DELAY);
        }
        if events.send(event).await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl ConfigStore for WithLastGood {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.list(prefix).await
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Entry>>, StoreError> {
        self.inner.read(reads).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError> {
        self.inner.put(key, value, expect, ttl).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError> {
        self.inner.delete(key, expect).await
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError> {
        self.inner.transact(steps).await
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        self.inner.next_revision().await
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(64);
        tokio::spawn(follow(self, events));
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.inner.is_reachable()
    }
}
