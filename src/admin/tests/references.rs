//! What refers to what: created in order, deleted in order, by one node or by two.

use serde_json::json;

use super::{Rig, route, upstream};
use crate::store::Expect;

#[tokio::test]
async fn refuses_what_points_nowhere() {
    let rig = Rig::new().await;
    for (path, body, said) in [
        ("routes/1", json!({"uri": "/", "upstream_id": 9}), "upstream id [9], response code: 404"),
        ("routes/1", json!({"uri": "/", "service_id": "9"}), "service id [9]"),
        (
            "routes/1",
            json!({"uri": "/", "plugin_config_id": "9", "plugins": {}}),
            "plugin config id [9]",
        ),
        ("services/1", json!({"upstream_id": "9"}), "upstream id [9]"),
        ("consumers", json!({"username": "jack", "group_id": "9"}), "consumer group id [9]"),
        (
            "upstreams/1",
            json!({"nodes": {"a:1": 1}, "scheme": "https",
            "tls": {"client_cert_id": "9"}}),
            "ssl id [9]",
        ),
    ] {
        rig.put(path, body).await.refused(400, said);
    }
}

#[tokio::test]
async fn sees_what_was_written_a_moment_ago() {
    let rig = Rig::new().await;
    for id in 1..=50 {
        rig.put(&format!("upstreams/{id}"), upstream()).await.expect(201);
        let route = json!({"uri": "/", "upstream_id": id});
        rig.put("routes/1", route).await.expect(201);
        rig.delete("routes/1").await.expect(200);
        rig.delete(&format!("upstreams/{id}")).await.expect(200);
    }
}

#[tokio::test]
async fn sees_what_another_node_has_written() {
    let rig = Rig::new().await;
    for id in 1..=50 {
        let key = format!("upstreams/{id}");
        let value = upstream().to_string().into();
        rig.store.put(&key, value, Expect::Absent, None).await.unwrap();
        let route = json!({"uri": "/", "upstream_id": id.to_string()});
        rig.put(&format!("routes/{id}"), route).await.expect(201);
        // And what it has deleted.
        rig.store.delete(&format!("routes/{id}"), Expect::Any).await.unwrap();
        rig.delete(&key).await.expect(200);
    }
}

#[tokio::test]
async fn keeps_what_is_in_use() {
    let rig = Rig::new().await;
    rig.put("upstreams/1", upstream()).await.expect(201);
    rig.put("services/1", json!({"upstream_id": "1"})).await.expect(201);
    rig.put("plugin_configs/1", json!({"plugins": {}})).await.expect(201);
    let body = json!({"uri": "/", "service_id": 1, "plugin_config_id": "1"});
    rig.put("routes/1", body).await.expect(201);
    for (path, said) in [
        ("upstreams/1", "can not delete this upstream, service [1] is still using it now"),
        ("services/1", "can not delete this service directly, route [1] is still using it now"),
        ("plugin_configs/1", "can not delete this plugin config, route [1] is still using it now"),
        ("upstreams/1?force=anyvalue", "still using it"),
    ] {
        rig.delete(path).await.refused(400, said);
    }
    rig.delete("upstreams/1?force=true").await.expect(200);
    rig.put("routes/1", route("/")).await.expect(200);
    rig.put("consumer_groups/g", json!({"plugins": {}})).await.expect(201);
    let member = json!({"username": "jack", "group_id": "g"});
    rig.put("consumers", member).await.expect(201);
    let said = "can not delete this consumer group, consumer [jack] is still using it now";
    rig.delete("consumer_groups/g").await.refused(400, said);
    rig.put("consumers", json!({"username": "jack"})).await.expect(200);
    rig.delete("consumer_groups/g").await.expect(200);
    rig.delete("services/1").await.expect(200);
    rig.delete("plugin_configs/1").await.expect(200);
}

