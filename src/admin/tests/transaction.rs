//! Transactions: all or none, checked together, told before they are done.

use serde_json::{Value, json};

use super::{Got, Rig, route, timeless, upstream};

async fn transact(rig: &Rig, query: &str, operations: Value) -> Got {
    rig.call("POST", &format!("transactions{query}"), operations).await
}

fn through(upstream: &str) -> Value {
    json!({"uri": "/", "upstream_id": upstream})
}

#[tokio::test]
async fn writes_what_refers_to_each_other_in_any_order_at_one_revision() {
    let rig = Rig::new().await;
    let operations = json!([
        {"put": "routes/1", "value": through("u")},
        {"put": "upstreams/u", "value": upstream()},
        {"put": "consumers/jack", "value": {"plugins": {"key-auth": {"key": "planted"}}}},
        {"put": "plugin_metadata/limit-count", "value": {"limit_header": "X-L"}},
    ]);
    let got = transact(&rig, "", operations.clone()).await;
    let revision = got.headers["x-sluice-revision"].to_str().unwrap().to_owned();
    let done = got.expect(200);
    assert_eq!(done["revision"].to_string(), revision);
    assert_eq!(done["changes"][0], json!({"key": "/apisix/routes/1", "change": "created"}));
    for key in ["routes/1", "upstreams/u", "consumers/jack"] {
        let got = rig.get(key).await.expect(200);
        assert_eq!(got["modifiedIndex"].to_string(), revision, "{key}");
        timeless(got["value"].clone());
    }
    let stored = rig.stored("consumers/jack").await;
    assert!(!stored.to_string().contains("planted"), "encrypted at rest");
    // The same again changes nothing, and writes nothing.
    let again = transact(&rig, "", operations).await.expect(200);
    assert_eq!(again["revision"], done["revision"]);
    assert!(again["changes"].as_array().unwrap().iter().all(|one| one["change"] == "unchanged"));
    // The old way out: both go together, though one is in use.
    let operations = json!([{"delete": "upstreams/u"}, {"delete": "routes/1"}]);
    let gone = transact(&rig, "", operations).await.expect(200);
    assert_eq!(gone["changes"][0]["change"], "deleted");
    rig.get("upstreams/u").await.expect(404);
}

