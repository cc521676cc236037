//! History: what is kept, what is shown, and the way back.

use serde_json::{Value, json};

use super::{Rig, route};
use crate::store::{BESIDE, Expect};

async fn versions(rig: &Rig, path: &str) -> Vec<Value> {
    let body = rig.get(&format!("{path}/history")).await.expect(200);
    body["list"].as_array().unwrap().clone()
}

#[tokio::test]
async fn keeps_the_last_versions_with_their_time_and_writer() {
    let rig = Rig::new().await;
    for number in 0..5 {
        let uri = format!("/{number}");
        rig.put("routes/1", route(&uri)).await.expect(if number == 0 { 201 } else { 200 });
    }
    rig.put("routes/10", route("/ten")).await.expect(201);
    let list = versions(&rig, "routes/1").await;
    let uris: Vec<&str> = list.iter().map(|one| one["value"]["uri"].as_str().unwrap()).collect();
    assert_eq!(uris, ["/4", "/3", "/2"], "three are kept");
    assert_eq!((&list[0]["by"], &list[0]["deleted"]), (&json!("admin"), &json!(false)));
    assert!(list[0]["time"].is_i64());
    let index = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    assert_eq!(list[0]["revision"], index);
    // None of it is config.
    assert_eq!(rig.store.list("").await.unwrap().entries.len(), 2);
    assert!(versions(&rig, "routes/none").await.is_empty());
}

#[tokio::test]
async fn brings_a_version_back_also_of_what_was_deleted() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/first")).await.expect(201);
    let first = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    rig.put("routes/1", route("/second")).await.expect(200);
    let back = |revision: String| format!("routes/1/rollback?revision={revision}");
    let call = async |path: String| rig.call("POST", &path, Value::Null).await;
    let got = call(back(first.to_string())).await.expect(200);
    assert_eq!(got["value"]["uri"], "/first");
    rig.delete("routes/1").await.expect(200);
    let list = versions(&rig, "routes/1").await;
    assert_eq!(list.len(), 2, "of what is deleted the last version is kept");
    assert_eq!((&list[0]["deleted"], &list[0]["value"]), (&json!(true), &Value::Null));
    assert_eq!(list[1]["value"]["uri"], "/first");
    call(back(list[1]["revision"].to_string())).await.expect(201);
    assert_eq!(rig.get("routes/1").await.expect(200)["value"]["uri"], "/first");
    call(back("9999".to_owned())).await.refused(404, "no version of revision 9999");
    call(back(list[0]["revision"].to_string())).await.refused(404, "no version");
    call(back("x".to_owned())).await.refused(400, "revision");
}

#[tokio::test]
async fn checks_a_version_as_any_other_write() {
    let rig = Rig::new().await;
    rig.put("upstreams/u", super::upstream()).await.expect(201);
    rig.put("routes/1", json!({"uri": "/", "upstream_id": "u"})).await.expect(201);
    let old = rig.get("routes/1").await.expect(200)["modifiedIndex"].clone();
    rig.put("routes/1", route("/")).await.expect(200);
    rig.delete("upstreams/u").await.expect(200);
    let got = rig.call("POST", &format!("routes/1/rollback?revision={old}"), Value::Null).await;
    got.refused(400, "upstream id [u]");
}

#[tokio::test]
async fn hides_what_a_secret_manager_logs_in_with() {
    let rig = Rig::new().await;
    for (field, auth) in [
        ("secret_id", json!({"method": "approle", "role_id": "r", "secret_id": "planted"})),
        ("jwt", json!({"method": "jwt", "jwt": "planted"})),
        ("key", json!({"method": "cert", "cert": "c", "key": "planted"})),
        ("token", json!({"method": "token", "token": "planted"})),
    ] {
        let vault = json!({"uri": "https://vault:8200", "prefix": "kv", "auth": auth});
        rig.put(&format!("secrets/vault/{field}"), vault).await.expect(201);
        let list = versions(&rig, &format!("secrets/vault/{field}")).await;
        assert_eq!(list[0]["value"]["auth"][field], "(hidden)", "{list:?}");
    }
}

#[tokio::test]
async fn keeps_secrets_encrypted_and_hides_them() {
    let rig = Rig::new().await;
    let jack = json!({"username": "jack", "plugins": {"key-auth": {"key": "planted"}}});
    rig.put("consumers/jack", jack).await.expect(201);
    for entry in rig.store.list(BESIDE).await.unwrap().entries {
        assert!(!String::from_utf8_lossy(&entry.value).contains("planted"));
    }
    let list = versions(&rig, "consumers/jack").await;
    assert_eq!(list[0]["value"]["plugins"]["key-auth"]["key"], "(hidden)");
    let revision = list[0]["revision"].clone();
    rig.delete("consumers/jack").await.expect(200);
    let path = format!("consumers/jack/rollback?revision={revision}");
    rig.call("POST", &path, Value::Null).await.expect(201);
    let got = rig.get("consumers/jack").await.expect(200);
    assert_eq!(got["value"]["plugins"]["key-auth"]["key"], "planted");
}

#[tokio::test]
async fn notes_what_another_gateway_wrote() {
    let rig = Rig::new().await;
    let theirs = route("/theirs").to_string().into();
    rig.store.put("routes/1", theirs, Expect::Any, None).await.unwrap();
    rig.put("routes/1", route("/ours")).await.expect(200);
    let list = versions(&rig, "routes/1").await;
    assert_eq!(list.len(), 2);
    assert_eq!((&list[1]["by"], &list[1]["value"]["uri"]), (&Value::Null, &json!("/theirs")));
    let path = format!("routes/1/rollback?revision={}", list[1]["revision"]);
    rig.call("POST", &path, Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_large_resource_is_written_without_a_version() {
    let rig = Rig::new().await;
    let mut large = route("/");
    large["plugins"]["proxy-rewrite"]["headers"]["set"]["X-Large"] = "x".repeat(600_000).into();
    rig.put("routes/1", large).await.expect(201);
    assert!(versions(&rig, "routes/1").await.is_empty());
    rig.put("routes/1", route("/")).await.expect(200);
    // What was there before would be too large too.
    assert_eq!(versions(&rig, "routes/1").await.len(), 1);
    rig.delete("routes/1").await.expect(200);
}

/// Another gateway on the same store keeps no history.
#[tokio::test]
async fn ends_where_another_gateway_has_deleted_the_resource() {
    let rig = Rig::new().await;
    rig.put("routes/1", route("/a")).await.expect(201);
    rig.store.delete("routes/1", crate::store::Expect::Any).await.unwrap();
    let shown = rig.get("routes/1/history").await.expect(200);
    let deleted: Vec<bool> =
        shown["list"].as_array().unwrap().iter().map(|one| one["deleted"] == true).collect();
    assert_eq!(deleted, [true, false], "{shown}");
    // What stands there again has a history that goes on.
    rig.put("routes/1", route("/b")).await.expect(201);
    assert_eq!(rig.get("routes/1/history").await.expect(200)["list"][0]["deleted"], false);
}
