//! `configs/validate`.

use http::header;
use serde_json::{Value, json};

use super::{Rig, request, route, upstream};

const PATH: &str = "configs/validate";

async fn check(rig: &Rig, body: Value) -> Value {
    let got = rig.call("POST", PATH, body).await.expect(400);
    assert_eq!(got["error_msg"], "Configuration validation failed");
    got["errors"].clone()
}

#[tokio::test]
async fn takes_what_refers_to_each_other_and_stores_nothing() {
    let rig = Rig::new().await;
    let tls = json!({"client_cert_id": "c"});
    let body = json!({
        "routes": [
            {"id": "1", "uri": "/a", "service_id": "s", "plugin_config_id": "p"},
            {"uri": "/b", "upstream_id": 7, "plugins": {"key-auth": {}}},
        ],
        "services": [{"id": "s", "upstream_id": "u"}],
        "upstreams": [{"id": "u", "nodes": {}, "scheme": "https", "tls": tls}],
        "consumers": [
            {"username": "jack", "group_id": "g"},
            {"id": "jack/credentials/1", "plugins": {"key-auth": {"key": "k"}}},
        ],
        "consumer_groups": [{"id": "g", "plugins": {}}],
        "stream_routes": [{"id": 1, "upstream": upstream(),
            "protocol": {"name": "redis", "superior_id": "9"}}],
        "secrets": [{"id": "aws/1", "access_key_id": "a", "secret_access_key": "b"}],
        "plugin_metadata": [{"id": "limit-count", "limit_header": "X-L"}],
        "ssls": [],
        "global_rules": {},
        "routes_conf_version": 12,
    });
    assert_eq!(rig.call("POST", PATH, body).await.expect(200), json!({}));
    assert_eq!(rig.get("routes").await.expect(200)["total"], 0);
    let mut yaml = request("POST", PATH, "routes:\n  - uri: /a\n    upstream_id: 1\n".to_owned());
    yaml.headers_mut().insert(header::CONTENT_TYPE, "application/yaml".parse().unwrap());
    rig.send(yaml).await.expect(200);
}

#[tokio::test]
async fn names_everything_that_is_wrong_and_where() {
    let rig = Rig::new().await;
    let mut wrong_uri = route("/");
    wrong_uri["uri"] = json!(5);
    wrong_uri["id"] = json!("r");
    let errors = check(
        &rig,
        json!({
            "routes": [route("/"), wrong_uri.clone(), wrong_uri, 5],
            "routes_conf_version": "1",
            "services": [{"id": "s", "plugins": {"none": {}}}],
            "consumers": [
                {"username": "jack"},
                {"username": "jack"},
                {"id": "jack/credentials/1", "plugins": {"prometheus": {}}},
            ],
            "secrets": [{"id": "aws"}],
            "upstreams": "many",
        }),
    )
    .await;
    let errors = errors.as_array().unwrap();
    let told = |kind: &str, index: Value| -> Vec<String> {
        let of =
            errors.iter().filter(|error| error["resource_type"] == kind && error["index"] == index);
        of.map(|error| error["error"].as_str().unwrap().to_owned()).collect()
    };
    let said = "invalid configuration: property \"uri\" validation failed: \
        wrong type: expected string, got number";
    assert_eq!(told("routes", json!(1)), [said]);
    assert_eq!(told("routes", json!(2)), [said, "found duplicate id r in routes"]);
    assert!(told("routes", json!(3))[0].contains("an object"));
    assert_eq!(told("routes", Value::Null), ["routes_conf_version must be a number, got string"]);
    assert!(told("services", json!(0))[0].contains("unknown plugin [none]"));
    assert_eq!(told("consumers", json!(1)), ["found duplicate username jack in consumers"]);
    assert!(told("consumers", json!(2))[0].contains("only supports auth type plugins"));
    assert_eq!(told("secrets", json!(0)), ["invalid secret id: aws"]);
    assert_eq!(told("upstreams", Value::Null), ["upstreams must be an array, got string"]);
    assert_eq!(errors.len(), 10);
    assert_eq!(errors.iter().filter(|error| error["resource_id"] == "r").count(), 3);
}

#[tokio::test]
async fn refuses_what_is_no_configuration() {
    let rig = Rig::new().await;
    let said = "invalid request body: empty request body";
    rig.call("POST", PATH, Value::Null).await.refused(400, said);
    check(&rig, json!([1])).await;
    rig.send(request("POST", PATH, "{".to_owned())).await.refused(400, "invalid request body: ");
    rig.get(PATH).await.refused(404, "not found");
}
