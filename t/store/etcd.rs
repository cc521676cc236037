//! Listing and writing.

use bytes::Bytes;
use sluice::store::{ConfigStore, Expect, Step, StoreError};

use super::{check_transactions, check_writes, keys, next_changes, next_listing, open, put};
use crate::support::etcd::Etcd;

#[tokio::test]
async fn carries_out_all_of_a_transaction_or_nothing() {
    let etcd = Etcd::start().await;
    check_transactions(open(&etcd.endpoint())).await;
}

#[tokio::test]
async fn holds_writes_to_what_they_expect() {
    let etcd = Etcd::start().await;
    check_writes(open(&etcd.endpoint())).await;
}

#[tokio::test]
async fn lists_more_keys_than_a_page_holds_at_one_revision() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    for number in 0..2500 {
        put(&*store, &format!("routes/{number:04}"), "{}").await;
    }
    // Another prefix that begins alike is not ours.
    etcd.etcdctl(&["put", "/apisix2/routes/1", "{}"]);
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.entries.len(), 2500);
    assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
    assert_eq!(listing.revision, etcd.revision());
    let newest = listing.entries.iter().map(|entry| entry.mod_revision).max();
    assert_eq!(newest, Some(listing.revision - 1));
    assert_eq!(store.list("routes/00").await.unwrap().entries.len(), 100);
}

#[tokio::test]
async fn reads_a_page_larger_than_grpc_takes_by_default() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    let value = Bytes::from(vec![b'x'; 1_000_000]);
    for number in 0..6 {
        store.put(&format!("ssls/{number}"), value.clone(), Expect::Any, None).await.unwrap();
    }
    assert_eq!(store.list("").await.unwrap().entries.len(), 6);
}

#[tokio::test]
async fn takes_no_notice_of_the_marks_of_folders() {
    let etcd = Etcd::start().await;
    etcd.etcdctl(&["put", "/apisix/routes/", "init_dir"]);
    etcd.etcdctl(&["put", "/apisix/ssls", "init_dir"]);
    etcd.etcdctl(&["put", "/apisix/", "x"]);
    etcd.etcdctl(&["put", "/apisix/routes/1", "{}"]);
    let store = open(&etcd.endpoint());
    let mut events = store.watch();
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/1"]);
    etcd.etcdctl(&["put", "/apisix/services/", "init_dir"]);
    etcd.etcdctl(&["put", "/apisix/routes/2", "{}"]);
    assert_eq!(next_changes(&mut events).await.0, ["routes/2={}"]);
}

#[tokio::test]
async fn a_refused_write_is_no_lost_connection() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    put(&*store, "routes/1", "{}").await;
    // Larger than etcd's limit of 1.5 MiB a request.
    let value = Bytes::from(vec![b'x'; 1_800_000]);
    let error = store.put("routes/2", value, Expect::Any, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("too large"), "{error}");
    assert!(store.is_reachable());
}

#[tokio::test]
async fn says_where_nobody_answers() {
    let endpoint = format!("http://127.0.0.1:{}", crate::support::free_port());
    let store = open(&endpoint);
    let error = store.get("routes/1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&endpoint) && said.contains("refused"), "{said}");
    assert!(!store.is_reachable());
}

#[tokio::test]
async fn says_how_many_expectations_a_transaction_may_have() {
    let etcd = Etcd::start().await;
    let store = open(&etcd.endpoint());
    let steps = |count: usize| {
        (0..count).map(|n| Step::put(format!("routes/{n}"), "{}", Expect::Absent)).collect()
    };
    let error = store.transact(steps(113)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooMany { steps: 113, most: 112, .. }), "{error}");
    store.transact(steps(112)).await.unwrap();
    assert!(store.is_reachable());
}
