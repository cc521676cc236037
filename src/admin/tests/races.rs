//! Writers that overtake each other, conditions, and stores that do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Got, Rig, request, route};
use crate::store::{
    ConfigStore, Entry, Event, Expect, Listing, Step, StoreError, Transacted, Written,
};

type Fails = fn() -> StoreError;

/// A store in which another writer is faster, or which does not take writes.
struct Trouble {
    inner: Arc<dyn ConfigStore>,
    /// How many writes another writer overtakes.
    overtakes: AtomicUsize,
    fails: Option<Fails>,
}

#[async_trait]
impl ConfigStore for Trouble {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.list(prefix).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError> {
        self.inner.put(key, value, expect, ttl).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError> {
        self.inner.delete(key, expect).await
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError> {
        if let Some(fails) = self.fails {
            return Err(fails());
        }
        let left = |left: usize| left.checked_sub(1);
        if self.overtakes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            let mut theirs = route("/theirs");
            theirs["create_time"] = json!(7);
            theirs["desc"] = json!("theirs");
            let theirs = theirs.to_string().into();
            self.inner.put(&steps[0].key, theirs, Expect::Any, None).await?;
        }
        self.inner.transact(steps).await
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        self.inner.next_revision().await
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        self.inner.clone().watch()
    }

    fn is_reachable(&self) -> bool {
        self.inner.is_reachable()
    }
}

async fn overtaken(times: usize) -> Rig {
    Rig::over(|inner| Arc::new(Trouble { inner, overtakes: AtomicUsize::new(times), fails: None }))
        .await
}

async fn with_match(rig: &Rig, method: &str, path: &str, condition: &str) -> Got {
    let body = if method == "DELETE" { String::new() } else { route("/m").to_string() };
    let mut sent = request(method, path, body);
    sent.headers_mut().insert("if-match", condition.parse().unwrap());
    rig.send(sent).await
}

#[tokio::test]
async fn a_put_that_was_overtaken_tries_once_more() {
    let rig = overtaken(1).await;
    // It thought it would create; in the end it replaced.
    let put = rig.put("routes/1", route("/ours")).await.expect(200);
    assert_eq!(put["value"]["create_time"], json!(7));
    assert_eq!(rig.stored("routes/1").await["uri"], "/ours");
    let rig = overtaken(9).await;
    rig.put("routes/1", route("/ours")).await.refused(409, "changed by others");
    assert_eq!(rig.stored("routes/1").await["uri"], "/theirs");
}

#[tokio::test]
async fn a_patch_that_was_overtaken_merges_anew() {
    let rig = overtaken(1).await;
    let before = route("/before").to_string().into();
    rig.store.put("routes/1", before, Expect::Any, None).await.unwrap();
    let got = rig.patch("routes/1", json!({"name": "ours"})).await.expect(200);
    assert_eq!((&got["value"]["desc"], &got["value"]["name"]), (&json!("theirs"), &json!("ours")));
    let rig = overtaken(9).await;
    let before = route("/before").to_string().into();
    rig.store.put("routes/1", before, Expect::Any, None).await.unwrap();
    rig.patch("routes/1", json!({"name": "ours"})).await.refused(409, "changed by others");
}

#[tokio::test]
async fn a_transaction_that_was_overtaken_is_checked_anew() {
    let operations = |condition: serde_json::Value| {
        json!([{"put": "routes/1", "value": route("/ours"), "if_match": condition},
            {"put": "routes/2", "value": route("/two")}])
    };
    let rig = overtaken(1).await;
    let before = route("/before").to_string().into();
    rig.store.put("routes/1", before, Expect::Any, None).await.unwrap();
    let done = rig.call("POST", "transactions", operations(json!("*"))).await.expect(200);
    assert_eq!(done["changes"][1]["change"], "created");
    assert_eq!(rig.stored("routes/1").await["create_time"], 7, "over theirs");
    // Who asked for a revision is told that it is another now.
    let rig = overtaken(1).await;
    let before = route("/before").to_string().into();
    rig.store.put("routes/1", before, Expect::Any, None).await.unwrap();
    let index = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    let got = rig.call("POST", "transactions", operations(index)).await;
    got.refused(412, "modifiedIndex is");
    rig.get("routes/2").await.expect(404);
    let rig = overtaken(9).await;
    let before = route("/before").to_string().into();
    rig.store.put("routes/1", before, Expect::Any, None).await.unwrap();
    let got = rig.call("POST", "transactions", operations(json!("*"))).await;
    got.refused(409, "changed by others");
    rig.get("routes/2").await.expect(404);
}

#[tokio::test]
async fn one_of_many_creators_creates() {
    let rig = Arc::new(Rig::new().await);
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.put("routes/1", route(&format!("/{n}"))).await.status })
        })
        .collect();
    let mut created = 0;
    for writer in writers {
        match writer.await.unwrap() {
            201 => created += 1,
            status => assert!([200, 409].contains(&status), "{status}"),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn honours_if_match() {
    let rig = Rig::new().await;
    with_match(&rig, "PUT", "routes/1", "5").await.refused(412, "not there");
    with_match(&rig, "PUT", "routes/1", "*").await.refused(412, "not there");
    rig.put("routes/1", route("/")).await.expect(201);
    let index = rig.get("routes/1").await.expect(200)["modifiedIndex"].to_string();
    with_match(&rig, "PUT", "routes/1", "nonsense").await.refused(400, "If-Match");
    for method in ["PUT", "PATCH", "DELETE"] {
        with_match(&rig, method, "routes/1", "999").await.refused(412, "modifiedIndex is");
    }
    with_match(&rig, "PATCH", "routes/1", &format!("\"{index}\"")).await.expect(200);
    with_match(&rig, "PUT", "routes/1", &index).await.refused(412, "modifiedIndex is");
    with_match(&rig, "DELETE", "routes/1", "*").await.expect(200);
    with_match(&rig, "POST", "routes", "*").await.refused(412, "not there");
}

#[tokio::test]
async fn says_when_the_store_takes_no_writes() {
    let failing: [(Fails, u16, &str); 2] = [
        (
            || StoreError::ReadOnly { backend: "file", place: "conf/apisix.yaml".to_owned() },
            405,
            "edit conf/apisix.yaml instead",
        ),
        (
            || StoreError::Unreachable {
                endpoint: "http://e:2379".to_owned(),
                reason: "x".to_owned(),
            },
            503,
            "store unreachable at http://e:2379",
        ),
    ];
    for (fails, status, said) in failing {
        let rig = Rig::over(|inner| {
            Arc::new(Trouble { inner, overtakes: AtomicUsize::new(0), fails: Some(fails) })
        })
        .await;
        rig.put("routes/1", route("/")).await.refused(status, said);
    }
}
