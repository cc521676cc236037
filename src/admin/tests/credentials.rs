//! Credentials of consumers: where they lie, what they may be, and whose a key is.

use serde_json::{Value, json};

use super::{KEYRING, Rig, timeless};
use crate::resource::Keyring;

fn key(key: &str) -> Value {
    json!({"plugins": {"key-auth": {"key": key}}})
}

async fn with_jack() -> Rig {
    let rig = Rig::new().await;
    rig.put("consumers", json!({"username": "jack"})).await.expect(201);
    rig
}

#[tokio::test]
async fn stand_below_their_consumer() {
    let rig = with_jack().await;
    let put = rig.put("consumers/jack/credentials/one", key("k1")).await.expect(201);
    assert_eq!(put["key"], "/apisix/consumers/jack/credentials/one");
    assert_eq!(put["value"]["id"], "one");
    // The id may stand in the body instead.
    let mut two = key("k2");
    two["id"] = json!(2);
    rig.put("consumers/jack/credentials", two).await.expect(201);
    let got = rig.get("consumers/jack/credentials").await.expect(200);
    assert_eq!(got["total"], 2);
    assert_eq!(got["list"][0]["key"], "/apisix/consumers/jack/credentials/2");
    assert_eq!(rig.get("consumers").await.expect(200)["total"], 1);
    let got = rig.get("consumers/jack/credentials/one").await.expect(200);
    let mut shown = key("k1");
    shown["id"] = json!("one");
    assert_eq!(timeless(got["value"].clone()), shown);
    let stored = rig.stored("consumers/jack/credentials/one").await;
    let sealed = Keyring::new([KEYRING]).unwrap().encrypt("k1");
    assert_eq!(stored["plugins"]["key-auth"]["key"], sealed);
    rig.delete("consumers/jack/credentials/one").await.expect(200);
    rig.get("consumers/jack/credentials/one").await.expect(404);
    // What is left goes with the consumer.
    rig.delete("consumers/jack").await.expect(200);
    let none = rig.get("consumers/jack/credentials").await.expect(404);
    assert_eq!(none, json!({"message": "Key not found"}));
    assert!(rig.store.list("consumers/").await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn are_one_plugin_that_authenticates() {
    let rig = with_jack().await;
    let at = "consumers/jack/credentials/one";
    let no_auth = json!({"plugins": {"prometheus": {}}});
    rig.put(at, no_auth)
        .await
        .refused(400, "only supports auth type plugins in consumer credential");
    let two = json!({"plugins": {"key-auth": {"key": "a"}, "prometheus": {}}});
    rig.put(at, two).await.refused(400, "at most 1 properties");
    rig.put(at, json!({"plugins": {"none": {}}})).await.refused(400, "unknown plugin [none]");
    rig.put(at, json!({"plugins": {"key-auth": {}}}))
        .await
        .refused(400, "plugin key-auth err: property \"key\" is required");
    rig.put(at, json!({"id": "two"})).await.refused(400, "wrong credential id");
    rig.put("consumers/jack/credentials", key("k")).await.refused(400, "missing credential id");
    rig.put("consumers/rose/credentials/1", key("k")).await.refused(404, "consumer not found");
    for method in ["POST", "PATCH"] {
        let said = format!("not supported `{method}` method for credential");
        rig.call(method, at, json!({})).await.refused(405, &said);
    }
}

#[tokio::test]
async fn share_no_key() {
    let rig = with_jack().await;
    let rose = |key_: &str| json!({"username": "rose", "plugins": key(key_)["plugins"]});
    rig.put("consumers", rose("r")).await.expect(201);
    rig.put("consumers/jack/credentials/one", key("k")).await.expect(201);
    rig.put("consumers/jack/credentials/one", key("k")).await.expect(200);
    let taken = "duplicate key of plugin key-auth found with credential: one of consumer: jack";
    rig.put("consumers/jack/credentials/two", key("k")).await.refused(400, taken);
    rig.put("consumers/rose/credentials/two", key("k")).await.refused(400, taken);
    rig.put("consumers/rose/credentials/two", key("r"))
        .await
        .refused(400, "found with consumer: rose");
    rig.put("consumers", rose("k")).await.refused(400, taken);
    // A key that was let go is free.
    rig.delete("consumers/jack/credentials/one").await.expect(200);
    rig.put("consumers/rose/credentials/two", key("k")).await.expect(201);
}
