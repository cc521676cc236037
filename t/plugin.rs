//! Plugins and their chain, through the real binary.

use serde_json::{Value, json};

use crate::proxy::upstream;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

async fn keyed(gateway: &Gateway, path: &str, key: Option<&str>) -> reqwest::Response {
    let mut request = gateway.client().get(gateway.http_url(path));
    if let Some(key) = key {
        request = request.header("apikey", key);
    }
    request.send().await.unwrap()
}

/// A consumer whose key is `one`.
async fn put_jack(gateway: &Gateway) {
    let plugins = json!({ "key-auth": { "key": "one" } });
    gateway.put("/consumers", json!({ "username": "jack", "plugins": plugins })).await;
}

/// Puts a route that asks for a key, and waits until `one` opens it.
async fn lets_jack_pass(gateway: &Gateway, origin: &Origin) {
    let plugins = json!({ "key-auth": {} });
    let route = json!({ "uri": "/headers", "plugins": plugins, "upstream": upstream(origin) });
    gateway.put_route("1", route).await;
    crate::support::eventually("jack may pass", || async {
        keyed(gateway, "/headers", Some("one")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn key_auth_lets_consumers_pass_and_tells_nodes_who_they_are() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    gateway
        .put(
            "/consumers",
            json!({ "username": "jack", "plugins": { "key-auth": { "key": "one" } },
            "labels": { "custom_id": "c-7" } }),
        )
        .await;
    lets_jack_pass(&gateway, &origin).await;
    let told: Value = keyed(&gateway, "/headers", Some("one")).await.json().await.unwrap();
    assert_eq!(told["headers"]["x-consumer-username"], "jack");
    assert_eq!(told["headers"]["x-consumer-custom-id"], "c-7");
    let missing = keyed(&gateway, "/headers", None).await;
    assert_eq!(missing.status(), 401);
    assert_eq!(missing.headers()["www-authenticate"], "apikey realm=\"key\"");
    assert!(missing.text().await.unwrap().contains("Missing API key in request"));
    let wrong = keyed(&gateway, "/headers", Some("two")).await;
    assert_eq!(wrong.status(), 401);
    assert!(wrong.text().await.unwrap().contains("Invalid API key in request"));
    let by_query = gateway.get("/headers?apikey=one").await;
    assert_eq!(by_query.status(), 200);
    // The consumer goes; so does its key.
    assert_eq!(gateway.admin("DELETE", "/consumers/jack", None).await.0, 200);
    crate::support::eventually("jack is refused", || async {
        keyed(&gateway, "/headers", Some("one")).await.status() == 401
    })
    .await;
}

#[tokio::test]
async fn a_credential_lets_its_consumer_pass_and_is_told_to_nodes() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    gateway.put("/consumers", json!({ "username": "jack" })).await;
    let credential = json!({ "plugins": { "key-auth": { "key": "one" } } });
    gateway.put("/consumers/jack/credentials/first", credential).await;
    lets_jack_pass(&gateway, &origin).await;
    let request = gateway.client().get(gateway.http_url("/headers")).header("apikey", "one");
    let request = request.header("x-credential-identifier", "forged");
    let told: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(told["headers"]["x-consumer-username"], "jack");
    assert_eq!(told["headers"]["x-credential-identifier"], "first");
    let path = "/consumers/jack/credentials/first";
    assert_eq!(gateway.admin("DELETE", path, None).await.0, 200);
    crate::support::eventually("jack is refused", || async {
        keyed(&gateway, "/headers", Some("one")).await.status() == 401
    })
    .await;
}

/// Waits until a request of jack's is counted against `limit`.
async fn jack_is_limited_to(gateway: &Gateway, limit: &str) {
    crate::support::eventually(&format!("jack is limited to {limit}"), || async {
        let response = keyed(gateway, "/headers", Some("one")).await;
        response.headers().get("x-ratelimit-limit").is_some_and(|told| told == limit)
    })
    .await;
}

#[tokio::test]
async fn a_consumer_groups_plugins_go_before_the_routes_and_after_the_consumers() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let limit = |count: u32| json!({ "count": count, "time_window": 600, "key": "remote_addr" });
    let group = |count: u32| json!({ "plugins": { "limit-count": limit(count) } });
    let jack = |plugins: Value| json!({ "username": "jack", "group_id": "g", "plugins": plugins });
    gateway.put("/consumer_groups/g", group(2000)).await;
    gateway.put("/consumers", jack(json!({ "key-auth": { "key": "one" } }))).await;
    let rewrite = json!({ "headers": { "set": { "X-Group": "$consumer_group_id" } } });
    let plugins = json!({ "key-auth": {}, "limit-count": limit(1000), "proxy-rewrite": rewrite });
    let route = json!({ "uri": "/headers", "plugins": plugins, "upstream": upstream(&origin) });
    gateway.put_route("1", route).await;
    jack_is_limited_to(&gateway, "2000").await;
    let told: Value = keyed(&gateway, "/headers", Some("one")).await.json().await.unwrap();
    assert_eq!(told["headers"]["x-group"], "g");
    // A change of the group reaches those who are in it.
    gateway.put("/consumer_groups/g", group(3000)).await;
    jack_is_limited_to(&gateway, "3000").await;
    let own = json!({ "key-auth": { "key": "one" }, "limit-count": limit(4000) });
    gateway.put("/consumers", jack(own)).await;
    jack_is_limited_to(&gateway, "4000").await;
}

#[tokio::test]
async fn limit_count_counts_and_keeps_its_count_over_other_changes() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let limit = json!({ "limit-count": { "count": 3, "time_window": 600, "rejected_code": 429,
        "key": "remote_addr", "rejected_msg": "enough" } });
    let route = |desc: &str| json!({ "uri": "/get", "desc": desc, "plugins": limit, "upstream": upstream(&origin) });
    gateway.put_route("1", route("first")).await;
    gateway.routed("/get").await;
    let second = gateway.get("/get").await;
    assert_eq!(second.headers()["x-ratelimit-limit"], "3");
    assert_eq!(second.headers()["x-ratelimit-remaining"], "1");
    // A change elsewhere in the route does not give the client a fresh count.
    gateway.put_route("1", route("second")).await;
    assert_eq!(gateway.get("/get").await.headers()["x-ratelimit-remaining"], "0");
    let refused = gateway.get("/get").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.text().await.unwrap().trim(), r#"{"error_msg":"enough"}"#);
}

