//! What nodes are told about the client, and one path for all.

use serde_json::{Value, json};

use super::{one_origin, upstream};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

async fn headers(gateway: &Gateway, sent: &[(&str, &str)]) -> Value {
    let mut request = gateway.client().get(gateway.http_url("/headers"));
    for (name, value) in sent {
        request = request.header(*name, *value);
    }
    let mut echo: Value = request.send().await.unwrap().json().await.unwrap();
    echo["headers"].take()
}

#[tokio::test]
async fn tells_nodes_who_the_client_is() {
    let (gateway, _origin) = one_origin().await;
    let told = headers(&gateway, &[]).await;
    let port = gateway.ports().http.to_string();
    assert_eq!(told["x-real-ip"], "127.0.0.1");
    assert_eq!(told["x-forwarded-for"], "127.0.0.1");
    assert_eq!(told["x-forwarded-proto"], "http");
    assert_eq!(told["x-forwarded-host"], format!("127.0.0.1:{port}"));
    assert_eq!(told["x-forwarded-port"], port);
    assert_eq!(told["host"], format!("127.0.0.1:{port}"));

    // Without trusted addresses the chain goes on, and what could be lies does not.
    let sent = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.com"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=1.1.1.1"),
        ("host", "good.com"),
    ];
    let told = headers(&gateway, &sent).await;
    assert_eq!(told["x-forwarded-for"], "1.1.1.1, 127.0.0.1");
    assert_eq!(told["x-forwarded-proto"], "http");
    assert_eq!(told["x-forwarded-host"], "good.com");
    assert_eq!(told["x-forwarded-port"], port);
    assert_eq!(told["forwarded"], Value::Null);
    assert_eq!(told["host"], "good.com");
}

#[tokio::test]
async fn believes_peers_as_far_as_they_are_trusted() {
    let origin = Origin::start().await;
    let trusting = |networks: Value| {
        Gateway::builder()
            .config(move |config| config["apisix"]["trusted_addresses"] = networks)
            .start()
    };
    let sent = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "front.com"),
        ("x-forwarded-port", "443"),
    ];
    let gateway = trusting(json!(["127.0.0.1"])).await;
    super::catch_all(&gateway, &origin).await;
    let told = headers(&gateway, &sent).await;
    assert_eq!(told["x-forwarded-for"], "1.1.1.1, 127.0.0.1");
    assert_eq!(told["x-forwarded-proto"], "https");
    assert_eq!(told["x-forwarded-host"], "front.com");
    assert_eq!(told["x-forwarded-port"], "443");

    let gateway = trusting(json!(["10.0.0.0/8"])).await;
    super::catch_all(&gateway, &origin).await;
    let told = headers(&gateway, &sent).await;
    assert_eq!(told["x-forwarded-for"], "127.0.0.1");
    assert_eq!(told["x-forwarded-proto"], "http");
}

#[tokio::test]
async fn takes_the_clients_address_from_a_believed_proxy() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] =
                json!({ "real_ip_header": "X-Real-IP", "real_ip_from": ["127.0.0.1"] });
        })
        .start()
        .await;
    let upstream = upstream(&origin);
    gateway
        .put_route(
            "1",
            json!({ "uri": "/headers", "remote_addr": "9.9.9.0/24", "upstream": upstream }),
        )
        .await;
    gateway.routed_with("/headers", &[("x-real-ip", "9.9.9.9")]).await;
    let told = headers(&gateway, &[("x-real-ip", "9.9.9.9")]).await;
    assert_eq!(told["x-real-ip"], "9.9.9.9");
    assert_eq!(told["x-forwarded-for"], "9.9.9.9");
    assert_eq!(gateway.get("/headers").await.status(), 404);
}

#[tokio::test]
async fn fields_of_a_connection_stay_with_it() {
    let (gateway, _origin) = one_origin().await;
    let sent = [
        ("connection", "x-mine, keep-alive"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("x-theirs", "2"),
    ];
    let told = headers(&gateway, &sent).await;
    for name in ["connection", "x-mine", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(told[name], Value::Null, "{name}");
    }
    assert_eq!(told["x-theirs"], "2");
}

#[tokio::test]
async fn passes_hosts_on_as_the_upstream_says() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    for (id, more, expected) in [
        ("pass", json!({}), "client.com".to_owned()),
        ("node", json!({ "pass_host": "node" }), origin.node()),
        (
            "rewrite",
            json!({ "pass_host": "rewrite", "upstream_host": "other.com" }),
            "other.com".to_owned(),
        ),
    ] {
        let mut upstream = upstream(&origin);
        upstream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/anything/{id}");
        gateway.put_route(id, json!({ "uri": path, "upstream": upstream })).await;
        gateway.served(&path).await;
        let echo: Value = gateway.get_host("client.com", &path).await.json().await.unwrap();
        assert_eq!(echo["headers"]["host"], expected);
    }
}

#[tokio::test]
async fn route_and_node_see_the_same_path() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let upstream = upstream(&origin);
    gateway.put_route("public", json!({ "uri": "/public/*", "upstream": upstream })).await;
    let private =
        json!({ "uri": "/private/*", "upstream": upstream, "plugins": { "key-auth": {} } });
    gateway.put_route("private", private).await;
    gateway.served("/public/x").await;
    gateway.routed("/private/x").await;
    for path in [
        "/public/../private/x",
        "/public/%2e%2e/private/x",
        "/public/..%2fprivate/x",
        "/public//../private/x",
        "//private/x",
        "/./private/x",
        "/%70rivate/x",
    ] {
        let answer = crate::support::raw::ask(gateway.ports().http, path).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
    }
    for (path, asked) in [
        ("/private/../public/x", "/public/x"),
        ("/public/./y//z", "/public/y/z"),
        ("/public/a%20b%2Fc", "/public/a%20b%2Fc"),
    ] {
        let answer = crate::support::raw::ask(gateway.ports().http, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert_eq!(origin.seen().last().unwrap().uri.path(), asked, "{path}");
    }
    let above = crate::support::raw::ask(gateway.ports().http, "/../x").await;
    assert!(above.starts_with("HTTP/1.1 400"), "{above}");
}
