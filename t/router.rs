//! The routers that the config chooses among, through the real binary.

use serde_json::{Value, json};

use crate::proxy::upstream;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

async fn routed_by(router: &str) -> (Gateway, Origin) {
    let builder = Gateway::builder().config(|config| {
        config["apisix"]["router"] = json!({ "http": router });
    });
    (builder.start().await, Origin::start().await)
}

/// What the node was told in the header `name`.
async fn told(gateway: &Gateway, host: &str, path: &str, name: &str) -> Value {
    let echo: Value = gateway.get_host(host, path).await.json().await.unwrap();
    echo["headers"][name].clone()
}

/// A route that tells the node `value` in `x-told`.
fn telling(value: &str, route: Value, origin: &Origin) -> Value {
    let mut route = route;
    route["plugins"] = json!({ "proxy-rewrite": { "headers": { "set": { "x-told": value } } } });
    route["upstream"] = upstream(origin);
    route
}

#[tokio::test]
async fn parameters_of_a_path_are_variables() {
    let (gateway, origin) = routed_by("radixtree_uri_with_parameter").await;
    let value = "$uri_param_name|$uri_param_rest|$uri_param_none";
    let route = telling(value, json!({ "uri": "/user/:name/*rest" }), &origin);
    gateway.put_route("1", route).await;
    let route = telling("all of $uri_param_name", json!({ "uri": "/user/:name" }), &origin);
    gateway.put_route("2", route).await;
    let told = async |path| told(&gateway, "a", path, "x-told").await;
    assert_eq!(told("/user/john/a/b").await, "john|a/b|");
    assert_eq!(told("/user/john/").await, "john||");
    assert_eq!(told("/user/john").await, "all of john");
    assert_eq!(told("/user/%C3%A4%2520").await, "all of ä%20");
    assert_eq!(gateway.get("/user/").await.status(), 404);
    // A pattern that cannot be read is refused by name.
    let bad = telling("", json!({ "uris": ["/ok", "/user/:name/("] }), &origin);
    let (status, answer) = gateway.admin("PUT", "/routes/3", Some(bad)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("uris/1"), "{answer}");
}

#[tokio::test]
async fn by_path_alone_a_host_only_refuses() {
    let (gateway, origin) = routed_by("radixtree_uri").await;
    let port = gateway.ports().http;
    for (id, route) in [
        ("host", json!({ "uri": "/a/*", "host": "Foo.com", "priority": 1 })),
        ("any", json!({ "uri": "/a/*", "priority": 2, "methods": ["POST"] })),
        ("longer", json!({ "uri": "/a/b/*", "hosts": ["*.foo.com", "bar.com"] })),
        ("port", json!({ "uri": "/p", "host": format!("foo.com:{port}") })),
        ("colon", json!({ "uri": "/user/:name" })),
    ] {
        gateway.put_route(id, telling(id, route, &origin)).await;
    }
    let told = async |host, path| told(&gateway, host, path, "x-told").await;
    assert_eq!(told("foo.com", "/a/x").await, "host");
    assert_eq!(told("FOO.COM:80", "/a/b/x").await, "host");
    assert_eq!(told("x.foo.com", "/a/b/x").await, "longer");
    assert_eq!(told(&format!("foo.com:{port}"), "/p").await, "port");
    assert_eq!(gateway.get_host("foo.com:1", "/p").await.status(), 404);
    assert_eq!(gateway.get_host("bar.com", "/a/x").await.status(), 404);
    assert_eq!(gateway.get("/user/john").await.status(), 404);
    let url = gateway.http_url("/a/x");
    let post = gateway.client().post(url).header("host", "foo.com").send().await.unwrap();
    assert_eq!(post.json::<Value>().await.unwrap()["headers"]["x-told"], "any");
}

#[tokio::test]
async fn clients_of_other_addresses_are_refused() {
    let (gateway, origin) = routed_by("radixtree_host_uri").await;
    for (id, route) in [
        ("one", json!({ "uri": "/*", "priority": 3, "remote_addr": "127.0.0.2" })),
        ("net", json!({ "uri": "/*", "priority": 2, "remote_addrs": ["10.0.0.0/8", "::/0"] })),
        ("own", json!({ "uri": "/a", "remote_addrs": ["10.0.0.1", "127.0.0.0/30"] })),
        ("any", json!({ "uri": "/*", "priority": 1 })),
    ] {
        gateway.put_route(id, telling(id, route, &origin)).await;
    }
    assert_eq!(told(&gateway, "a", "/a", "x-told").await, "own");
    assert_eq!(told(&gateway, "a", "/b", "x-told").await, "any");
    for (path, from, id) in [("/b", "127.0.0.2", "one"), ("/b", "10.9.9.9", "net")] {
        let query = format!("/v1/explain?uri={path}&remote_addr={from}");
        assert_eq!(gateway.control(&query).await.1["route"]["id"], id, "{from}");
    }
}

