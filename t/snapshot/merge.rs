//! What a route is put together from, and which of two sources wins.
//!
//! Source: APISIX, `terminology/plugin.md` ("plugin merging precedence"), `plugin.lua`
//! (`merge_service_route`, `merge_consumer_route`), `init.lua` (`handle_upstream`).

use serde_json::{Map, Value, json};

use crate::proxy::upstream;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

/// Where plugins come from, the strongest first, and the quota by which each is told.
const SOURCES: [(&str, u32); 5] =
    [("consumer", 11), ("group", 12), ("route", 13), ("plugin_config", 14), ("service", 15)];

fn set(target: &mut Value, name: &str, value: Value) {
    target.as_object_mut().unwrap().insert(name.to_owned(), value);
}

#[tokio::test]
async fn the_strongest_source_of_a_plugin_wins_also_when_it_turns_it_off() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    for present in 1_u32..1 << SOURCES.len() {
        for off in [false, true] {
            let winner = present.trailing_zeros() as usize;
            let plugins = |index: usize| {
                let mut plugins = Map::new();
                if present >> index & 1 == 1 {
                    let count = SOURCES[index].1;
                    let disable = off && index == winner;
                    let limit = json!({ "count": count, "time_window": 60, "key": "uri",
                        "key_type": "var", "_meta": { "disable": disable } });
                    plugins.insert("limit-count".to_owned(), limit);
                }
                Value::Object(plugins)
            };
            let mut consumer = plugins(0);
            set(&mut consumer, "key-auth", json!({ "key": "k" }));
            let mut route = plugins(2);
            set(&mut route, "key-auth", json!({}));
            let uri = format!("/anything/{present}/{off}");
            gateway.put("/consumer_groups/g", json!({ "plugins": plugins(1) })).await;
            let jack = json!({ "username": "jack", "group_id": "g", "plugins": consumer });
            gateway.put("/consumers/jack", jack).await;
            gateway.put("/plugin_configs/p", json!({ "plugins": plugins(3) })).await;
            gateway.put("/services/s", json!({ "plugins": plugins(4) })).await;
            let route = json!({ "uri": uri, "plugins": route, "plugin_config_id": "p",
                "service_id": "s", "upstream": upstream(&origin) });
            gateway.put("/routes/r", route).await;

            let asked = gateway.client().get(gateway.http_url(&uri)).header("apikey", "k");
            let answer = asked.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let limit = answer.headers().get("x-ratelimit-limit");
            let limit = limit.map(|limit| limit.to_str().unwrap().to_owned());
            let expected = (!off).then(|| SOURCES[winner].1.to_string());
            let names = SOURCES.iter().enumerate();
            let names: Vec<_> = names.filter(|(index, _)| present >> index & 1 == 1).collect();
            assert_eq!(limit, expected, "of {names:?}, the first turned off: {off}");
        }
    }
}

#[tokio::test]
async fn the_strongest_source_of_an_upstream_wins() {
    let gateway = Gateway::start().await;
    let names = ["route by id", "route", "service by id", "service"];
    let mut origins = Vec::new();
    for name in names {
        origins.push(Origin::named(&name.replace(' ', "-")).await);
    }
    gateway.put("/upstreams/0", upstream(&origins[0])).await;
    gateway.put("/upstreams/2", upstream(&origins[2])).await;
    for present in 1_u32..1 << names.len() {
        let has = |index: usize| present >> index & 1 == 1;
        let mut route = json!({ "uri": format!("/anything/{present}"), "service_id": "s" });
        let mut service = json!({ "name": "s" });
        if has(0) {
            set(&mut route, "upstream_id", json!("0"));
        }
        if has(1) {
            set(&mut route, "upstream", upstream(&origins[1]));
        }
        if has(2) {
            set(&mut service, "upstream_id", json!("2"));
        }
        if has(3) {
            set(&mut service, "upstream", upstream(&origins[3]));
        }
        gateway.put("/services/s", service).await;
        gateway.put("/routes/r", route).await;
        let answer = gateway.get(&format!("/anything/{present}")).await;
        let winner = &origins[present.trailing_zeros() as usize];
        assert_eq!(answer.headers()["x-origin"], winner.name(), "{present:04b}");
    }
    gateway.put("/services/s", json!({ "name": "s" })).await;
    let bare = json!({ "uri": "/get", "service_id": "s" });
    gateway.put("/routes/r", bare).await;
    assert_eq!(gateway.get("/get").await.status(), 503);
}

#[tokio::test]
async fn a_route_says_more_than_its_service_and_its_upstream() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let upgrades = async |path: &str| {
        let port = gateway.ports().http;
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://a.com{path}"), socket).await.is_ok()
    };
    let service = json!({ "enable_websocket": true, "hosts": ["a.com"] });
    gateway.put("/services/s", service).await;
    let timeout = |read: f64| json!({ "connect": 5, "send": 5, "read": read });
    for (route, upgraded, host, other, status) in [
        (json!({}), true, "a.com", "b.com", 504),
        (json!({ "enable_websocket": false }), false, "a.com", "b.com", 504),
        (json!({ "enable_websocket": true, "host": "a.com" }), true, "a.com", "b.com", 504),
        (json!({ "hosts": ["a.com", "b.com"] }), true, "b.com", "c.com", 504),
        (json!({ "timeout": timeout(30.0) }), true, "a.com", "b.com", 200),
    ] {
        let mut slow = upstream(&origin);
        set(&mut slow, "timeout", timeout(0.2));
        let mut whole = json!({ "uris": ["/ws", "/get", "/delay/*"], "service_id": "s",
            "upstream": slow });
        whole.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
        gateway.put("/routes/r", whole).await;
        assert_eq!(upgrades("/ws").await, upgraded, "{route}");
        assert_eq!(gateway.get_host(host, "/get").await.status(), 200, "{route}");
        assert_eq!(gateway.get_host(other, "/get").await.status(), 404, "{route}");
        assert_eq!(gateway.get_host("a.com", "/delay/1000").await.status(), status, "{route}");
    }
}

#[tokio::test]
async fn a_global_rule_runs_besides_what_the_route_has() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let says = |who: &str| json!({ "proxy-rewrite": { "headers": { "add": { "X-Said": who } } } });
    gateway.put("/global_rules/1", json!({ "plugins": says("global") })).await;
    let route =
        json!({ "uri": "/headers", "plugins": says("route"), "upstream": upstream(&origin) });
    gateway.put("/routes/r", route).await;
    let told: Value = gateway.get("/headers").await.json().await.unwrap();
    assert_eq!(told["headers"]["x-said"], json!(["global", "route"]));
    let mut off = says("global");
    set(&mut off["proxy-rewrite"], "_meta", json!({ "disable": true }));
    gateway.put("/global_rules/1", json!({ "plugins": off })).await;
    let told: Value = gateway.get("/headers").await.json().await.unwrap();
    assert_eq!(told["headers"]["x-said"], "route");
}
