//! `configs`: the whole configuration of a node without a store.

use std::sync::Arc;

use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::{Got, KEYRING, Rig, request, route, serve_with, settings};
use crate::store::pushed::Pushed;
use crate::store::{ConfigStore, Transacted};

const PATH: &str = "configs";

/// The API of a node that is pushed to, and has been once.
async fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ConfigStore> = Pushed::open(&folder.path().join("pushed.json"));
    let first = store.transact(Vec::new()).await.unwrap();
    assert!(matches!(first, Transacted::Done { .. }));
    let settings = super::Settings { is_pushed: true, ..settings() };
    let admin = serve_with(settings, &store, store.clone(), [KEYRING]).await;
    Rig { admin, store, _folder: folder }
}

async fn push(rig: &Rig, digest: &str, body: Value) -> Got {
    let mut request = request("PUT", PATH, body.to_string());
    request.headers_mut().insert("x-digest", digest.parse().unwrap());
    rig.send(request).await
}

#[tokio::test]
async fn carries_out_what_is_pushed_and_shows_it() {
    let rig = rig().await;
    let empty = rig.get(PATH).await;
    assert!(!empty.headers.contains_key("x-digest"));
    assert_eq!(empty.expect(200)["routes_conf_version"], 0);

    let mut one = route("/r1");
    one["id"] = json!("r1");
    let got = push(&rig, "1", json!({"routes": [one.clone()]})).await;
    assert_eq!((got.status, got.text.as_str()), (202, ""));
    assert_eq!(got.headers["x-digest"], "1");
    let time: i64 = got.headers["x-last-modified"].to_str().unwrap().parse().unwrap();
    assert!(time > 0);
    assert_eq!(rig.stored("routes/r1").await, one);

    // The same digest, and nothing is looked at.
    let got = push(&rig, "1", json!({"routes": 5})).await;
    assert_eq!((got.status, got.text.as_str()), (204, ""));

    let got = rig.get(PATH).await;
    assert_eq!(got.headers["x-digest"], "1");
    let body = got.expect(200);
    assert_eq!(body["routes"], json!([one]));
    for list in ["routes", "ssls", "services", "consumers", "plugins"] {
        assert_eq!(body[format!("{list}_conf_version")], 1, "{list}");
    }
    let head = rig.call("HEAD", PATH, Value::Null).await;
    assert_eq!((head.status, &head.headers["x-digest"]), (200, &HeaderValue::from_static("1")));

    let mut yaml = request("GET", PATH, String::new());
    yaml.headers_mut().insert(header::ACCEPT, "application/yaml".parse().unwrap());
    let got = rig.send(yaml).await;
    assert_eq!(got.headers[header::CONTENT_TYPE], "application/yaml");
    assert!(got.text.contains("id: r1"), "{}", got.text);
    let mut yaml =
        request("PUT", PATH, "routes:\n  - {id: r2, uri: /r2, plugins: {}}\n".to_owned());
    yaml.headers_mut().insert(header::CONTENT_TYPE, "application/yaml".parse().unwrap());
    yaml.headers_mut().insert("x-digest", "2".parse().unwrap());
    rig.send(yaml).await.expect(202);
    assert!(rig.store.get("routes/r1").await.unwrap().is_none());
    assert_eq!(rig.stored("routes/r2").await["uri"], "/r2");

    push(&rig, "3", json!({})).await.expect(202);
    assert!(rig.store.list("").await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn looks_at_lists_whose_version_is_newer_and_refuses_older_ones() {
    let rig = rig().await;
    let body = |routes: i64, upstreams: i64, uri: &str| {
        json!({
            "routes": [{"id": "r1", "uri": uri, "upstream_id": "u1"}],
            "upstreams": [{"id": "u1", "nodes": {"127.0.0.1:1980": routes}}],
            "routes_conf_version": routes, "upstreams_conf_version": upstreams,
        })
    };
    push(&rig, "1", body(1060, 1060, "/a")).await.expect(202);
    push(&rig, "2", body(1062, 1060, "/b")).await.expect(202);
    assert_eq!(rig.stored("routes/r1").await["uri"], "/b");
    assert_eq!(rig.stored("upstreams/u1").await["nodes"]["127.0.0.1:1980"], 1060);

    let got = push(&rig, "3", body(1, 1060, "/c")).await;
    let said = "routes_conf_version must be greater than or equal to (1062)";
    assert_eq!(got.expect(400), json!({"error_msg": said}));
    assert_eq!(rig.stored("routes/r1").await["uri"], "/b");
    // What has no version is newer.
    push(&rig, "4", json!({"routes_conf_version": 1062})).await.expect(202);
    let left = rig.store.list("").await.unwrap().entries;
    assert_eq!(left.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["routes/r1"]);
    let shown = rig.get(PATH).await.expect(200);
    assert_eq!(
        (&shown["routes_conf_version"], &shown["upstreams_conf_version"]),
        (&json!(1062), &json!(1061))
    );
}

#[tokio::test]
async fn leaves_items_alone_whose_modified_index_is_what_it_was() {
    let rig = rig().await;
    let body = |index: i64, uri: &str| {
        json!({"routes": [{"id": 1, "modifiedIndex": index,
        "uri": uri, "plugins": {}}]})
    };
    push(&rig, "1", body(1, "/a")).await.expect(202);
    push(&rig, "2", body(1, "/b")).await.expect(202);
    assert_eq!(rig.stored("routes/1").await, json!({"id": 1, "uri": "/a", "plugins": {}}));
    assert_eq!(rig.get(PATH).await.expect(200)["routes"][0]["uri"], "/b", "as it was sent");
    push(&rig, "3", body(2, "/b")).await.expect(202);
    assert_eq!(rig.stored("routes/1").await["uri"], "/b");
    let wrong = json!({"routes": [{"id": 1, "modifiedIndex": "x", "uri": "/"}]});
    push(&rig, "4", wrong).await.refused(400, "modifiedIndex");
}

#[tokio::test]
async fn applies_nothing_of_what_is_wrong_somewhere() {
    let rig = rig().await;
    push(&rig, "1", json!({"routes": [{"id": "r", "uri": "/a", "plugins": {}}]})).await.expect(202);
    let good = json!({"id": "s", "upstream": super::upstream()});
    for (body, said) in [
        (json!({"services": [good, {"plugins": {"none": {}}}]}), "none"),
        (json!({"services": [good, good]}), "found duplicate id s in services"),
        (
            json!({"services": [good], "routes_conf_version": "x"}),
            "routes_conf_version must be a number",
        ),
        (json!({"services": [good], "routes": [{"uri": 1}]}), "property \"uri\""),
        (json!([1]), "expected lists of resources by kind"),
    ] {
        push(&rig, "2", body).await.refused(400, said);
        let left = rig.store.list("").await.unwrap().entries;
        assert_eq!(left.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["routes/r"]);
    }
    assert_eq!(rig.get(PATH).await.headers["x-digest"], "1");
    let no_digest = rig.call("PUT", PATH, json!({})).await.expect(400);
    assert_eq!(no_digest, json!({"error_msg": "missing digest header"}));
    push(&rig, "2", Value::Null).await.refused(400, "expected lists");
}

#[tokio::test]
async fn takes_no_other_writes_and_hides_secrets_from_viewers_and_the_disk() {
    let rig = rig().await;
    let consumers = json!({"consumers": [{"username": "jack"}, {"id": "jack/credentials/1",
        "plugins": {"key-auth": {"key": "planted-secret"}}}]});
    push(&rig, "1", consumers).await.expect(202);
    let stored = rig.stored("consumers/jack/credentials/1").await.to_string();
    assert!(!stored.contains("planted-secret"), "{stored}");
    assert!(rig.get(PATH).await.text.contains("planted-secret"), "who pushes may see");
    let mut viewer = request("GET", PATH, String::new());
    let key = HeaderValue::from_static("4054f7cf07e344346cd3f287985e76a2");
    viewer.headers_mut().insert("x-api-key", key);
    let got = rig.send(viewer).await;
    assert!(got.status == 200 && !got.text.contains("planted-secret"), "{}", got.text);

    rig.put("routes/1", route("/")).await.refused(405, "PUT /apisix/admin/configs");
    rig.delete("consumers/jack").await.refused(405, "pushed as a whole");
    rig.get("consumers/jack").await.expect(200);
}

#[tokio::test]
async fn is_not_there_where_config_is_written_piece_by_piece() {
    let rig = Rig::new().await;
    push(&rig, "1", json!({})).await.refused(404, "Unsupported resource type: configs");
    rig.get(PATH).await.refused(404, "Unsupported resource type: configs");
}
