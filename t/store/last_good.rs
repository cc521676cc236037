//! The copy on disk from which a node starts while its store is away.

use std::path::Path;

use sluice::store::last_good::WithLastGood;
use sluice::store::{ConfigStore, Event};

use super::{keys, next_changes, next_listing, open, put};
use crate::support::etcd::Etcd;
use crate::support::eventually;

async fn has(path: &Path, words: &str) {
    eventually("the copy is written", async || {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(words))
    })
    .await;
}

#[tokio::test]
async fn serves_the_copy_while_etcd_is_down_and_then_what_etcd_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/last_good.json");
    let mut etcd = Etcd::start().await;
    let inner = open(&etcd.endpoint());
    put(&*inner, "routes/1", "a").await;
    etcd.put_bytes("/apisix/routes/2", &[0xff, 0, b'x']);
    let mut events = WithLastGood::new(inner, &path).watch();
    let before = next_listing(&mut events).await;
    etcd.etcdctl(&["put", "/apisix/routes/3", "later"]);
    next_changes(&mut events).await;
    has(&path, "later").await;
    drop(events);
    etcd.stop();

    let store = WithLastGood::new(open(&etcd.endpoint()), &path);
    let mut events = store.clone().watch();
    let copy = next_listing(&mut events).await;
    assert_eq!(keys(&copy), ["routes/1", "routes/2", "routes/3"]);
    assert_eq!(copy.entries[..2], before.entries[..]);
    assert!(!store.is_reachable());
    etcd.restart().await;
    etcd.etcdctl(&["del", "/apisix/routes/1"]);
    let mut content = next_listing(&mut events).await;
    // The listing may be from before the deletion, which then follows.
    if content.entries.len() == 3 {
        assert_eq!(next_changes(&mut events).await.0, ["routes/1 deleted"]);
        content.entries.remove(0);
    }
    assert_eq!(keys(&content), ["routes/2", "routes/3"]);
    assert!(store.is_reachable());
}

#[tokio::test]
async fn a_damaged_copy_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last_good.json");
    std::fs::write(&path, r#"{"revision": 5, "entries": [["routes/1", "#).unwrap();
    let mut etcd = Etcd::start().await;
    etcd.etcdctl(&["put", "/apisix/routes/1", "a"]);
    etcd.stop();
    let mut events = WithLastGood::new(open(&etcd.endpoint()), &path).watch();
    // Longer than it waits before it would use a copy.
    let patience = std::time::Duration::from_secs(4);
    assert!(tokio::time::timeout(patience, events.recv()).await.is_err());
    etcd.restart().await;
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/1"]);
    has(&path, "routes/1").await;
}

#[tokio::test]
async fn a_wiped_store_does_not_wipe_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last_good.json");
    let mut etcd = Etcd::start().await;
    etcd.etcdctl(&["put", "/apisix/routes/1", "a"]);
    let mut events = WithLastGood::new(open(&etcd.endpoint()), &path).watch();
    next_listing(&mut events).await;
    has(&path, "routes/1").await;
    etcd.stop();
    etcd.wipe();
    etcd.restart().await;
    assert!(
        matches!(super::next_news(&mut events).await, Event::Loaded(empty) if empty.entries.is_empty())
    );
    // Longer than it waits before it writes.
    let quiet = std::time::Duration::from_millis(1500);
    assert!(
        tokio::time::timeout(quiet, super::next_news(&mut events))
            .await
            .is_err()
    );
    has(&path, "routes/1").await;
    etcd.etcdctl(&["put", "/apisix/routes/2", "b"]);
    next_changes(&mut events).await;
    has(&path, "routes/2").await;
}