#[tokio::test]
async fn proxy_rewrite_changes_what_the_node_is_asked() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let rewrite = json!({ "proxy-rewrite": {
        "regex_uri": ["^/v1/(.*)/(.*)$", "/anything/$2/$1"],
        "host": "rewritten.com",
        "headers": { "set": { "X-Path": "$1-$2", "X-Addr": "$remote_addr" }, "remove": ["X-Gone"] },
        "method": "POST",
    } });
    gateway
        .put_route(
            "1",
            json!({ "uri": "/v1/*", "plugins": rewrite, "upstream": upstream(&origin) }),
        )
        .await;
    gateway.routed("/v1/a/b").await;
    let request = gateway.client().get(gateway.http_url("/v1/a/b?q=1")).header("x-gone", "1");
    let echo: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["uri"], "/anything/b/a?q=1");
    assert_eq!(echo["headers"]["host"], "rewritten.com");
    assert_eq!(echo["headers"]["x-path"], "a-b");
    assert_eq!(echo["headers"]["x-addr"], "127.0.0.1");
    assert_eq!(echo["headers"]["x-gone"], Value::Null);
}

#[tokio::test]
async fn plugins_merge_from_route_service_config_consumer_and_global_rules() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let set = |pairs: Value| json!({ "proxy-rewrite": { "headers": { "set": pairs } } });
    let key_auth = json!({ "key-auth": {} });
    gateway
        .put("/services/s", json!({ "upstream": upstream(&origin), "plugins": set(json!({ "X-From": "service" })) }))
        .await;
    gateway
        .put("/plugin_configs/p", json!({ "plugins": set(json!({ "X-From": "plugin_config" })) }))
        .await;
    gateway.put_route("service", json!({ "uri": "/anything/service", "service_id": "s" })).await;
    let config = json!({ "uri": "/anything/config", "service_id": "s", "plugin_config_id": "p" });
    gateway.put_route("config", config).await;
    let own = json!({ "uri": "/anything/route", "service_id": "s", "plugin_config_id": "p",
        "plugins": set(json!({ "X-From": "route" })) });
    gateway.put_route("route", own).await;
    // In the rewrite phase the route's own plugin has run before the consumer is known, so that
    // the consumer's shows only where the route has none of that name (as in APISIX).
    let with_consumer =
        json!({ "uri": "/anything/consumer", "upstream": upstream(&origin), "plugins": key_auth });
    gateway.put_route("consumer", with_consumer).await;
    gateway
        .put(
            "/consumers/jack",
            json!({ "username": "jack", "plugins": {
            "key-auth": { "key": "one" },
            "proxy-rewrite": { "headers": { "set": { "X-From": "consumer" } } } } }),
        )
        .await;
    let global = json!({ "limit-count": { "count": 1000, "time_window": 600,
        "_meta": { "filter": [["arg_limited", "==", "yes"]] } } });
    gateway.put("/global_rules/1", json!({ "plugins": global })).await;
    crate::support::eventually("everything is applied", || async {
        let answer = keyed(&gateway, "/anything/consumer?limited=yes", Some("one")).await;
        answer.status() == 200 && answer.headers().contains_key("x-ratelimit-limit")
    })
    .await;
    for source in ["service", "config", "route", "consumer"] {
        let answer = keyed(&gateway, &format!("/anything/{source}"), Some("one")).await;
        assert!(!answer.headers().contains_key("x-ratelimit-limit"), "the filter keeps it out");
        let echo: Value = answer.json().await.unwrap();
        let expected = if source == "config" { "plugin_config" } else { source };
        assert_eq!(echo["headers"]["x-from"], expected);
    }
    // A global rule runs where no route matches, too.
    let none = gateway.get("/nowhere?limited=yes").await;
    assert_eq!(none.status(), 404);
    assert!(none.headers().contains_key("x-ratelimit-limit"));
}

