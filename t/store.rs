//! The stores against their real parts: etcd processes, files, the disk.

mod auth;
mod cluster;
mod embedded;
mod etcd;
mod file;
mod last_good;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice::store::etcd::{Etcd, Options};
use sluice::store::{
    BESIDE, Change, ConfigStore, Event, Expect, Life, Listing, Read, Step, Transacted, Written,
};
use tokio::sync::mpsc::Receiver;

use crate::support::PATIENCE;

/// How the tests reach etcd: everything short, so that a lost member is soon noticed.
fn options(endpoints: &[String]) -> Options {
    Options {
        endpoints: endpoints.to_vec(),
        prefix: "/apisix".to_owned(),
        user: None,
        tls: None,
        timeout: Duration::from_secs(5),
        watch_timeout: Duration::from_secs(2),
    }
}

fn open(endpoint: &str) -> Arc<Etcd> {
    Etcd::new(options(&[endpoint.to_owned()]))
}

/// The next event; panics when none comes.
async fn next(events: &mut Receiver<Event>) -> Event {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    event.expect("no event came").expect("the watch ended")
}

/// The next event that is not progress.
async fn next_news(events: &mut Receiver<Event>) -> Event {
    loop {
        match next(events).await {
            Event::Progress { .. } => {}
            news => return news,
        }
    }
}

async fn next_listing(events: &mut Receiver<Event>) -> Listing {
    match next_news(events).await {
        Event::Loaded(listing) => listing,
        other => panic!("expected a listing, got {other:?}"),
    }
}

/// The next changes, as `key=value` and `key deleted`, and their revision.
async fn next_changes(events: &mut Receiver<Event>) -> (Vec<String>, i64) {
    match next_news(events).await {
        Event::Changed { revision, changes } => (changes.iter().map(print).collect(), revision),
        other => panic!("expected changes, got {other:?}"),
    }
}

fn print(change: &Change) -> String {
    match change {
        Change::Put(entry) => {
            format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value))
        }
        Change::Delete { key } => format!("{key} deleted"),
    }
}

fn keys(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| &*entry.key).collect()
}

/// Writes, whatever is there; the revision.
async fn put(store: &dyn ConfigStore, key: &str, value: &str) -> i64 {
    let value = Bytes::copy_from_slice(value.as_bytes());
    match store.put(key, value, Expect::Any, None).await.unwrap() {
        Written::Done { revision } => revision,
        conflict @ Written::Conflict { .. } => panic!("{conflict:?}"),
    }
}

/// What every store that can be written to promises of expectations, revisions and lives.
async fn check_writes(store: Arc<dyn ConfigStore>) {
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let write = |text, expect| store.put("routes/1", value(text), expect, None);
    let Written::Done { revision: first } = write("a", Expect::Absent).await.unwrap() else {
        panic!("there was no such key");
    };
    let Written::Conflict { current } = write("b", Expect::Absent).await.unwrap() else {
        panic!("the key was there");
    };
    let current = current.unwrap();
    assert_eq!((&*current.value, current.mod_revision), (&b"a"[..], first));

    let written = write("b", Expect::Revision(first)).await.unwrap();
    let Written::Done { revision: second } = written else {
        panic!("the revision was right");
    };
    assert!(second > first);
    let Written::Conflict { current } = write("c", Expect::Revision(first)).await.unwrap() else {
        panic!("the revision was old");
    };
    let current = current.unwrap();
    assert_eq!((&*current.value, current.mod_revision), (&b"b"[..], second));
    assert_eq!(current.create_revision, first);

    let refused = store.delete("routes/1", Expect::Revision(first)).await.unwrap();
    assert!(matches!(refused, Written::Conflict { current: Some(_) }), "{refused:?}");
    let done = store.delete("routes/1", Expect::Revision(second)).await.unwrap();
    assert!(matches!(done, Written::Done { revision } if revision > second), "{done:?}");
    let missing = store.delete("routes/1", Expect::Any).await.unwrap();
    assert_eq!(missing, Written::Conflict { current: None });
    let missing = write("c", Expect::Revision(second)).await.unwrap();
    assert_eq!(missing, Written::Conflict { current: None });

    let before = store.next_revision().await.unwrap();
    assert!(store.next_revision().await.unwrap() > before);
    let again = put(&*store, "routes/1", "d").await;
    let entry = store.get("routes/1").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (again, again));

    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    store.put("routes/2", value("x"), Expect::Any, Some(1)).await.unwrap();
    assert_eq!(next_changes(&mut events).await.0, ["routes/2=x"]);
    assert_eq!(next_changes(&mut events).await.0, ["routes/2 deleted"]);
    assert_eq!(store.get("routes/2").await.unwrap(), None);
}

