//! Lists: order, pages and filters.

use serde_json::{Value, json};

use super::{Rig, route, upstream};

async fn ids(rig: &Rig, path: &str) -> Vec<String> {
    let got = rig.get(path).await.expect(200);
    let list = got["list"].as_array().unwrap().clone();
    let id = |item: &Value| item["key"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    list.iter().map(id).collect()
}

#[tokio::test]
async fn lists_nothing_and_everything_of_a_kind() {
    let rig = Rig::new().await;
    for dir in ["routes", "secrets", "consumers/", "plugin_metadata"] {
        assert_eq!(rig.get(dir).await.expect(200), json!({"list": [], "total": 0}));
    }
    rig.put("consumers", json!({"username": "jack"})).await.expect(201);
    rig.put("consumers/jack/credentials/1", json!({"plugins": {}})).await.expect(201);
    let got = rig.get("consumers").await.expect(200);
    assert_eq!(got["total"], 1);
    let item = &got["list"][0];
    assert_eq!(item["key"], "/apisix/consumers/jack");
    assert!(item["createdIndex"].is_i64() && item["modifiedIndex"].is_i64());
    // The credentials go with their consumer.
    rig.delete("consumers/jack").await.expect(200);
    assert!(rig.store.list("consumers/").await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn lists_secrets_of_one_manager() {
    let rig = Rig::new().await;
    let vault = json!({"uri": "http://127.0.0.1:1", "prefix": "p", "token": "t"});
    rig.put("secrets/vault/1", vault).await.expect(201);
    assert_eq!(ids(&rig, "secrets").await, ["1"]);
    assert_eq!(ids(&rig, "secrets/vault").await, ["1"]);
    assert!(ids(&rig, "secrets/aws").await.is_empty());
}

#[tokio::test]
async fn pages_by_creation() {
    let rig = Rig::new().await;
    for id in (1..=11).rev() {
        rig.put(&format!("routes/{id}"), route("/")).await.expect(201);
    }
    let first = ids(&rig, "routes?page=1&page_size=10").await;
    assert_eq!(first, ["11", "10", "9", "8", "7", "6", "5", "4", "3", "2"]);
    assert_eq!(ids(&rig, "routes?page=2&page_size=10").await, ["1"]);
    assert!(ids(&rig, "routes?page=3&page_size=10").await.is_empty());
    assert_eq!(ids(&rig, "routes?page=-1&page_size=10").await.len(), 10);
    assert_eq!(ids(&rig, "routes?page_size=10").await.len(), 11);
    let total = &rig.get("routes?page=9&page_size=10").await.expect(200)["total"];
    assert_eq!(*total, json!(11));
    for size in ["9", "501", "-1"] {
        let got = rig.get(&format!("routes?page=1&page_size={size}")).await;
        assert_eq!((got.status, &*got.text), (400, "page_size must be between 10 and 500"));
    }
}

#[tokio::test]
async fn filters_by_name_label_uri_and_reference() {
    let rig = Rig::new().await;
    rig.put("upstreams/1", upstream()).await.expect(201);
    rig.put("services/1", json!({})).await.expect(201);
    for (id, body) in [
        ("1", json!({"uri": "/hello", "name": "one", "labels": {"env": "x"}, "upstream_id": 1})),
        ("2", json!({"uris": ["/foo", "/world"], "name": "two", "upstream_id": "1"})),
        (
            "3",
            json!({"uri": "/world", "labels": {"env2": "x"}, "service_id": "1",
            "upstream": upstream()}),
        ),
    ] {
        rig.put(&format!("routes/{id}"), body).await.expect(201);
    }
    for (query, found) in [
        ("name=o", vec!["1", "2"]),
        ("name=%5Eone%24", vec!["1"]),
        ("label=env", vec!["1"]),
        ("label=x", vec![]),
        ("label=", vec![]),
        ("uri=world", vec!["2", "3"]),
        ("uri=world&label=env2", vec!["3"]),
        ("filter=upstream_id%3D1", vec!["1", "2"]),
        ("filter=service_id%3D1", vec!["3"]),
        ("filter=service_id%3D1%26upstream_id%3D1", vec![]),
        ("filter=other%3D1", vec!["1", "2", "3"]),
    ] {
        assert_eq!(ids(&rig, &format!("routes?{query}")).await, found, "{query}");
    }
    rig.put("stream_routes/1", json!({"upstream_id": "1"})).await.expect(201);
    rig.put("stream_routes/2", json!({"service_id": "1"})).await.expect(201);
    assert_eq!(ids(&rig, "stream_routes?filter=service_id%3D1").await, ["2"]);
    // `total` is of what was found, a page of it.
    let got = rig.get("routes?name=o&page=2&page_size=10").await.expect(200);
    assert_eq!(got, json!({"list": [], "total": 2}));
    rig.get("routes?name=(").await.refused(400, "invalid argument name");
}
