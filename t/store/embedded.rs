//! The embedded store on a real disk.

use std::sync::Arc;

use bytes::Bytes;
use sluice::store::embedded::Embedded;
use sluice::store::{ConfigStore, Expect, StoreError};

use super::{check_transactions, check_writes, keys, next_changes, next_listing, put};
use crate::support::eventually;

/// Opens the store, waiting until the one before has let go of the file.
async fn reopen(path: &std::path::Path) -> Arc<Embedded> {
    let opened = std::sync::Mutex::new(None);
    eventually("the store can be opened again", async || {
        let store = Embedded::open(path).ok();
        let done = store.is_some();
        *opened.lock().unwrap() = store;
        done
    })
    .await;
    opened.into_inner().unwrap().unwrap()
}

#[tokio::test]
async fn carries_out_all_of_a_transaction_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    check_transactions(Embedded::open(&folder.path().join("config.redb")).unwrap()).await;
}

#[tokio::test]
async fn holds_writes_to_what_they_expect() {
    let folder = tempfile::tempdir().unwrap();
    check_writes(Embedded::open(&folder.path().join("deep/config.redb")).unwrap()).await;
}

#[tokio::test]
async fn keeps_everything_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.redb");
    let store = Embedded::open(&path).unwrap();
    put(&*store, "routes/1", "a").await;
    let second = put(&*store, "routes/1", "b").await;
    put(&*store, "routes/2", "x").await;
    let last = store.put("ssls/1", Bytes::from_static(&[0xff, 0]), Expect::Any, Some(600));
    last.await.unwrap();
    let before = store.list("").await.unwrap();
    drop(store);

    let store = reopen(&path).await;
    let after = store.list("").await.unwrap();
    assert_eq!((after.revision, &after.entries), (before.revision, &before.entries));
    let entry = store.get("routes/1").await.unwrap().unwrap();
    assert_eq!((entry.mod_revision, entry.create_revision), (second, second - 1));
    assert_eq!(keys(&store.list("routes/").await.unwrap()), ["routes/1", "routes/2"]);
    // The end of a life is on disk too.
    store.put("ssls/1", Bytes::from_static(b"short"), Expect::Any, Some(1)).await.unwrap();
    drop(store);
    let store = reopen(&path).await;
    let mut events = store.clone().watch();
    let listing = next_listing(&mut events).await;
    if keys(&listing).contains(&"ssls/1") {
        assert_eq!(next_changes(&mut events).await.0, ["ssls/1 deleted"]);
    }
    let revision = put(&*store, "routes/3", "y").await;
    assert!(revision > before.revision);
    assert_eq!(next_changes(&mut events).await, (vec!["routes/3=y".to_owned()], revision));
}

#[tokio::test]
async fn a_second_opener_is_told_which_file_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.redb");
    let _store = Embedded::open(&path).unwrap();
    let Err(error) = Embedded::open(&path) else {
        panic!("two have opened it");
    };
    assert!(matches!(error, StoreError::Broken { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("config.redb") && said.contains("already open"), "{said}");
}

#[tokio::test]
async fn every_watcher_sees_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(&folder.path().join("config.redb")).unwrap();
    let mut one = store.clone().watch();
    let mut two = store.clone().watch();
    next_listing(&mut one).await;
    next_listing(&mut two).await;
    for number in 0..20 {
        put(&*store, "routes/1", &number.to_string()).await;
    }
    for events in [&mut one, &mut two] {
        for number in 0..20 {
            assert_eq!(next_changes(events).await.0, [format!("routes/1={number}")]);
        }
    }
}