/// What every store that can be written to promises of transactions, and of what stands beside the
/// config.
async fn check_transactions(store: Arc<dyn ConfigStore>) {
    let first = put(&*store, "routes/1", "a").await;
    put(&*store, "routes/2", "b").await;
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    let history = format!("{BESIDE}history/routes/1");
    let steps = |revision| {
        vec![
            Step::put("routes/1", "a2", Expect::Revision(revision)),
            Step::put("routes/3", "c", Expect::Absent),
            Step::delete("routes/2", Expect::Any),
            Step::delete("routes/9", Expect::Any),
            Step::put(history.clone(), "old", Expect::Any),
        ]
    };
    // One expectation that does not hold, and nothing happens.
    let before = store.list("").await.unwrap().entries;
    let refused = store.transact(steps(first + 9)).await.unwrap();
    assert_eq!(refused, Transacted::Conflict { keys: vec!["routes/1".to_owned()] });
    assert_eq!(store.list("").await.unwrap().entries, before);

    let done = store.transact(steps(first)).await.unwrap();
    let Transacted::Done { revision } = done else { panic!("{done:?}") };
    let mut changes = next_changes(&mut events).await;
    changes.0.sort();
    assert_eq!(changes.0, ["routes/1=a2", "routes/2 deleted", "routes/3=c"]);
    assert_eq!(changes.1, revision);
    let listing = store.list("").await.unwrap();
    assert_eq!(keys(&listing), ["routes/1", "routes/3"], "what is beside the config is not in it");
    assert!(listing.entries.iter().all(|entry| entry.mod_revision == revision));
    let beside = store.list(BESIDE).await.unwrap();
    assert_eq!(keys(&beside), [history.as_str()]);
    assert_eq!(store.get(&history).await.unwrap().as_ref(), beside.entries.first());

    let many = (0..300).map(|number| Read::Key(format!("nothing/{number}")));
    let reads: Vec<Read> = [Read::Key("routes/3".to_owned()), Read::Below("routes/".to_owned())]
        .into_iter()
        .chain(many)
        .chain([Read::Key(history.clone())])
        .collect();
    let found = store.read(&reads).await.unwrap();
    assert_eq!((found.len(), found[0].len(), found[1].len()), (303, 1, 2));
    assert_eq!(found[0][0], found[1][1]);
    assert!(found[2..302].iter().all(Vec::is_empty));
    assert_eq!(found[302], beside.entries);

    let all = [("routes/1", Expect::Absent), ("routes/4", Expect::Revision(1))];
    let steps = all.map(|(key, expect)| Step::put(key, "x", expect)).to_vec();
    let refused = store.transact(steps).await.unwrap();
    let both = vec!["routes/1".to_owned(), "routes/4".to_owned()];
    assert_eq!(refused, Transacted::Conflict { keys: both });

    // A value that is written anew goes when the one before it would have gone.
    let value = Bytes::from_static(b"short");
    store.put("routes/short", value, Expect::Any, Some(5)).await.unwrap();
    assert_eq!(next_changes(&mut events).await.0, ["routes/short=short"]);
    let step = Step::put_for("routes/short", "anew", Life::AsBefore, Expect::Any);
    store.transact(vec![step]).await.unwrap();
    assert_eq!(next_changes(&mut events).await.0, ["routes/short=anew"]);
    assert_eq!(next_changes(&mut events).await.0, ["routes/short deleted"]);

    // More than etcd takes in a row, and nobody who watches hears of what is beside.
    put(&*store, &history, "newer").await;
    let many: Vec<Step> = (0..1000)
        .map(|number| Step::put(format!("upstreams/{number:04}"), "u", Expect::Any))
        .chain((0..100).map(|number| Step::put(format!("ssls/{number:04}"), "s", Expect::Absent)))
        .collect();
    let done = store.transact(many).await.unwrap();
    let Transacted::Done { revision } = done else { panic!("{done:?}") };
    let mut heard = 0;
    while heard < 1100 {
        let (changes, at) = next_changes(&mut events).await;
        assert_eq!(at, revision);
        heard += changes.len();
    }
    assert_eq!(store.list("").await.unwrap().entries.len(), 1102);
}
