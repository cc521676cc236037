//! The pushed store: config that a client sends as a whole, kept in memory, with a copy on disk
//! from which a node that starts again serves until the client comes back.
//!
//! It says nothing before there is something: a node that nobody has told what to serve is not
//! ready. Keys do not expire here, and nothing is kept beside the config.
//!
//! Source: APISIX `docs/en/latest/deployment-modes.md`, "API-driven".

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};

use super::last_good;
use super::{
    Action, Change, ConfigStore, Entry, Event, Expect, Life, Listing, Step, StoreError, Transacted,
    Written,
};

/// Pushes that a watcher may lag behind before it is told everything anew.
const LAG: usize = 64;

/// The pushed store.
pub struct Pushed {
    copy: PathBuf,
    content: Mutex<Content>,
    /// Writes one after the other, so that the copy is never an older one.
    writing: tokio::sync::Mutex<()>,
}

struct Content {
    revision: i64,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Whether anything was ever pushed.
    is_there: bool,
    changes: broadcast::Sender<(i64, Vec<Change>)>,
}

// === impl Pushed ===

impl Pushed {
    /// The store whose copy is at `copy`; begins with what that holds.
    pub fn open(copy: &Path) -> Arc<Self> {
        let kept = last_good::load(copy);
        let is_there = kept.is_some();
        let Listing { revision, entries } = kept.unwrap_or_default();
        let (changes, _) = broadcast::channel(LAG);
        let entries = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Arc::new(Self {
            copy: copy.to_owned(),
            content: Mutex::new(Content { revision, entries, is_there, changes }),
            writing: tokio::sync::Mutex::default(),
        })
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_copy(&self) {
        let (revision, entries) = {
            let content = self.content();
            (content.revision, content.entries.clone())
        };
        last_good::keep(&self.copy, revision, &entries).await;
    }

    async fn write_one(&self, step: Step) -> Result<Written, StoreError> {
        let key = step.key.clone();
        Ok(match self.transact(vec![step]).await? {
            Transacted::Done { revision } => Written::Done { revision },
            Transacted::Conflict { .. } => Written::Conflict { current: self.get(&key).await? },
        })
    }
}

// === impl Content ===

impl Content {
    fn listing(&self, prefix: &str) -> Listing {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let from = self.entries.range::<str, _>(from).map(|(_, entry)| entry);
        let entries = from.take_while(|entry| entry.key.starts_with(prefix)).cloned().collect();
        Listing { revision: self.revision, entries }
    }

    /// Carries out all of `steps`, or names the keys that stand in the way.
    fn write(&mut self, steps: Vec<Step>) -> Transacted {
        let stands = |step: &&Step| !step.expect.holds(self.entries.get(step.key.as_str()));
        let keys: Vec<String> = steps.iter().filter(stands).map(|step| step.key.clone()).collect();
        if !keys.is_empty() {
            return Transacted::Conflict { keys };
        }
        self.revision += 1;
        self.is_there = true;
        let revision = self.revision;
        let mut told = Vec::new();
        for step in steps {
            let key: Arc<str> = step.key.into();
            match step.action {
                Action::Put { value, .. } => {
                    let created = self.entries.get(&key).map(|entry| entry.create_revision);
                    let entry = Entry {
                        key: key.clone(),
                        value,
                        create_revision: created.unwrap_or(revision),
                        mod_revision: revision,
                    };
                    self.entries.insert(key, entry.clone());
                    told.push(Change::Put(entry));
                }
                Action::Delete => {
                    if self.entries.remove(&key).is_some() {
                        told.push(Change::Delete { key });
                    }
                }
            }
        }
        // Nobody may be watching; that is no failure.
        let _ = self.changes.send((revision, told));
        Transacted::Done { revision }
    }
}

#[async_trait]
impl ConfigStore for Pushed {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.content().entries.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        Ok(self.content().listing(prefix))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError> {
        self.write_one(Step::put_for(key, value, ttl.into(), expect)).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError> {
        if self.get(key).await?.is_none() {
            return Ok(Written::Conflict { current: None });
        }
        self.write_one(Step::delete(key, expect)).await
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError> {
        let dies = |step: &Step| matches!(step.action, Action::Put { life: Life::Seconds(_), .. });
        if steps.iter().any(dies) {
            let reason = "expected keys that do not expire".to_owned();
            return Err(StoreError::Broken { backend: "pushed", reason });
        }
        let _turn = self.writing.lock().await;
        let outcome = self.content().write(steps);
        if let Transacted::Done { .. } = outcome {
            self.keep_copy().await;
        }
        Ok(outcome)
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        let mut content = self.content();
        content.revision += 1;
        Ok(content.revision)
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(4);
        tokio::spawn(follow(self, events));
        receiver
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

async fn follow(store: Arc<Pushed>, events: mpsc::Sender<Event>) {
    loop {
        // Subscribed before the listing: what is written in between comes twice, which is harmless.
        let mut changes = store.content().changes.subscribe();
        if !store.content().is_there {
            tokio::select! {
                () = events.closed() => return,
                // An error would mean that it lags, and there is something all the same.
                _ = changes.recv() => {}
            }
        }
        let listing = store.content().listing("");
        let listed = listing.revision;
        if events.send(Event::Loaded(listing)).await.is_err() {
            return;
        }
        loop {
            let next = tokio::select! {
                () = events.closed() => return,
                next = changes.recv() => next,
            };
            match next {
                Ok((revision, _)) if revision <= listed => {}
                Ok((revision, changes)) => {
                    if events.send(Event::Changed { revision, changes }).await.is_err() {
                        return;
                    }
                }
                // Too many pushes at once: list again.
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Step {
        Step::put(key, "{}", Expect::Any)
    }

    #[tokio::test]
    async fn says_nothing_before_the_first_push_and_then_what_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Pushed::open(&folder.path().join("copy.json"));
        let mut events = store.clone().watch();
        tokio::task::yield_now().await;
        assert!(events.try_recv().is_err(), "nobody has pushed");
        store.transact(Vec::new()).await.unwrap();
        let Some(Event::Loaded(listing)) = events.recv().await else { panic!("no listing") };
        assert!(listing.entries.is_empty());
        store.transact(vec![put("routes/1"), put("routes/2")]).await.unwrap();
        store.transact(vec![Step::delete("routes/1", Expect::Any)]).await.unwrap();
        let Some(Event::Changed { changes, .. }) = events.recv().await else { panic!("no change") };
        assert_eq!(changes.len(), 2);
        let Some(Event::Changed { changes, .. }) = events.recv().await else { panic!("no change") };
        assert_eq!(changes, [Change::Delete { key: "routes/1".into() }]);
    }

    #[tokio::test]
    async fn begins_again_with_what_was_pushed_last() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.json");
        let store = Pushed::open(&copy);
        store.transact(vec![put("routes/1")]).await.unwrap();
        let Transacted::Done { revision } = store.transact(vec![put("routes/2")]).await.unwrap()
        else {
            panic!("nothing stands in the way");
        };
        let again = Pushed::open(&copy);
        let mut events = again.clone().watch();
        let Some(Event::Loaded(listing)) = events.recv().await else { panic!("no listing") };
        assert_eq!((listing.revision, listing.entries.len()), (revision, 2));
        // Revisions go on from there, so that who waits for one is not deceived.
        let Transacted::Done { revision: next } = again.transact(Vec::new()).await.unwrap() else {
            panic!("nothing stands in the way");
        };
        assert!(next > revision);
    }
}
