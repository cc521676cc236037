//! PUT, POST and DELETE on every kind: shapes, ids, times, refusals.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Rig, request, route, timeless, upstream};

#[tokio::test]
async fn creates_replaces_reads_and_deletes_every_kind() {
    let rig = Rig::new().await;
    let plugins = json!({"prometheus": {}});
    for (path, body) in [
        ("routes/1", route("/a")),
        ("services/1", json!({"upstream": upstream()})),
        ("upstreams/1", upstream()),
        ("consumers/jack", json!({"username": "jack"})),
        ("secrets/vault/1", json!({"uri": "http://127.0.0.1:1", "prefix": "p", "token": "t"})),
        (
            "secrets/aws/1",
            json!({"access_key_id": "id", "secret_access_key": "key", "region": "eu-west-1"}),
        ),
        (
            "secrets/gcp/1",
            json!({"auth_config": {"client_email": "a@b", "private_key": "k", "project_id": "p"}}),
        ),
        ("protos/1", json!({"content": "syntax = \"proto3\";"})),
        ("stream_routes/1", json!({"server_port": 9100, "upstream": upstream()})),
        ("global_rules/1", json!({"plugins": plugins})),
        ("plugin_configs/1", json!({"plugins": plugins})),
        ("consumer_groups/1", json!({"plugins": plugins, "name": "g"})),
        ("plugin_metadata/limit-count", json!({"limit_header": "X-L"})),
    ] {
        let key = json!(format!("/apisix/{path}"));
        let mut stored = body.clone();
        if path.starts_with("plugin_metadata") {
            stored["id"] = json!("limit-count");
        } else if !path.starts_with("consumers") {
            stored["id"] = json!(path.split_once('/').unwrap().1);
        }
        let times = |value: Value| {
            if path.starts_with("plugin_metadata") { value } else { timeless(value) }
        };
        for status in [201, 200] {
            let got = rig.put(path, body.clone()).await;
            let revision = got.headers["x-sluice-revision"].to_str().unwrap().to_owned();
            let put = got.expect(status);
            assert_eq!(put.as_object().unwrap().len(), 2, "a write shows key and value only");
            assert_eq!(put["key"], key);
            // Nothing is added but id and times: no defaults.
            assert_eq!(times(put["value"].clone()), stored, "{path}");
            let got = rig.get(path).await.expect(200);
            assert_eq!(got["modifiedIndex"].to_string(), revision);
            assert!(got["createdIndex"].is_i64());
            assert_eq!(times(got["value"].clone()), stored, "{path}");
        }
        let deleted = rig.delete(path).await.expect(200);
        assert_eq!(deleted, json!({"deleted": "1", "key": key}));
        for method in ["GET", "DELETE"] {
            let gone = rig.call(method, path, Value::Null).await.expect(404);
            assert_eq!(gone, json!({"message": "Key not found"}));
        }
    }
}