#[tokio::test]
async fn tells_everything_that_is_wrong_and_writes_nothing() {
    let rig = Rig::new().await;
    rig.put("upstreams/used", upstream()).await.expect(201);
    rig.put("routes/user", through("used")).await.expect(201);
    let key_of = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
    rig.put("consumers/jack", json!({"username": "jack", "plugins": {"key-auth": {"key": "k"}}}))
        .await
        .expect(201);
    let limit = json!({"count": -1, "time_window": 1});
    let operations = json!([
        {"put": "routes/good", "value": route("/good")},
        {"put": "routes/1", "value": {"uri": 5, "methods": ["FETCH"], "upstream_id": "none"}},
        {"put": "routes/2", "value": through("none")},
        {"put": "routes/3", "value": {"uri": "/", "upstream": upstream(),
            "plugins": {"limit-count": limit}}},
        {"delete": "upstreams/used"},
        {"delete": "routes/none"},
        {"put": "consumers/rose", "value": key_of("k")},
        {"put": "routes/good", "value": route("/twice")},
        {"put": "routs/1", "value": {}},
        {"patch": "routes/1"},
        {"put": "upstreams/bad", "value": {"nodes": 5}},
        {"put": "routes/4", "value": through("bad")},
        {"put": "global_rules/1", "value": {"plugins": {"prometheus": {}}}},
        {"put": "global_rules/2", "value": {"plugins": {"prometheus": {}}}},
    ]);
    let body = transact(&rig, "", operations).await.expect(400);
    let errors = body["errors"].as_array().unwrap();
    let found: Vec<(u64, &str)> = errors
        .iter()
        .map(|error| (error["index"].as_u64().unwrap(), error["path"].as_str().unwrap()))
        .collect();
    for expected in [
        (1, "/uri"),
        (1, "/methods/0"),
        (2, "/upstream_id"),
        (3, "/plugins/limit-count/count"),
        (4, ""),
        (5, ""),
        (6, "/plugins/key-auth/key"),
        (7, ""),
        (8, "/put"),
        (9, ""),
        (10, "/nodes"),
        (13, "/plugins/prometheus"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {body:#}");
    }
    // What refers to something wrong is not told of as well; what is right is not either.
    assert!(!found.iter().any(|(index, _)| [0, 11, 12].contains(index)), "{body:#}");
    assert!(body["error_msg"].as_str().unwrap().contains("routes/user still refers"), "{body}");
    rig.get("routes/good").await.expect(404);
    rig.get("upstreams/used").await.expect(200);
}

#[tokio::test]
async fn a_dry_run_tells_the_difference_and_hides_secrets() {
    let rig = Rig::new().await;
    let jack = |key: &str| json!({"username": "jack", "plugins": {"key-auth": {"key": key}}});
    rig.put("consumers/jack", jack("planted-1")).await.expect(201);
    rig.put("routes/1", route("/old")).await.expect(201);
    rig.put("routes/2", route("/same")).await.expect(201);
    rig.put("routes/3", route("/gone")).await.expect(201);
    let operations = json!([
        {"put": "consumers/jack", "value": jack("planted-2")},
        {"put": "routes/1", "value": route("/new")},
        {"put": "routes/2", "value": route("/same")},
        {"delete": "routes/3"},
        {"put": "routes/4", "value": route("/fresh")},
    ]);
    let got = transact(&rig, "?dry_run=true", operations.clone()).await;
    assert!(!got.text.contains("planted"), "{}", got.text);
    let body = got.expect(200);
    let changes = body["changes"].as_array().unwrap();
    let words: Vec<&str> = changes.iter().map(|one| one["change"].as_str().unwrap()).collect();
    assert_eq!(words, ["updated", "updated", "unchanged", "deleted", "created"]);
    let shown = &changes[0]["after"]["plugins"]["key-auth"]["key"];
    assert_eq!(shown, "(hidden, another than before)");
    assert_eq!(changes[1]["before"]["uri"], "/old");
    let index = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    assert_eq!(
        (&changes[1]["modifiedIndex"], &changes[4]["modifiedIndex"]),
        (&index, &Value::Null)
    );
    assert_eq!(changes[1]["after"]["uri"], "/new");
    assert_eq!((&changes[3]["after"], &changes[4]["before"]), (&Value::Null, &Value::Null));
    assert_eq!(rig.get("routes/1").await.expect(200)["value"]["uri"], "/old");
    rig.get("routes/4").await.expect(404);
    // With something wrong in it, it tells both.
    let mut operations = operations;
    operations[1]["value"]["uri"] = json!(5);
    let body = transact(&rig, "?dry_run=true", operations).await.expect(400);
    assert_eq!(body["changes"].as_array().unwrap().len(), 5);
    assert_eq!(body["errors"][0]["index"], 1);
}

#[tokio::test]
async fn holds_operations_to_their_conditions() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    let index = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    let operations = |condition: &Value| {
        json!([
            {"put": "routes/1", "value": route("/new"), "if_match": condition},
            {"put": "routes/2", "value": route("/two")},
        ])
    };
    transact(&rig, "", operations(&json!(999))).await.refused(412, "modifiedIndex is");
    rig.get("routes/2").await.expect(404);
    transact(&rig, "", operations(&index)).await.expect(200);
    transact(&rig, "", operations(&index)).await.refused(412, "modifiedIndex is");
    transact(&rig, "", operations(&json!("*"))).await.expect(200);
}

#[tokio::test]
async fn says_what_a_transaction_looks_like() {
    let rig = Rig::new().await;
    transact(&rig, "", json!({"put": "routes/1"})).await.refused(400, "an array of operations");
    transact(&rig, "", json!([])).await.refused(400, "1 to 1000 operations");
    transact(&rig, "?dry_run=maybe", json!([])).await.refused(400, "true or false");
    rig.get("transactions").await.expect(404);
}

#[tokio::test]
async fn waits_until_the_workers_have_a_write() {
    let rig = Rig::new().await;
    rig.put("routes/1?wait=applied", route("/")).await.expect(201);
    rig.put("routes/1?wait=forever", route("/")).await.refused(400, "expected applied");
    rig.put("routes/1?wait=applied&timeout=x", route("/")).await.refused(400, "expected seconds");
    rig.put("routes/2?wait=applied&timeout=-1", route("/")).await.refused(400, "expected seconds");
    rig.get("routes/2").await.expect(404);
}
