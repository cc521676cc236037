//! Which node is asked, and the connections to them.

use std::collections::BTreeMap;

use serde_json::json;

use super::one_origin;
use crate::support::free_port;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

async fn origins_of(gateway: &Gateway, path: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status(), 200);
        let name = answer.headers()["x-origin"].to_str().unwrap().to_owned();
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn spreads_requests_by_weight() {
    let (a, b, c) = (Origin::named("a").await, Origin::named("b").await, Origin::named("c").await);
    // One worker: turns are shared, but the exact count of a run then is one too.
    let gateway = Gateway::start().await;
    let nodes = json!({ a.node(): 3, b.node(): 1, c.node(): 0 });
    let upstream = json!({ "type": "roundrobin", "nodes": nodes });
    gateway.put_route("1", json!({ "uri": "/get", "upstream": upstream })).await;
    let counts = origins_of(&gateway, "/get", 40).await;
    assert_eq!(counts["a"] + counts["b"], 40);
    assert_eq!((a.requests(), b.requests()), (30, 10));
    assert_eq!(c.requests(), 0);
}

#[tokio::test]
async fn asks_the_next_node_when_one_is_down_and_never_twice_what_may_harm() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let nodes = json!([
        { "host": "127.0.0.1", "port": nobody.rsplit(':').next().unwrap().parse::<u16>().unwrap(),
          "weight": 1, "priority": 1 },
        { "host": "127.0.0.1", "port": origin.addr().port(), "weight": 1 },
    ]);
    let upstream = json!({ "type": "roundrobin", "nodes": nodes });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/get").await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/get").await.status(), 200);
        let post = gateway.client().post(gateway.http_url("/anything")).body("x");
        assert_eq!(post.send().await.unwrap().status(), 200, "it never reached the first node");
    }
    // The node dies after it has the request: a GET goes on, a POST does not.
    let dying = Origin::named("dying").await;
    let nodes = json!([
        { "host": "127.0.0.1", "port": dying.addr().port(), "weight": 1, "priority": 1 },
        { "host": "127.0.0.1", "port": origin.addr().port(), "weight": 1 },
    ]);
    let rewrite = json!({ "proxy-rewrite": { "uri": "/drop" } });
    let upstream = json!({ "type": "roundrobin", "nodes": nodes });
    gateway
        .put_route("2", json!({ "uri": "/harm", "plugins": rewrite, "upstream": upstream }))
        .await;
    let (before, seen) = (dying.requests(), origin.requests());
    let post = gateway.client().post(gateway.http_url("/harm")).body("x");
    assert_eq!(post.send().await.unwrap().status(), 502);
    assert_eq!((dying.requests() - before, origin.requests() - seen), (1, 0));
    assert_eq!(gateway.get("/harm").await.status(), 502);
    assert_eq!((dying.requests() - before, origin.requests() - seen), (2, 1));
}

#[tokio::test]
async fn keeps_connections_to_nodes_and_survives_their_closing() {
    let (gateway, mut origin) = one_origin().await;
    for _ in 0..50 {
        assert_eq!(gateway.get("/get").await.status(), 200);
    }
    // Two workers, and at most one connection at a time each.
    assert!(origin.connections() <= 4, "{} connections", origin.connections());
    let close = gateway.get("/close").await;
    assert!(!close.headers().contains_key("connection"));
    // The node restarts: kept connections are dead, and nobody notices.
    let addr = origin.addr();
    origin.stop();
    let again = Origin::at("again", addr).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/get").await.headers()["x-origin"], again.name());
        let post = gateway.client().post(gateway.http_url("/anything")).body("x");
        assert_eq!(post.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn nodes_can_be_names() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let nodes = json!({ format!("localhost:{}", origin.addr().port()): 1 });
    let upstream = json!({ "type": "roundrobin", "nodes": nodes, "pass_host": "node" });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/get").await;
    let echo: serde_json::Value = gateway.get("/get").await.json().await.unwrap();
    assert_eq!(echo["headers"]["host"], format!("localhost:{}", origin.addr().port()));
}

#[tokio::test]
async fn a_post_on_a_kept_connection_is_not_sent_twice() {
    let (gateway, origin) = one_origin().await;
    gateway
        .put_route(
            "drop",
            serde_json::json!({ "uri": "/once", "upstream": super::upstream(&origin),
            "plugins": { "proxy-rewrite": { "uri": "/drop" } } }),
        )
        .await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/get").await.status(), 200);
    }
    let before = origin.requests();
    let post = gateway.client().post(gateway.http_url("/once")).send().await.unwrap();
    assert_eq!(post.status(), 502);
    assert_eq!(origin.requests(), before + 1);
}

#[tokio::test]
async fn connections_are_not_kept_where_none_may_be() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| config["nginx_config"]["http"] = json!({ "upstream": { "keepalive": 0 } }))
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let before = origin.connections();
    for _ in 0..5 {
        assert_eq!(gateway.get("/get").await.status(), 200);
    }
    assert_eq!(origin.connections(), before + 5);
}