#[tokio::test]
async fn looks_into_stream_routes_and_plugins_too() {
    let rig = Rig::new().await;
    for (body, said) in [
        (json!({"upstream_id": "9"}), "upstream id [9]"),
        (json!({"service_id": 9}), "service id [9]"),
        (json!({"protocol": {"name": "redis", "superior_id": "9"}}), "stream routes[9]"),
        (json!({"plugins": {"mqtt-proxy": {}}}), "unknown plugin [mqtt-proxy]"),
        (json!({"remote_addr": "127.0.0.0/99"}), "\"remote_addr\""),
    ] {
        rig.put("stream_routes/1", body).await.refused(400, said);
    }
    rig.put("upstreams/1", upstream()).await.expect(201);
    rig.put("services/1", json!({})).await.expect(201);
    let redis = |more: serde_json::Value| {
        let mut protocol = json!({"name": "redis"});
        protocol.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"upstream_id": "1", "service_id": "1", "protocol": protocol})
    };
    rig.put("stream_routes/1", redis(json!({}))).await.expect(201);
    rig.put("stream_routes/1", redis(json!({"superior_id": "1"})))
        .await
        .refused(400, "can not set itself as superior_id");
    rig.put("stream_routes/2", redis(json!({"superior_id": 1, "name": "dubbo"})))
        .await
        .refused(400, "a stream route of protocol dubbo, not redis");
    rig.put("stream_routes/2", json!({"protocol": {"name": "redis", "superior_id": 1}}))
        .await
        .expect(201);
    // In a circle, which ends.
    rig.put("stream_routes/1", redis(json!({"superior_id": "2"}))).await.expect(200);
    for (path, user) in [
        ("upstreams/1", "stream_route [1] is still using it now"),
        ("services/1", "stream_route [1] is still using it now"),
        ("stream_routes/1", "stream route [2] is still using it as superior_id"),
    ] {
        rig.delete(path).await.refused(400, user);
    }
    rig.delete("stream_routes/1?force=true").await.expect(200);
    rig.delete("services/1").await.expect(200);
    // Plugins that this version does not have name things that others on the store need.
    let split = json!({"rules": [{"weighted_upstreams": [{"upstream_id": 1, "weight": 1}]}]});
    let plugins = json!({"traffic-split": split, "grpc-transcode": {"proto_id": "1"}});
    let theirs = json!({"uri": "/", "plugins": plugins}).to_string().into();
    rig.store.put("routes/theirs", theirs, Expect::Absent, None).await.unwrap();
    rig.put("protos/1", json!({"content": "syntax = \"proto3\";"})).await.expect(201);
    rig.delete("upstreams/1").await.refused(400, "plugin in route [theirs] is still using it now");
    rig.delete("protos/1").await.refused(400, "route [theirs] is still using it now");
}

#[tokio::test]
async fn gives_a_plugin_to_one_global_rule_and_a_key_to_one_consumer() {
    let rig = Rig::new().await;
    let rule = json!({"plugins": {"prometheus": {}}});
    rig.put("global_rules/1", rule.clone()).await.expect(201);
    rig.put("global_rules/1", rule.clone()).await.expect(200);
    let said = "plugin 'prometheus' already exists in global rule with id '1'";
    rig.put("global_rules/2", rule).await.refused(400, said);
    let consumer = |name: &str| json!({"username": name, "plugins": {"key-auth": {"key": "k1"}}});
    rig.put("consumers", consumer("a")).await.expect(201);
    rig.put("consumers", consumer("a")).await.expect(200);
    rig.put("consumers", consumer("b")).await.refused(400, "found with consumer: a");
}

/// Other gateways on the store may speak what this one does not yet.
#[tokio::test]
async fn takes_upstreams_of_every_scheme_and_says_what_it_does_not_serve() {
    let rig = Rig::new().await;
    for scheme in ["grpc", "grpcs", "tcp", "udp", "tls", "kafka"] {
        let body = json!({"nodes": {"127.0.0.1:1": 1}, "type": "none", "scheme": scheme});
        rig.put(&format!("upstreams/{scheme}"), body).await.expect(201);
    }
    rig.admin.catch_up().await;
    let compiler = rig.admin.compiler.lock();
    let rejected: Vec<&str> = compiler.rejected().map(|(_, id, _)| id).collect();
    assert_eq!(rejected, ["grpc", "grpcs", "kafka", "tcp", "tls", "udp"]);
}

#[tokio::test]
async fn wants_to_know_what_chash_hashes() {
    let rig = Rig::new().await;
    let chash = |more: serde_json::Value| {
        let mut body = json!({"nodes": {"127.0.0.1:1": 1}, "type": "chash"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    rig.put("upstreams/1", chash(json!({}))).await.refused(400, "missing key");
    let wrong = chash(json!({"key": "not_supported"}));
    rig.put("upstreams/1", wrong).await.refused(400, "with \"not_supported\"");
    let wrong = chash(json!({"hash_on": "header", "key": "$#^@"}));
    rig.put("upstreams/1", wrong).await.refused(400, "failed to match pattern");
}