#[tokio::test]
async fn generates_ids_as_etcd_based_ones() {
    let rig = Rig::new().await;
    let mut ids = Vec::new();
    for (dir, body) in [("routes", route("/a")), ("services", json!({})), ("upstreams", upstream())]
    {
        let got = rig.call("POST", dir, body).await.expect(201);
        let id = got["value"]["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 20);
        assert!(id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        assert_eq!(got["key"], json!(format!("/apisix/{dir}/{id}")));
        rig.get(&format!("{dir}/{id}")).await.expect(200);
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn refuses_methods_as_apisix_does() {
    let rig = Rig::new().await;
    for (method, path, said) in [
        ("POST", "consumers", "not supported `POST` method for consumer"),
        ("POST", "secrets/vault", "not supported `POST` method for secret"),
        ("POST", "global_rules", "not supported `POST` method for global rule"),
        ("POST", "plugin_configs", "not supported `POST` method for plugin config"),
        ("POST", "consumer_groups", "not supported `POST` method for consumer group"),
        ("POST", "plugin_metadata", "not supported `POST` method for plugin_metadata"),
        ("PATCH", "consumers/jack", "not supported `PATCH` method for consumer"),
        ("PATCH", "protos/1", "not supported `PATCH` method for proto"),
        ("PATCH", "stream_routes/1", "not supported `PATCH` method for stream route"),
        ("PATCH", "plugin_metadata/x", "not supported `PATCH` method for plugin_metadata"),
    ] {
        rig.call(method, path, json!({})).await.refused(405, said);
    }
}

#[tokio::test]
async fn settles_ids_of_path_and_body() {
    let rig = Rig::new().await;
    let with_id = |id: Value| json!({"id": id, "uri": "/", "upstream": upstream()});
    rig.put("routes/1", with_id(json!("2"))).await.refused(400, "wrong route id");
    rig.put("routes/1", with_id(json!(1))).await.expect(201);
    let got = rig.put("routes", with_id(json!(7))).await.expect(201);
    assert_eq!((&got["key"], &got["value"]["id"]), (&json!("/apisix/routes/7"), &json!(7)));
    rig.put("routes", route("/")).await.refused(400, "missing route id");
    rig.put("secrets/vault", json!({})).await.refused(400, "missing secret id");
    rig.put("plugin_metadata", json!({})).await.refused(400, "missing plugin name");
    rig.put("plugin_metadata/nothing", json!({})).await.refused(400, "name of a plugin");
    let unknown = rig.put("secrets/nothing/1", json!({})).await;
    unknown.refused(400, "invalid secret manager: nothing");
    rig.put("secrets/aws/1", json!({})).await.refused(400, "\"access_key_id\"");
    rig.put("secrets/gcp/1", json!({})).await.refused(400, "auth_config and auth_file");
    rig.put("routes/a%20b", route("/")).await.refused(400, "\"id\"");
    let wrong = rig.call("POST", "routes/1", route("/")).await;
    wrong.refused(400, "wrong route id, do not need it");
    rig.call("POST", "routes", with_id(json!(1))).await.refused(400, "do not need it");
    rig.put("consumers/john", json!({"username": "jack"})).await.refused(400, "wrong username");
    let put = rig.put("consumers", json!({"username": "jack"})).await.expect(201);
    assert_eq!(put["key"], "/apisix/consumers/jack");
    rig.put("consumers", json!({})).await.refused(400, "\"username\"");
    for method in ["DELETE", "PATCH"] {
        rig.call(method, "upstreams", json!({})).await.refused(400, "missing upstream id");
    }
}

#[tokio::test]
async fn keeps_the_time_of_creation_and_lets_nobody_write_times() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/")).await.expect(201);
    let mut stored = rig.stored("routes/1").await;
    stored["create_time"] = json!(5);
    let bytes = stored.to_string().into();
    rig.store.put("routes/1", bytes, crate::store::Expect::Any, None).await.unwrap();
    let put = rig.put("routes/1", route("/b")).await.expect(200);
    assert_eq!(put["value"]["create_time"], json!(5));
    assert_ne!(put["value"]["update_time"], json!(5));
    let mut timed = route("/");
    timed["create_time"] = json!(1);
    rig.put("routes/1", timed).await.refused(400, "the property is forbidden:  create_time");
    let mut timed = route("/");
    timed["upstream"]["update_time"] = json!(1);
    rig.put("routes/1", timed).await.refused(400, "forbidden:  upstream.update_time");
}

#[tokio::test]
async fn names_everything_that_is_wrong() {
    let rig = Rig::new().await;
    let body = json!({"uri": 5, "upstream": upstream(), "nonsense": 1});
    let got = rig.put("routes/1", body).await.expect(400);
    let message = got["error_msg"].as_str().unwrap();
    assert!(message.starts_with("invalid configuration: "), "{message}");
    for said in ["\"uri\" validation failed: wrong type: expected string", "; ", "nonsense"] {
        assert!(message.contains(said), "{message}");
    }
    let mut from = route("/");
    from["remote_addrs"] = json!(["127.0.0.1", "/16"]);
    rig.put("routes/1", from)
        .await
        .refused(400, "\"remote_addrs\" validation failed: failed to validate item 2");
    let unknown = json!({"uri": "/", "plugins": {"no-such": {}}});
    rig.put("routes/1", unknown).await.refused(400, "unknown plugin [no-such]");
    rig.put("routes/1", Value::Null).await.refused(400, "missing configurations");
    rig.put("routes/1", json!([1])).await.refused(400, "expected an object, got an array");
    assert_eq!(rig.get("routes/1").await.status, 404);
}

#[tokio::test]
async fn refuses_bodies_that_are_no_json_or_too_long() {
    let rig = Rig::new().await;
    let got = rig.send(request("PUT", "routes/1", "{\"key\": s3cret".to_owned())).await;
    assert!(!got.text.contains("s3cret"), "{}", got.text);
    got.refused(400, "invalid request body: ");
    // As `curl -d '{"desc": "'"$(cat file)"'"}'` sends it; APISIX's docs write certificates so.
    let text = "{\"uri\": \"/\", \"plugins\": {},\n\"desc\": \"a\nb\tc \\\"d\\\\\"}".to_owned();
    let put = rig.send(request("PUT", "routes/1", text)).await.expect(201);
    assert_eq!(put["value"]["desc"], json!("a\nb\tc \"d\\"));
    let long = rig.send(request("PUT", "routes/1", " ".repeat(1_572_865))).await;
    long.refused(400, "request size 1572865 is greater than the maximum size 1572864 allowed");
}

#[tokio::test]
async fn refuses_what_it_does_not_serve() {
    let rig = Rig::new().await;
    rig.put("routs/1", json!({})).await.refused(404, "Unsupported resource type: routs");
    rig.put("plugins/list", json!({})).await.refused(404, "not found");
    rig.put("routes/1", route("/")).await.expect(201);
    rig.delete("routes/1/upstream").await.refused(400, "only PATCH takes one");
    rig.put("routes/1/upstream", upstream()).await.refused(400, "only PATCH takes one");
}

#[tokio::test]
async fn lets_a_resource_live_for_its_ttl() {
    let rig = Rig::new().await;
    let wrong = rig.put("routes/1?ttl=soon", route("/")).await;
    wrong.refused(400, "invalid argument ttl: should be a number");
    rig.put("routes/1?ttl=0", route("/")).await.refused(400, "ttl");
    rig.put("routes/1?ttl=1", route("/")).await.expect(201);
    let gone = async {
        while rig.get("routes/1").await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}