#[tokio::test]
async fn many_routes_on_one_path_come_and_go() {
    for router in ["radixtree_host_uri", "radixtree_uri"] {
        let (gateway, origin) = routed_by(router).await;
        for n in 0..40 {
            let route = json!({ "uri": "/*", "host": format!("h{n}.com") });
            gateway.put_route(&n.to_string(), telling(&n.to_string(), route, &origin)).await;
        }
        let by_vars = json!({ "uri": "/*", "vars": [["arg_v", "==", "1"]], "priority": 9 });
        gateway.put_route("vars", telling("vars", by_vars, &origin)).await;
        assert_eq!(told(&gateway, "h39.com", "/", "x-told").await, "39");
        // Where hosts come first, a route without one is asked last.
        let preferred = if router == "radixtree_uri" { "vars" } else { "7" };
        assert_eq!(told(&gateway, "h7.com", "/?v=1", "x-told").await, preferred);
        let (status, _) = gateway.admin("DELETE", "/routes/vars", None).await;
        assert_eq!(status, 200);
        gateway.answers("/?v=1", 404).await;
        assert_eq!(told(&gateway, "h7.com", "/?v=1", "x-told").await, "7");
    }
}

#[tokio::test]
async fn many_routes_on_one_path_are_told_apart_by_what_they_demand() {
    let (gateway, origin) = routed_by("radixtree_host_uri").await;
    for n in 0..40 {
        let vars = match n % 4 {
            0 => json!([["arg_v", "==", n.to_string()]]),
            1 => json!([["arg_v", "==", n]]),
            2 => json!([["http_x_v", "in", [n.to_string(), "every"]]]),
            _ => json!([["cookie_v", "==", n.to_string()], ["post_arg_p", "==", "1"]]),
        };
        let route = json!({ "uri": "/*", "vars": vars, "priority": n });
        gateway.put_route(&n.to_string(), telling(&n.to_string(), route, &origin)).await;
    }
    let rest = json!({ "uri": "/*", "vars": [["arg_v", "~=", "4"]], "priority": -1 });
    gateway.put_route("rest", telling("rest", rest, &origin)).await;
    assert_eq!(told(&gateway, "a", "/?v=8", "x-told").await, "8");
    // Numbers equal what spells them, texts do not.
    assert_eq!(told(&gateway, "a", "/?v=5.0", "x-told").await, "5");
    assert_eq!(told(&gateway, "a", "/?v=8.0", "x-told").await, "rest");
    assert_eq!(told(&gateway, "a", "/", "x-told").await, "rest");
    assert_eq!(told(&gateway, "a", "/?v=4", "x-told").await, "4");
    let sent = async |fields: &[(&str, &str)], path: &str| {
        let url = gateway.http_url(path);
        let request = gateway.client().post(url).body("p=1");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap().json::<Value>().await.unwrap()["headers"]["x-told"].clone()
    };
    // The highest priority of those that agree, whatever they are found by.
    assert_eq!(sent(&[("x-v", "every")], "/?v=36").await, "38");
    assert_eq!(sent(&[("x-v", "10")], "/?v=36").await, "36");
    assert_eq!(sent(&[("x-v", "every"), ("cookie", "v=39")], "/?v=36").await, "39");
    let (status, _) = gateway.admin("DELETE", "/routes/8?wait=applied&timeout=60", None).await;
    assert_eq!(status, 200);
    assert_eq!(told(&gateway, "a", "/?v=8", "x-told").await, "rest");
    // Every one that stands before is named, though the request asked none of them.
    let (_, explained) = gateway.control("/v1/explain?uri=/%3Fv=8").await;
    assert_eq!(explained["route"]["id"], "rest");
    let refused = explained["refused"].as_array().unwrap();
    assert_eq!((refused.len(), &refused[0]["id"]), (39, &json!("39")));
    assert!(refused.iter().all(|one| one["by"] == "vars"), "{explained}");
}
