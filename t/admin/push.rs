//! A node without a store, whose config is pushed as a whole.

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN_KEY, Gateway};
use crate::support::{eventually, origin::Origin};

async fn push(gateway: &Gateway, digest: &str, body: Value) -> u16 {
    let url = format!("http://127.0.0.1:{}/apisix/admin/configs", gateway.ports().admin);
    let request = gateway.client().put(url).header("X-API-KEY", ADMIN_KEY);
    request.header("X-Digest", digest).json(&body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn serves_what_is_pushed_and_after_a_restart_what_was_pushed_last() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::builder()
        .config(|config| {
            config["deployment"]["role_traditional"]["config_provider"] = json!("yaml");
        })
        .no_wait()
        .start()
        .await;
    eventually("the status port answers", || async {
        let url = format!("http://127.0.0.1:{}/status/ready", gateway.ports().status);
        let answer = gateway.client().get(url).send().await;
        answer.is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    let route = |uri: &str| {
        json!({"routes": [{"id": "r1", "uri": uri, "upstream_id": "u1"}],
            "upstreams": [{"id": "u1", "nodes": {origin.addr().to_string(): 1}}]})
    };
    assert_eq!(push(&gateway, "1", route("/r1")).await, 202);
    gateway.ready().await;
    gateway.served("/r1").await;
    assert_eq!(push(&gateway, "1", route("/r2")).await, 204);
    // From here on a push is served when it is answered.
    assert_eq!(push(&gateway, "2", route("/r2")).await, 202);
    assert_eq!(gateway.get("/r2").await.status(), 200);
    assert_eq!(gateway.get("/r1").await.status(), 404);

    gateway.signal("TERM");
    gateway.ended().await;
    gateway.restart().await;
    gateway.ready().await;
    assert_eq!(gateway.get("/r2").await.status(), 200);
    // The client is asked to push again.
    let (_, shown) = gateway.admin("GET", "/configs", None).await;
    assert_eq!(shown["routes_conf_version"], 0);
    assert_eq!(push(&gateway, "2", json!({})).await, 202);
    assert_eq!(gateway.get("/r2").await.status(), 404);
}
