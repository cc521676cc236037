//! The cluster: which nodes live, which revision each has given to its workers, and the keys of
//! session tickets that they share.
//!
//! A node of a shared store reports beside the config, where no watch comes across it: a report
//! moves no node's config. The first news after a quiet time are reported at once, those of a busy
//! time together; a node that says nothing any more is forgotten when its lease is over. A node
//! with a store of its own has nobody to report to.

pub mod tickets;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::store::{BESIDE, ConfigStore, Expect, StoreError, Written};

/// What reports are kept under.
fn folder() -> String {
    format!("{BESIDE}nodes/")
}

/// The least time between two reports of one node: what a busy cluster's etcd has to bear.
const GAP: Duration = Duration::from_millis(500);

/// How often a node reports that has no news.
const BEAT: Duration = Duration::from_secs(5);

/// After how many seconds of silence a node counts as gone.
const LIFE_S: i64 = 16;

/// How often those who wait look at the reports.
const LOOK: Duration = Duration::from_millis(50);

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub hostname: String,
    pub version: String,
    /// What its workers serve is the state of the store at this revision, or of a later one
    /// without a change.
    pub revision: i64,
    /// When it reported that, in milliseconds since 1970 by its own clock.
    pub reported: u64,
}

/// This node among the others.
pub struct Cluster {
    store: Arc<dyn ConfigStore>,
    me: Node,
    applied: watch::Receiver<i64>,
    /// Whether other nodes may have the same store.
    is_shared: bool,
}

// === impl Node ===

impl Node {
    /// How long ago it reported, as far as the clocks agree.
    pub fn age(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.reported))
    }

    /// The node as answers show it.
    pub fn shown(&self) -> Value {
        json!({ "id": self.id, "hostname": self.hostname, "version": self.version,
            "revision": self.revision, "age_seconds": self.age().as_secs_f64() })
    }
}

// === impl Cluster ===

impl Cluster {
    /// The cluster as the node `me` sees it, whose workers have what `applied` says.
    pub fn new(
        store: Arc<dyn ConfigStore>,
        me: Node,
        applied: watch::Receiver<i64>,
        is_shared: bool,
    ) -> Arc<Self> {
        Arc::new(Self { store, me, applied, is_shared })
    }

    /// Reports until `stop` ends, and then takes the report back.
    pub async fn report(self: Arc<Self>, stop: impl Future) {
        if !self.is_shared {
            return;
        }
        let key = format!("{}{}", folder(), self.me.id);
        let mut stop = std::pin::pin!(stop);
        let mut applied = self.applied.clone();
        // Whoever serves nothing yet is not waited for.
        tokio::select! {
            _ = &mut stop => return,
            first = applied.wait_for(|revision| *revision > 0) => if first.is_err() {
                return;
            },
        }
        let mut refusals = 0;
        loop {
            // Marked as seen before it is read again: what comes in between is news.
            applied.mark_unchanged();
            let value = serde_json::to_vec(&self.now()).unwrap_or_default();
            match self.store.put(&key, value.into(), Expect::Any, Some(LIFE_S)).await {
                Ok(_) => refusals = 0,
                // Once it may have been the token's end. Asking on for what one may not have would
                // cost the connection each time.
                Err(StoreError::Unauthenticated { endpoint }) => {
                    refusals += 1;
                    if refusals > 1 {
                        tracing::warn!(
                            endpoint,
                            key,
                            "this node may not report what it has applied, so that nobody waits \
                             for it; grant its user the prefix that ends in -sluice/ and restart it"
                        );
                        return;
                    }
                }
                // The store's own failures are told where it is watched.
                Err(_) => {}
            }
            let pause = async {
                tokio::time::sleep(GAP).await;
                let news = applied.changed();
                // An error: the config road has ended; the node still lives.
                if let Ok(Err(_)) = tokio::time::timeout(BEAT.saturating_sub(GAP), news).await {
                    tokio::time::sleep(BEAT).await;
                }
            };
            tokio::select! {
                _ = &mut stop => break,
                () = pause => {}
            }
        }
        // It is gone with its lease anyway.
        let _: Result<Written, _> = self.store.delete(&key, Expect::Any).await;
    }

    /// This node as it is now.
    fn now(&self) -> Node {
        let revision = *self.applied.borrow();
        Node { revision, reported: now(), ..self.me.clone() }
    }

    /// Every node that lives, by id; this one as it is now.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let mut nodes: Vec<Node> = Vec::new();
        if self.is_shared {
            let reports = self.store.list(&folder()).await?.entries;
            // What another version reports in another way is no node that can be waited for.
            let read = reports.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
            nodes.extend(read.filter(|node: &Node| node.id != self.me.id));
        }
        nodes.push(self.now());
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    /// Waits until every live node has applied `revision`, for `limit` at most; returns those that
    /// have not.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn applied(&self, revision: i64, limit: Duration) -> Result<Vec<Node>, StoreError> {
        let end = tokio::time::Instant::now() + limit;
        let mut own = self.applied.clone();
        // The others are asked when this one is there: it takes them about as long.
        let _ = tokio::time::timeout(limit, own.wait_for(|at| *at >= revision)).await;
        loop {
            let mut nodes = self.nodes().await?;
            nodes.retain(|node| node.revision < revision);
            if nodes.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(nodes);
            }
            tokio::time::sleep_until(end.min(tokio::time::Instant::now() + LOOK)).await;
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