#[tokio::test]
async fn meta_disables_and_replaces_answers() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let off = json!({ "key-auth": { "_meta": { "disable": true } } });
    gateway
        .put_route("off", json!({ "uri": "/get", "plugins": off, "upstream": upstream(&origin) }))
        .await;
    let said =
        json!({ "key-auth": { "_meta": { "error_response": { "message": "who are you?" } } } });
    gateway
        .put_route("said", json!({ "uri": "/ip", "plugins": said, "upstream": upstream(&origin) }))
        .await;
    gateway.served("/get").await;
    gateway.routed("/ip").await;
    let answer = gateway.get("/ip").await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text().await.unwrap().trim(), r#"{"message":"who are you?"}"#);
}

#[tokio::test]
async fn hides_credentials_however_the_path_is_written() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    put_jack(&gateway).await;
    let hiding = json!({ "key-auth": { "hide_credentials": true } });
    gateway
        .put_route(
            "1",
            json!({ "uri": "/anything/*", "plugins": hiding, "upstream": upstream(&origin) }),
        )
        .await;
    crate::support::eventually("jack may pass", || async {
        keyed(&gateway, "/anything/x", Some("one")).await.status() == 200
    })
    .await;
    for path in [
        "/anything/x?apikey=one&a=1",
        "/anything//x?a=1&apikey=one",
        "/anything/./x?apikey=one&a=1",
    ] {
        let answer = crate::support::raw::ask(gateway.ports().http, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let asked = origin.seen().last().unwrap().uri.to_string();
        assert_eq!(asked, "/anything/x?a=1", "{path}");
    }
}

#[tokio::test]
async fn a_client_cannot_take_away_what_the_gateway_says_of_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    put_jack(&gateway).await;
    lets_jack_pass(&gateway, &origin).await;
    let request = gateway.client().get(gateway.http_url("/headers")).header("apikey", "one");
    let request = request.header("connection", "close, x-consumer-username, X-Real-IP");
    let told: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(told["headers"]["x-consumer-username"], "jack");
    assert_eq!(told["headers"]["x-real-ip"], "127.0.0.1");
}

#[tokio::test]
async fn a_variable_cannot_end_the_request_line() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let rewrite = json!({ "proxy-rewrite": { "uri": "/anything/$arg_q", "use_real_request_uri_unsafe": true } });
    gateway
        .put_route("1", json!({ "uri": "/in", "plugins": rewrite, "upstream": upstream(&origin) }))
        .await;
    gateway.routed("/in").await;
    let before = origin.requests();
    let smuggling = "/in?q=a%20HTTP/1.1%0d%0aHost:%20y%0d%0a%0d%0aGET%20/smuggled";
    crate::support::raw::ask(gateway.ports().http, smuggling).await;
    assert_eq!(origin.requests(), before + 1);
    assert!(origin.seen().iter().all(|seen| seen.uri.path() != "/smuggled"));
}
