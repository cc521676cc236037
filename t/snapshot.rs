//! From a write to what is served: what goes live, what is refused, and that nothing else moves.

mod merge;

use serde_json::json;

use crate::proxy::upstream;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

#[tokio::test]
async fn finds_routes_by_host_path_method_and_priority() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let named = |id: &str, more: serde_json::Value| {
        let mut route = json!({ "upstream": upstream(&origin),
            "plugins": { "proxy-rewrite": { "headers": { "set": { "X-Route": id } } } } });
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    for (id, more) in [
        ("any", json!({ "uri": "/anything/*" })),
        ("exact", json!({ "uri": "/anything/exact" })),
        ("host", json!({ "uri": "/anything/*", "host": "a.com" })),
        ("wild", json!({ "uri": "/anything/*", "host": "*.b.com" })),
        ("post", json!({ "uri": "/anything/exact", "methods": ["POST"], "priority": 10 })),
        (
            "vars",
            json!({ "uri": "/anything/exact", "vars": [["arg_v", "==", "1"]], "priority": 20 }),
        ),
        ("off", json!({ "uri": "/anything/off", "status": 0 })),
    ] {
        gateway.put_route(id, named(id, more)).await;
    }
    let route = async |method: &str, host: &str, path: &str| {
        let method = method.parse().unwrap();
        let request = gateway.client().request(method, gateway.http_url(path)).header("host", host);
        let echo: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        echo["headers"]["x-route"].as_str().unwrap().to_owned()
    };
    assert_eq!(route("GET", "x", "/anything/else").await, "any");
    assert_eq!(route("GET", "x", "/anything/exact").await, "exact");
    assert_eq!(route("POST", "x", "/anything/exact").await, "post");
    assert_eq!(route("POST", "x", "/anything/exact?v=1").await, "vars");
    assert_eq!(route("GET", "A.com:8080", "/anything/exact").await, "host");
    assert_eq!(route("GET", "c.b.com", "/anything/exact").await, "wild");
    assert_eq!(route("GET", "x", "/anything/off").await, "any");
}

#[tokio::test]
async fn a_change_of_what_a_route_refers_to_reaches_the_route() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let gateway = Gateway::start().await;
    gateway.put("/upstreams/u", upstream(&one)).await;
    gateway.put("/services/s", json!({ "upstream_id": "u" })).await;
    gateway.put_route("r", json!({ "uri": "/get", "service_id": "s" })).await;
    assert_eq!(gateway.get("/get").await.headers()["x-origin"], "one");
    gateway.put("/upstreams/u", upstream(&two)).await;
    assert_eq!(gateway.get("/get").await.headers()["x-origin"], "two");
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_changes_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    gateway.put_route("1", json!({ "uri": "/get", "upstream": upstream(&origin) })).await;
    let upstream = upstream(&origin);
    for (path, body, words) in [
        ("/routes/1", json!({ "uri": 5, "upstream": upstream }), vec!["uri", "string", "number"]),
        (
            "/routes/1",
            json!({ "uri": "/x", "upstream_id": "nowhere" }),
            vec!["upstream id", "nowhere"],
        ),
        ("/routes/1", json!({ "uri": "/x", "upstream": upstream, "unknown": 1 }), vec!["unknown"]),
        ("/routes/1", json!({ "uri": "/x", "plugins": { "none-such": {} } }), vec!["none-such"]),
        (
            "/routes/1",
            json!({ "uri": "/x", "upstream": upstream, "plugins": { "limit-count": { "count": -1, "time_window": 1 } } }),
            vec!["limit-count"],
        ),
        (
            "/routes/1",
            json!({ "uri": "/x", "upstream": upstream, "vars": [["arg_a", "===", "1"]] }),
            vec!["vars"],
        ),
        ("/upstreams/1", json!({ "type": "roundrobin", "nodes": { "a:99999": 1 } }), vec!["99999"]),
        (
            "/consumers/jack",
            json!({ "username": "jack", "plugins": { "key-auth": {} } }),
            vec!["key"],
        ),
    ] {
        let (status, answer) = gateway.admin("PUT", path, Some(body.clone())).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        for word in words {
            assert!(answer.to_string().contains(word), "{path} {body}: {answer} lacks {word}");
        }
    }
    assert_eq!(gateway.get("/get").await.status(), 200);
    let (_, route) = gateway.admin("GET", "/routes/1", None).await;
    assert_eq!(route["value"]["uri"], "/get");
    let (_, rejected) = gateway.control("/v1/rejected").await;
    assert!(!rejected.to_string().contains("routes/1"), "{rejected}");
}
