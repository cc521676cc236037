//! Plugin lists and schemas.

use serde_json::{Value, json};

use super::{Rig, settings, upstream};
use crate::admin::{Admin, Settings};

#[tokio::test]
async fn lists_plugins_in_order_of_execution() {
    let rig = Rig::new().await;
    let names = rig.get("plugins/list").await.expect(200);
    let expected = json!([
        "serverless-pre-function",
        "key-auth",
        "proxy-rewrite",
        "limit-count",
        "prometheus",
        "ocsp-stapling",
        "serverless-post-function"
    ]);
    assert_eq!(names, expected);
    assert_eq!(rig.get("plugins/list?subsystem=stream").await.expect(200), json!([]));
    let got = rig.get("plugins/list?subsystem=x").await;
    assert_eq!((got.status, &*got.text), (400, "invalid subsystem passed"));
}

#[tokio::test]
async fn leaves_out_what_is_not_enabled() {
    let mut rig = Rig::new().await;
    let settings = Settings {
        enabled_plugins: Some(vec!["prometheus".to_owned(), "no-such".to_owned()]),
        ..settings()
    };
    let (compiler, cluster) = (rig.admin.compiler.clone(), rig.admin.cluster.clone());
    rig.admin = Admin::new(settings, rig.store.clone(), compiler, cluster);
    assert_eq!(rig.get("plugins/list").await.expect(200), json!(["prometheus"]));
    let got = rig.get("plugins/key-auth").await;
    got.refused(404, "plugin not found in subsystem http");
}

#[tokio::test]
async fn tells_everything_about_every_plugin() {
    let rig = Rig::new().await;
    let all = rig.get("plugins?all=true").await.expect(200);
    let key_auth = &all["key-auth"];
    assert_eq!((&key_auth["priority"], &key_auth["type"]), (&json!(2500), &json!("auth")));
    assert_eq!(key_auth["consumer_schema"]["required"], json!(["key"]));
    assert!(all["limit-count"]["metadata_schema"]["properties"]["limit_header"].is_object());
    assert_eq!(all["prometheus"]["type"], Value::Null);
    assert_eq!(rig.get("plugins?all=true&subsystem=stream").await.expect(200), json!({}));
}

#[tokio::test]
async fn serves_schemas() {
    let rig = Rig::new().await;
    for path in ["plugins/key-auth", "schema/plugins/key-auth"] {
        let schema = rig.get(path).await.expect(200);
        assert_eq!(schema["properties"]["header"]["default"], "apikey");
        assert!(schema["properties"]["_meta"]["properties"]["disable"].is_object());
    }
    let consumer = rig.get("plugins/key-auth?schema_type=consumer").await.expect(200);
    assert_eq!(consumer["required"], json!(["key"]));
    let none = rig.get("plugins/prometheus?schema_type=consumer").await;
    none.refused(400, "not found schema");
    for path in ["plugins/asdf", "plugins", "schema/plugins/asdf"] {
        rig.get(path).await.refused(404, "plugin not found in subsystem http");
    }
    rig.get("plugins/key-auth?subsystem=x").await.refused(400, "unsupported subsystem: x");
    for (name, property) in [
        ("route", "uri"),
        ("routes", "uri"),
        ("ssl", "snis"),
        ("global_rule", "plugins"),
        ("plugin_config", "plugins"),
    ] {
        let schema = rig.get(&format!("schema/{name}")).await.expect(200);
        assert!(schema["properties"][property].is_object(), "{name}");
    }
    rig.get("schema/nothing").await.refused(400, "not found schema: nothing");
}

#[tokio::test]
async fn says_done_to_a_reload() {
    let rig = Rig::new().await;
    let got = rig.put("plugins/reload", Value::Null).await;
    assert_eq!((got.status, &*got.text), (200, "done"));
    let said = "please use PUT method to reload the plugins, GET method is not allowed.";
    rig.get("plugins/reload").await.refused(405, said);
}

#[tokio::test]
async fn validates_by_schema_alone() {
    let rig = Rig::new().await;
    let path = "schema/validate/routes";
    let good = json!({"uri": "/", "upstream": upstream(), "service_id": "nowhere"});
    let got = rig.call("POST", path, good).await;
    assert_eq!((got.status, &*got.text), (200, ""));
    let got = rig.call("POST", path, json!({"uri": 666, "upstream": upstream()})).await.expect(400);
    assert_eq!(
        got["error_msg"],
        "property \"uri\" validation failed: wrong type: expected string, got number"
    );
    let unknown = rig.call("POST", "schema/validate/routs", json!({})).await;
    unknown.refused(404, "Unsupported resource type: routs");
    assert_eq!(rig.get("routes").await.expect(200)["total"], 0);
}
