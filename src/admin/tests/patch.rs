//! PATCH on stored resources.

use serde_json::{Value, json};

use super::{Rig, route, timeless};

#[tokio::test]
async fn merges_and_takes_away() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    let nodes = |nodes: Value| json!({"upstream": {"nodes": nodes}});
    for (change, after) in [
        (json!({"127.0.0.1:1981": 1}), json!({"127.0.0.1:1980": 1, "127.0.0.1:1981": 1})),
        (json!({"127.0.0.1:1981": 10}), json!({"127.0.0.1:1980": 1, "127.0.0.1:1981": 10})),
        (json!({"127.0.0.1:1980": null}), json!({"127.0.0.1:1981": 10})),
    ] {
        let got = rig.patch("routes/1", nodes(change)).await.expect(200);
        assert_eq!(got.as_object().unwrap().len(), 2);
        assert_eq!(got["value"]["upstream"]["nodes"], after);
    }
    let got = rig.patch("routes/1", json!({"status": 0, "methods": ["GET"]})).await.expect(200);
    assert_eq!(got["value"]["methods"], json!(["GET"]));
    let got = rig.patch("routes/1", json!({"methods": ["PUT"], "status": null})).await.expect(200);
    assert_eq!(
        timeless(got["value"].clone()),
        json!({"id": "1", "uri": "/", "methods": ["PUT"],
            "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1981": 10}}})
    );
}

#[tokio::test]
async fn replaces_the_property_of_a_sub_path() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    let got = rig.patch("routes/1/upstream/nodes", json!({"127.0.0.1:5": 1})).await.expect(200);
    assert_eq!(got["value"]["upstream"]["nodes"], json!({"127.0.0.1:5": 1}));
    let got = rig.patch("routes/1/methods", json!(["GET", "POST"])).await.expect(200);
    assert_eq!(got["value"]["methods"], json!(["GET", "POST"]));
    rig.patch("routes/1/uri/deep", json!(1)).await.refused(400, "invalid sub-path: /uri");
    rig.patch("routes/1/methods", json!(["FETCH"]))
        .await
        .refused(400, "\"methods\" validation failed: failed to validate item 1");
    let vault = json!({"uri": "http://127.0.0.1:1", "prefix": "p", "token": "t"});
    rig.put("secrets/vault/1", vault).await.expect(201);
    let got = rig.patch("secrets/vault/1/prefix", json!("q")).await.expect(200);
    assert_eq!(got["value"]["prefix"], "q");
}

#[tokio::test]
async fn refuses_what_it_cannot_merge() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    rig.patch("routes/1", Value::Null).await.refused(400, "missing new configuration");
    rig.patch("routes/1", json!([1])).await.refused(400, "invalid configuration");
    // The path's id is text, whatever the body had.
    assert_eq!(
        rig.patch("routes/1", json!({"id": 1})).await.expect(200)["value"]["id"],
        json!("1")
    );
    rig.patch("routes/1", json!({"id": "2"})).await.refused(400, "wrong route id");
    rig.patch("routes/1", json!({"uri": 1})).await.refused(400, "\"uri\"");
    assert_eq!(rig.patch("routes/2", json!({})).await.status, 404);
    assert_eq!(rig.stored("routes/1").await["uri"], "/");
}

#[tokio::test]
async fn takes_times_from_the_caller() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    let times = json!({"create_time": 1, "update_time": 2});
    let got = rig.patch("routes/1", times).await.expect(200);
    assert_eq!(
        (&got["value"]["create_time"], &got["value"]["update_time"]),
        (&json!(1), &json!(2))
    );
    let got = rig.patch("routes/1", json!({"desc": "x"})).await.expect(200);
    assert_eq!(got["value"]["create_time"], json!(1));
    assert_ne!(got["value"]["update_time"], json!(2));
}
