//! The watch: list, then one stream, for as long as anybody listens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::sync::mpsc;

use super::Etcd;
use super::connect::Connection;
use super::fault;
use crate::store::{Change, Event, StoreError};

/// Pauses between attempts: doubled from the first to the last, with jitter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a stream ended.
enum End {
    /// The receiver is gone.
    Unwanted,
    /// The next stream can go on where this one was.
    Broken(String),
    /// What comes next is compacted away, or of another store: list again.
    Lost(String),
}

/// Where a watch stands: the revision it has delivered, and of which cluster.
struct Position {
    revision: i64,
    cluster: u64,
}

/// Delivers events until nobody listens.
pub(super) async fn run(etcd: Arc<Etcd>, events: mpsc::Sender<Event>) {
    let mut position: Option<Position> = None;
    let mut pause = SHORTEST_PAUSE;
    while !events.is_closed() {
        let at = match position.take() {
            Some(at) => at,
            None => match load(&etcd, &events).await {
                Ok(Some(at)) => {
                    pause = SHORTEST_PAUSE;
                    at
                }
                Ok(None) => return,
                Err(error) => {
                    etcd.reachable.store(false, Ordering::Relaxed);
                    tracing::warn!(%error, "etcd: the config could not be listed");
                    rest(&mut pause).await;
                    continue;
                }
            },
        };
        let mut at = at;
        let began = tokio::time::Instant::now();
        match follow(&etcd, &events, &mut at).await {
            End::Unwanted => return,
            End::Broken(reason) => {
                etcd.reachable.store(false, Ordering::Relaxed);
                tracing::warn!(reason, revision = at.revision, "etcd: the watch broke off");
                if began.elapsed() > LONGEST_PAUSE {
                    pause = SHORTEST_PAUSE;
                }
                position = Some(at);
            }
            End::Lost(reason) => {
                tracing::warn!(reason, revision = at.revision, "etcd: listing everything again");
            }
        }
        rest(&mut pause).await;
    }
}

async fn rest(pause: &mut Duration) {
    // Nodes that lost the same member must not come back in step.
    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// Lists everything and hands it over; `None` when nobody listens.
async fn load(etcd: &Etcd, events: &mpsc::Sender<Event>) -> Result<Option<Position>, StoreError> {
    let (listing, cluster) = etcd.list_from("").await?;
    let revision = listing.revision;
    tracing::debug!(revision, entries = listing.entries.len(), "etcd: listed");
    let sent = events.send(Event::Loaded(listing)).await;
    Ok(sent.is_ok().then_some(Position { revision, cluster }))
}

/// Follows one stream from `at` to its end, moving `at` by what it delivers.
async fn follow(etcd: &Etcd, events: &mpsc::Sender<Event>, at: &mut Position) -> End {
    let connection = match etcd.connection().await {
        Ok(connection) => connection,
        Err(error) => return End::Broken(error.to_string()),
    };
    let end = stream(etcd, &connection, events, at).await;
    if matches!(end, End::Broken(_)) {
        // The next stream needs another member, or a new token: a token that has run out ends a
        // new watch with "permission denied".
        etcd.disconnect(&connection).await;
    }
    end
}

async fn stream(
    etcd: &Etcd,
    connection: &Arc<Connection>,
    events: &mpsc::Sender<Event>,
    at: &mut Position,
) -> End {
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(at.revision + 1)
        .with_progress_notify();
    let mut watches = connection.watches();
    let opening = watches.watch(etcd.key(""), Some(options));
    let mut stream = match tokio::time::timeout(etcd.options.timeout, opening).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return End::Broken(fault::reason(&error)),
        Err(_) => return End::Broken(format!("no answer within {:?}", etcd.options.timeout)),
    };
    // Progress is asked for well before a silent stream would be given up.
    let ask =
        (etcd.options.watch_timeout / 5).clamp(Duration::from_millis(200), Duration::from_secs(10));
    let mut asking = tokio::time::interval_at(tokio::time::Instant::now() + ask, ask);
    asking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = tokio::time::Instant::now();
    loop {
        let response = tokio::select! {
            () = events.closed() => return End::Unwanted,
            _ = asking.tick() => {
                if heard.elapsed() > etcd.options.watch_timeout {
                    return End::Broken(format!("silent for {:?}", heard.elapsed()));
                }
                if let Err(error) = stream.request_progress().await {
                    return End::Broken(fault::reason(&error));
                }
                continue;
            }
            message = stream.message() => match message {
                Ok(Some(response)) => response,
                Ok(None) => return End::Broken("the server closed it".to_owned()),
                Err(error) => return End::Broken(fault::reason(&error)),
            }
        };
        etcd.reachable.store(true, Ordering::Relaxed);
        match heed(etcd, &response, connection.progress_is_ordered, at) {
            Ok(Some(event)) => {
                if events.send(event).await.is_err() {
                    return End::Unwanted;
                }
            }
            Ok(None) => {}
            Err(end) => return end,
        }
        // After the event was taken: a slow receiver does not make the stream silent.
        heard = tokio::time::Instant::now();
    }
}

/// What one message means.
fn heed(
    etcd: &Etcd,
    response: &WatchResponse,
    progress_is_ordered: bool,
    at: &mut Position,
) -> Result<Option<Event>, End> {
    let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
    let cluster = response.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
    if cluster != at.cluster {
        return Err(End::Lost("another cluster answers".to_owned()));
    }
    if response.canceled() {
        return Err(if response.compact_revision() > 0 {
            End::Lost(format!("compacted at {}", response.compact_revision()))
        } else {
            End::Broken(format!("cancelled: {}", response.cancel_reason()))
        });
    }
    if response.created() {
        // A restored store may be behind what was already delivered.
        if revision < at.revision {
            return Err(End::Lost(format!("revision went back to {revision}")));
        }
        return Ok(None);
    }
    // Progress that was asked for belongs to no watch; what the server sends by itself always
    // comes in order.
    if response.events().is_empty() && response.watch_id() < 0 && !progress_is_ordered {
        return Ok(None);
    }
    let mut changes = Vec::new();
    for event in response.events() {
        let Some(pair) = event.kv() else { continue };
        match event.event_type() {
            EventType::Put => changes.extend(etcd.entry(pair).map(Change::Put)),
            EventType::Delete => {
                let key = etcd.own_key(pair.key());
                changes.extend(key.map(|key| Change::Delete { key: key.into() }));
            }
        }
    }
    let newest = response.events().iter().filter_map(|event| Some(event.kv()?.mod_revision()));
    // A message's events end with the newest revision; progress says it in the header.
    at.revision = at.revision.max(newest.max().unwrap_or(revision));
    let revision = at.revision;
    Ok(Some(if changes.is_empty() {
        Event::Progress { revision }
    } else {
        Event::Changed { revision, changes }
    }))
}
