//! How long keys live, whatever the calendar does.

use super::*;

const DAY: i64 = 24 * 60 * 60;

/// Waits until `key` is over.
async fn ends(store: &Embedded, key: &str) {
    let wait = async {
        while store.read(key).unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            store.expire().unwrap();
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), wait).await;
    ended.unwrap_or_else(|_| panic!("{key} has no end"));
}

#[tokio::test]
async fn a_calendar_that_is_set_back_keeps_no_key_over_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.redb");
    let value = Bytes::from_static(b"x");
    let store = Embedded::open(&path).unwrap();
    for (key, life) in [("short", 1), ("long", 2 * DAY)] {
        store.put(key, value.clone(), Expect::Any, Some(life)).await.unwrap();
    }
    drop(store);
    let store = Embedded::open_at(&path, clock::unix() - DAY).unwrap();
    ends(&store, "short").await;
    assert!(store.read("long").unwrap().is_some());
    drop(store);
    // What the calendar says is over was over while nothing ran.
    let store = Embedded::open_at(&path, clock::unix() + 3 * DAY).unwrap();
    ends(&store, "long").await;
}

#[tokio::test]
async fn a_key_that_is_written_again_lives_by_what_it_is_given_then() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("config.redb")).unwrap();
    let put = |key: &'static str, life| store.put(key, Bytes::new(), Expect::Any, life);
    for key in ["endless", "longer", "gone", "short"] {
        put(key, Some(1)).await.unwrap();
    }
    put("endless", None).await.unwrap();
    put("longer", Some(DAY)).await.unwrap();
    store.delete("gone", Expect::Any).await.unwrap();
    put("gone", None).await.unwrap();
    ends(&store, "short").await;
    for key in ["endless", "longer", "gone"] {
        assert!(store.read(key).unwrap().is_some(), "{key}");
    }
    assert_eq!(store.live().ends.over(), [], "nobody tries to end them again and again");
}
