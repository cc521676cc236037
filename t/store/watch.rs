//! The watch: order, compaction, restarts, wiped data.

use sluice::store::{ConfigStore, Event};

use super::{keys, next, next_changes, next_listing, open, put};
use crate::support::etcd::Etcd;

#[tokio::test]
async fn delivers_what_changes_in_order() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    put(&*store, "routes/0", "0").await;
    let mut events = store.clone().watch();
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/0"]);
    let mut expected = Vec::new();
    for number in 1..=20 {
        let revision = put(&*store, &format!("routes/{number}"), "v").await;
        expected.push((format!("routes/{number}=v"), revision));
        store
            .delete(
                &format!("routes/{}", number - 1),
                sluice::store::Expect::Any,
            )
            .await
            .unwrap();
        expected.push((format!("routes/{} deleted", number - 1), revision + 1));
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let (changes, revision) = next_changes(&mut events).await;
        // Several revisions may come together; the newest is named.
        let first = revision - i64::try_from(changes.len()).unwrap() + 1;
        seen.extend(changes.into_iter().zip(first..));
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_is_no_text_and_no_json_passes_as_it_is() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    let mut events = store.watch();
    next_listing(&mut events).await;
    etcd.put_bytes("/apisix/routes/1", &[0xff, 0xfe, b'{']);
    etcd.etcdctl(&["put", "/apisix/routes/2", "{broken"]);
    etcd.etcdctl(&["put", "/apisix/routes/3", "{}"]);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(next_changes(&mut events).await.0);
    }
    assert_eq!(seen[1..], ["routes/2={broken", "routes/3={}"]);
}

#[tokio::test]
async fn goes_on_over_a_restart_without_losing_an_event() {
    let mut etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    put(&*store, "routes/1", "a").await;
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    for round in 0..3 {
        etcd.restart().await;
        etcd.etcdctl(&["put", "/apisix/routes/1", &round.to_string()]);
        etcd.etcdctl(&["del", "/apisix/routes/1"]);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(next_changes(&mut events).await.0);
        }
        assert_eq!(
            seen,
            [format!("routes/1={round}"), "routes/1 deleted".to_owned()]
        );
    }
    assert!(store.is_reachable());
}

/// A gateway on a shared etcd: its own prefix is quiet, the others are busy and etcd compacts.
/// With the revision kept fresh by progress, what is compacted is behind it.
#[tokio::test]
async fn progress_saves_a_quiet_prefix_from_listing_again() {
    let interval = "--experimental-watch-progress-notify-interval=200ms";
    let mut etcd = Etcd::builder().option(interval).start().await;
    let store = open(&etcd.endpoint());
    put(&*store, "routes/1", "a").await;
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    for number in 0..50 {
        etcd.etcdctl(&["put", "/other/key", &number.to_string()]);
    }
    let busy = etcd.revision();
    loop {
        match next(&mut events).await {
            Event::Progress { revision } if revision >= busy => break,
            Event::Progress { .. } => {}
            other => panic!("expected progress, got {other:?}"),
        }
    }
    etcd.compact();
    etcd.restart().await;
    put(&*store, "routes/1", "b").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/1=b"]);
}

#[tokio::test]
async fn lists_again_when_what_comes_next_is_compacted() {
    let mut etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    put(&*store, "routes/1", "a").await;
    put(&*store, "routes/2", "a").await;
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    etcd.restart_apart().await;
    etcd.etcdctl(&["del", "/apisix/routes/2"]);
    for value in ["b", "c"] {
        etcd.etcdctl(&["put", "/apisix/routes/1", value]);
    }
    etcd.compact();
    etcd.restart_home().await;
    let listing = next_listing(&mut events).await;
    assert_eq!(keys(&listing), ["routes/1"]);
    assert_eq!(&*listing.entries[0].value, b"c");
}

#[tokio::test]
async fn notices_a_wiped_store_by_its_revision() {
    wiped(false).await;
}

#[tokio::test]
async fn notices_another_cluster_by_its_id() {
    wiped(true).await;
}

async fn wiped(is_other_cluster: bool) {
    let mut etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    for value in ["a", "b", "c", "d"] {
        put(&*store, "routes/1", value).await;
    }
    let mut events = store.clone().watch();
    let before = next_listing(&mut events).await.revision;
    etcd.stop();
    etcd.wipe();
    if is_other_cluster {
        etcd.move_peer_port();
        // Its revisions are ahead of what was seen before the gateway finds it.
        etcd.restart_apart().await;
        for _ in 0..10 {
            etcd.etcdctl(&["put", "/apisix/routes/9", "new"]);
        }
        etcd.restart_home().await;
    } else {
        etcd.restart().await;
    }
    let listing = next_listing(&mut events).await;
    assert_eq!(listing.revision > before, is_other_cluster);
    let expected: &[&str] = if is_other_cluster { &["routes/9"] } else { &[] };
    assert_eq!(keys(&listing), expected);
    put(&*store, "routes/2", "e").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/2=e"]);
}

#[tokio::test]
async fn waits_for_an_etcd_that_is_not_there_yet() {
    let mut etcd = Etcd::start().await;
    etcd.etcdctl(&["put", "/apisix/routes/1", "a"]);
    etcd.stop();
    let store = open(&etcd.endpoint());
    let mut events = store.clone().watch();
    assert!(store.get("routes/1").await.is_err());
    etcd.restart().await;
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/1"]);
}
