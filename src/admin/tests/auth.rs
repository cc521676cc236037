//! Addresses, keys, roles, and what is answered without any.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::{KEY, Rig, request, route, settings};
use crate::resource::hidden::Hidden;
use crate::serve::Endpoint;

const VIEWER: &str = "4054f7cf07e344346cd3f287985e76a2";

fn bare(method: &str, uri: &str, header: Option<(&str, &str)>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("/apisix/admin{uri}"));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn takes_the_key_from_header_query_and_cookie() {
    let rig = Rig::new().await;
    let cookie = format!("a=b; x_api_key={KEY}");
    let query = format!("/routes?api_key={KEY}");
    for (uri, header, status) in [
        ("/routes", Some(("X-API-KEY", KEY)), 200),
        (query.as_str(), None, 200),
        ("/routes", Some(("Cookie", cookie.as_str())), 200),
        ("/routes", Some(("X-API-KEY", VIEWER)), 200),
        ("/routes", None, 401),
        ("/routes", Some(("X-API-KEY", "wrong")), 401),
        ("/routes", Some(("X-API-KEY", "")), 401),
        ("/plugins/list", None, 401),
        ("/nothing", None, 401),
    ] {
        let got = rig.send(bare("GET", uri, header)).await;
        assert_eq!(got.status, status, "{uri} {header:?}");
    }
}

#[tokio::test]
async fn says_why_a_key_was_refused() {
    let rig = Rig::new().await;
    for (method, header, why) in [
        ("GET", None, "missing apikey"),
        ("GET", Some(("X-API-KEY", "wrong")), "wrong apikey"),
        ("PUT", Some(("X-API-KEY", VIEWER)), "invalid method for role viewer"),
    ] {
        let body = rig.send(bare(method, "/routes/1", header)).await.expect(401);
        assert_eq!(body, json!({"error_msg": "failed to check token", "description": why}));
    }
}

#[tokio::test]
async fn who_guesses_keys_has_to_wait() {
    let rig = Rig::new().await;
    let guess = || bare("GET", "/routes", Some(("X-API-KEY", "guess")));
    for _ in 0..10 {
        rig.send(guess()).await.expect(401);
    }
    let got = rig.send(guess()).await;
    assert!(got.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    got.refused(429, "too many failed logins from 127.0.0.1");
    // Nobody else behind that address is held up, and what is no guess is answered.
    rig.get("routes").await.expect(200);
    rig.put("routes/1", route("/")).await.expect(201);
    rig.send(bare("GET", "/routes", None)).await.expect(401);
    rig.send(guess()).await.expect(429);
    rig.send_from(guess(), "127.0.0.2:1".parse().unwrap()).await.expect(401);
}

/// To admit it would tell a guesser which it is, as fast as it likes.
#[tokio::test]
async fn a_key_that_can_be_guessed_waits_with_the_guesses() {
    let mut settings = settings();
    for weak in ["secret", "aaaaaaaaaaaaaaaaaaaaaaaa"] {
        settings.keys[0].key = Hidden(weak.to_owned());
        let rig = Rig::with(settings.clone()).await;
        let with = |key: &str| bare("GET", "/routes", Some(("X-API-KEY", key)));
        rig.send(with(weak)).await.expect(200);
        for _ in 0..10 {
            rig.send(with("guess")).await.expect(401);
        }
        let (right, wrong) = (rig.send(with(weak)).await, rig.send(with("guess")).await);
        assert_eq!((right.status, right.text), (429, wrong.text));
        rig.send(with(VIEWER)).await.expect(200);
    }
}

#[tokio::test]
async fn keeps_strange_addresses_out() {
    let rig = Rig::new().await;
    for (peer, status) in
        [("127.0.0.9:1", 200), ("[::ffff:127.0.0.9]:1", 200), ("10.0.0.1:1", 403), ("[::1]:1", 403)]
    {
        let sent = request("GET", "routes", String::new());
        let got = rig.send_from(sent, peer.parse().unwrap()).await;
        assert_eq!(got.status, status, "{peer}");
    }
}

#[tokio::test]
async fn answers_what_needs_no_key() {
    let rig = Rig::new().await;
    rig.send(bare("HEAD", "", None)).await.expect(200);
    let preflight = rig.send(bare("OPTIONS", "/routes/1", None)).await;
    assert_eq!(preflight.status, 200);
    let methods = &preflight.headers["access-control-allow-methods"];
    assert_eq!(methods, "POST, GET, PUT, OPTIONS, DELETE, PATCH");
    let elsewhere = Request::builder().uri("/").body(Full::default()).unwrap();
    rig.send(elsewhere).await.expect(404);
}

#[tokio::test]
async fn tells_its_version_and_lets_other_origins_read() {
    let rig = Rig::new().await;
    let got = rig.get("routes").await;
    for (name, value) in [
        ("x-api-version", "v3"),
        ("content-type", "application/json"),
        ("server", "Sluice/test"),
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "*"),
    ] {
        assert_eq!(got.headers[name], value);
    }
}

#[tokio::test]
async fn answers_over_http_until_it_is_stopped() {
    let rig = Rig::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apisix/admin/routes/1", listener.local_addr().unwrap());
    let endpoint = Endpoint { name: "admin", listener, tls: None };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(rig.admin.clone().serve(endpoint, stopped));
    let client = reqwest::Client::new();
    let put = client.put(&url).header("X-API-KEY", KEY).json(&route("/")).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let long = "x".repeat(1_572_865);
    let refused = client.put(&url).header("X-API-KEY", KEY).body(long).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    drop(client);
    stop.send(()).unwrap();
    serving.await.unwrap();
}

#[test]
fn shows_no_key() {
    let shown = format!("{:?}", settings());
    assert!(shown.contains("viewer") && !shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn a_viewer_is_shown_no_secret() {
    let rig = Rig::new().await;
    let vault = json!({"uri": "http://127.0.0.1:1", "prefix": "kv", "token": "planted-token"});
    rig.put("secrets/vault/1", vault).await.expect(201);
    let aws = json!({"access_key_id": "$env://ID", "secret_access_key": "planted-key",
        "session_token": "$env://TOKEN"});
    rig.put("secrets/aws/1", aws).await.expect(201);
    let plugins = json!({"key-auth": {"key": "planted-password"}});
    rig.put("consumers/jack", json!({"username": "jack", "plugins": plugins})).await.expect(201);
    for (path, shown) in [
        ("/secrets", "vault/1"),
        ("/secrets/vault/1", "http://127.0.0.1:1"),
        ("/secrets/aws/1", "$env://TOKEN"),
        ("/consumers", "username"),
        ("/consumers/jack", "username"),
    ] {
        let got = rig.send(bare("GET", path, Some(("X-API-KEY", VIEWER)))).await;
        assert!(got.status == 200 && got.text.contains(shown), "{path} {}", got.text);
        assert!(!got.text.contains("planted"), "{path} {}", got.text);
        let got = rig.send(bare("GET", path, Some(("X-API-KEY", KEY)))).await;
        assert!(got.text.contains("planted") || got.status != 200, "{path} {}", got.text);
    }
}
