//! The standalone file, read again while it changes.

use std::path::Path;

use sluice::store::file::File;
use sluice::store::{ConfigStore, Expect, Listing, Step, StoreError};

use super::{keys, next_listing};
use crate::support::eventually;

/// Replaces the file in one step, as an editor or a config map does.
fn write(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

fn revisions(listing: &Listing) -> Vec<(&str, i64, i64)> {
    let entries = listing.entries.iter();
    entries.map(|entry| (&*entry.key, entry.create_revision, entry.mod_revision)).collect()
}

#[tokio::test]
async fn is_read_again_and_what_is_the_same_keeps_its_revision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apisix.yaml");
    write(&path, "routes:\n  - {id: 1, uri: /a}\n  - {id: 2, uri: /b}\n#END\n");
    let store = File::new(&path);
    let mut events = store.clone().watch();
    let first = next_listing(&mut events).await;
    assert_eq!(revisions(&first), [("routes/1", 1, 1), ("routes/2", 1, 1)]);
    assert!(store.is_reachable());

    // Without its end, broken and gone: the last good content stays. What comes next is the next
    // good one.
    write(&path, "routes:\n  - {id: 3, uri: /c}\n");
    write(&path, "routes: [\n#END\n");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(keys(&store.list("").await.unwrap()), ["routes/1", "routes/2"]);
    write(
        &path,
        "routes:\n  - {id: 1, uri: /a}\n  - {id: 2, uri: /x}\n  - {id: 3, uri: /c}\n#END\n",
    );
    let second = next_listing(&mut events).await;
    let expected = [("routes/1", 1, 1), ("routes/2", 1, 2), ("routes/3", 2, 2)];
    assert_eq!((revisions(&second).as_slice(), second.revision), (&expected[..], 2));
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apisix.json");
    write(&path, r#"{"routes": [{"id": "a", "uri": "/a"}]}"#);
    let store = File::new(&path);
    let mut events = store.clone().watch();
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/a"]);
    write(&path, "{");
    // Two looks at the file later nothing has come of it.
    let quiet = std::time::Duration::from_millis(2500);
    assert!(tokio::time::timeout(quiet, events.recv()).await.is_err());
    assert_eq!(keys(&store.list("").await.unwrap()), ["routes/a"]);
    write(&path, r#"{"routes": [{"id": "b", "uri": "/b"}]}"#);
    assert_eq!(keys(&next_listing(&mut events).await), ["routes/b"]);
    assert!(store.get("routes/a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_may_come_later_and_is_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apisix.yaml");
    let store = File::new(&path);
    let mut events = store.clone().watch();
    assert!(!store.is_reachable());
    write(&path, "#END\n");
    assert!(next_listing(&mut events).await.entries.is_empty());
    eventually("the file is read", async || store.is_reachable()).await;
    let error = store.delete("routes/1", Expect::Any).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("apisix.yaml"), "{error}");
    let error = store.transact(vec![Step::delete("routes/1", Expect::Any)]).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}
