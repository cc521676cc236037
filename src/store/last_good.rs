//! The last known good content on disk, from which a node starts while its store is away.
//!
//! Values are kept as the store holds them: what is encrypted there is encrypted here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Change, ConfigStore, Entry, Event, Expect, Listing, StoreError, Written};

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
    entries: Vec<(String, String, i64, i64)>,
}

// === impl WithLastGood ===

impl WithLastGood {
    /// Keeps a copy of what `inner` holds at `path`.
    pub fn new(inner: Arc<dyn ConfigStore>, path: &Path) -> Arc<Self> {
        Arc::new(Self { inner, path: path.to_owned() })
    }
}

/// Reads the copy; `None` when there is none or it is damaged, which is told.
fn load(path: &Path) -> Option<Listing> {
    let text = std::fs::read(path).ok()?;
    match serde_json::from_slice::<Copy>(&text) {
        Ok(copy) => Some(Listing {
            revision: copy.revision,
            entries: copy
                .entries
                .into_iter()
                .map(|(key, value, create_revision, mod_revision)| Entry {
                    key: key.into(),
                    value: Bytes::from(value),
                    create_revision,
                    mod_revision,
                })
                .collect(),
        }),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the last good copy is damaged");
            None
        }
    }
}

/// Writes the copy so that a crash at any moment leaves the old one or the new one.
fn save(path: &Path, revision: i64, entries: &BTreeMap<Arc<str>, Entry>) -> std::io::Result<()> {
    let entries = entries.values().map(|entry| {
        let value = String::from_utf8_lossy(&entry.value).into_owned();
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

async fn follow(store: Arc<WithLastGood>, events: mpsc::Sender<Event>) {
    let mut inner = store.inner.clone().watch();
    let mut first = tokio::time::timeout(PATIENCE, inner.recv()).await.ok();
    if first.is_none() {
        let path = store.path.clone();
        let copy = tokio::task::spawn_blocking(move || load(&path)).await.ok().flatten();
        match copy {
            Some(listing) => {
                tracing::warn!(
                    revision = listing.revision,
                    "the store does not answer: starting from the last good copy"
                );
                if events.send(Event::Loaded(listing)).await.is_err() {
                    return;
                }
            }
            None => tracing::warn!("the store does not answer and there is no last good copy"),
        }
    }
    let mut entries: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
    let mut revision = 0;
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        let event = match first.take() {
            Some(event) => event,
            None => tokio::select! {
                () = events.closed() => return,
                event = inner.recv() => event,
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    due = None;
                    let (path, copy) = (store.path.clone(), entries.clone());
                    let saved = tokio::task::spawn_blocking(move || save(&path, revision, &copy)).await;
                    if let Ok(Err(error)) = saved {
                        tracing::error!(path = %store.path.display(), %error, "the last good copy could not be written");
                    }
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
        if !matches!(event, Event::Progress { .. }) {
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
