//! What the control API says, without a socket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use super::*;
use crate::cluster::Node;
use crate::resource::Keyring;
use crate::snapshot::{Snapshot, rig};
use crate::store::embedded::Embedded;
use crate::store::{Entry, Event, Expect, Listing, Step, StoreError, Transacted, Written};

struct Bench {
    control: Arc<Control>,
    compiler: Shared,
    ready: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

/// A store that nobody reaches.
struct Silent;

#[async_trait::async_trait]
impl ConfigStore for Silent {
    async fn get(&self, _: &str) -> Result<Option<Entry>, StoreError> {
        Err(silence())
    }

    async fn list(&self, _: &str) -> Result<Listing, StoreError> {
        Err(silence())
    }

    async fn put(
        &self,
        _: &str,
        _: Bytes,
        _: Expect,
        _: Option<i64>,
    ) -> Result<Written, StoreError> {
        Err(silence())
    }

    async fn delete(&self, _: &str, _: Expect) -> Result<Written, StoreError> {
        Err(silence())
    }

    async fn transact(&self, _: Vec<Step>) -> Result<Transacted, StoreError> {
        Err(silence())
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        Err(silence())
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        mpsc::channel(1).1
    }

    fn is_reachable(&self) -> bool {
        false
    }
}

fn silence() -> StoreError {
    StoreError::Unreachable { endpoint: "http://etcd:2379".to_owned(), reason: "down".to_owned() }
}

async fn bench(stored: &[(&str, Value)]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(&folder.path().join("config.redb")).unwrap();
    let rig = rig::compiler(Keyring::default());
    let compiler = rig.shared;
    for (key, value) in stored {
        let value = Bytes::from(value.to_string());
        store.put(key, value, Expect::Any, None).await.unwrap();
    }
    let listing = store.list("").await.unwrap();
    compiler.lock().load(listing.revision, listing.entries);
    let (ready, is_ready) = watch::channel(false);
    let published = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let me = Node {
        id: "n".to_owned(),
        hostname: "h".to_owned(),
        version: "0".to_owned(),
        revision: 0,
        reported: 0,
    };
    let control = Control::new(Parts {
        compiler: compiler.clone(),
        published,
        proxy_settings: Arc::default(),
        secrets: rig.secrets,
        cluster: Cluster::new(store.clone(), me, watch::channel(7).1, false),
        store,
        ready: is_ready,
        version: "0",
        node_id: "n".to_owned(),
        provider: "embedded",
    });
    Bench { control, compiler, ready, _folder: folder }
}

async fn check(bench: &Bench, path: &str) -> (u16, Value) {
    let (status, body) = bench.control.answer(&path.parse().unwrap()).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn tells_of_itself_where_the_store_is_its_own() {
    let bench = bench(&[]).await;
    let (status, nodes) = check(&bench, "/v1/nodes").await;
    assert_eq!((status, nodes.as_array().unwrap().len()), (200, 1));
    assert_eq!(nodes[0]["id"], "n");
    assert_eq!((&nodes[0]["revision"], &nodes[0]["self"]), (&json!(7), &json!(true)));
}

#[tokio::test]
async fn tells_what_is_rejected_and_why() {
    let bench = bench(&[
        ("routes/good", json!({ "uri": "/a", "plugins": {} })),
        ("routes/bad", json!({ "uri": 5, "plugins": {} })),
        ("nothings/1", json!({})),
    ])
    .await;
    let (_, rejected) = check(&bench, "/v1/rejected").await;
    assert_eq!(rejected[0]["key"], "routes/bad");
    assert_eq!(rejected[0]["serves_last_good"], false);
    assert_eq!(rejected[0]["reasons"][0]["path"], "/uri");
    let (_, status) = check(&bench, "/v1/status").await;
    assert_eq!(status["resources"]["routes"], 1);
    assert_eq!((&status["rejected"], &status["ready"]), (&json!(1), &json!(false)));
    assert_eq!(
        status["not_acted_on"],
        json!(["stream_routes", "protos", "graphql_cost_decorations"])
    );
    assert_eq!(status["ignored"], json!(["nothings/1"]));
    drop(bench.compiler);
}

#[tokio::test]
async fn lists_resources_and_hides_what_is_secret() {
    let upstream = json!({ "nodes": {}, "tls": { "client_cert": "c", "client_key": "planted" } });
    let bench = bench(&[
        ("upstreams/1", upstream.clone()),
        ("routes/1", json!({ "uri": "/a", "upstream": upstream })),
    ])
    .await;
    for path in ["/v1/upstreams", "/v1/upstream/1", "/v1/routes", "/v1/route/1"] {
        let (status, told) = check(&bench, path).await;
        assert_eq!(status, 200);
        assert!(!told.to_string().contains("planted"), "{path}: {told}");
        assert!(told.to_string().contains("modifiedIndex"), "{path}: {told}");
    }
    let said = |text: &str| (404, json!({ "error_msg": text }));
    assert_eq!(check(&bench, "/v1/route/2").await, said("route[2] not found"));
    assert_eq!(check(&bench, "/v1/none").await, said("not found"));
    assert_eq!(check(&bench, "/").await.0, 404);
    let (_, schema) = check(&bench, "/v1/schema").await;
    assert!(schema["main"]["route"]["properties"]["uri"].is_object());
    assert!(schema["plugins"]["key-auth"]["consumer_schema"].is_object());
}

#[tokio::test]
async fn tells_metadata_bare_and_with_its_id() {
    let metadata = json!({ "log_format": { "a": "$host" } });
    let bench = bench(&[("plugin_metadata/file-logger", metadata)]).await;
    let told = json!({ "id": "file-logger", "log_format": { "a": "$host" } });
    let all = json!([told.clone()]);
    assert_eq!(check(&bench, "/v1/plugin_metadatas").await, (200, all));
    assert_eq!(check(&bench, "/v1/plugin_metadata/file-logger").await, (200, told));
    let said = json!({ "error_msg": "plugin metadata[cors] not found" });
    assert_eq!(check(&bench, "/v1/plugin_metadata/cors").await, (404, said));
}

#[tokio::test]
async fn says_why_when_the_store_does_not_answer() {
    let settings = json!({ "uri": "/a", "plugins": {} });
    let mut bench = bench(&[("routes/1", settings)]).await;
    let control = Arc::get_mut(&mut bench.control).unwrap();
    control.parts.store = Arc::new(Silent);
    for path in ["/v1/routes", "/v1/route/1"] {
        let (status, body) = check(&bench, path).await;
        assert_eq!(status, 503, "{path}");
        let said = body["error_msg"].as_str().unwrap();
        assert!(said.contains("http://etcd:2379: down"), "{path}: {said}");
    }
    // What the node serves is known without the store.
    let (status, body) = check(&bench, "/v1/status").await;
    assert_eq!((status, &body["resources"]["routes"]), (200, &json!(1)));
    assert_eq!(body["store_reachable"], false);
}

#[tokio::test]
async fn tells_of_secrets_and_certificates_without_keys() {
    let issued = rcgen::generate_simple_self_signed(vec!["a.com".to_owned()]).unwrap();
    let (cert, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let reference = "$secret://vault/none/ssl/cert";
    let rewrite = json!({ "proxy-rewrite": { "host": "$secret://aws/1/hosts/a" } });
    let aws = json!({ "uri": "/", "plugins": rewrite });
    let bench = bench(&[
        ("ssls/1", json!({ "sni": "a.com", "cert": cert, "key": key })),
        ("ssls/2", json!({ "sni": "b.com", "cert": reference, "key": reference })),
        (
            "secrets/aws/1",
            json!({ "access_key_id": "a", "secret_access_key": "planted",
                    "endpoint_url": "ftp://127.0.0.1" }),
        ),
        ("routes/aws", aws),
        (
            "routes/env",
            json!({ "uri": "/e", "plugins": {
            "proxy-rewrite": { "headers": { "set": { "x": "$env://PATH" } } } } }),
        ),
    ])
    .await;
    let (_, told) = check(&bench, "/v1/certificates").await;
    assert_eq!((&told[0]["ssl"], &told[0]["snis"]), (&json!("1"), &json!(["a.com"])));
    assert_eq!(told[0]["names"], json!(["a.com"]));
    assert_eq!(told[0]["sha256"].as_str().unwrap().len(), 64);
    assert!(told[0]["not_before"].as_i64() < told[0]["not_after"].as_i64());
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert!(!told.to_string().contains("PRIVATE"), "{told}");
    let (_, told) = check(&bench, "/v1/secrets").await;
    let of = |manager: &str| {
        let mut all = told.as_array().unwrap().iter();
        all.find(|told| told["manager"] == manager).unwrap().clone()
    };
    let vault = of("vault/none");
    assert_eq!((&vault["reference"], &vault["state"]), (&json!(reference), &json!("failed")));
    assert_eq!((&vault["used_by"], &vault["age_seconds"]), (&json!(["ssls/2"]), &Value::Null));
    assert_eq!(vault["next_refresh_seconds"], Value::Null);
    assert!(vault["last_error"].as_str().unwrap().contains("vault/none"), "{vault}");
    assert_eq!(of("aws/1")["used_by"], json!(["routes/aws"]));
    assert_eq!(of("env")["state"], "ready");
    assert!(!told.to_string().contains("planted"), "{told}");
}

#[tokio::test]
async fn pulls_secrets_for_those_who_post_and_are_no_web_page() {
    let reference = "$secret://vault/none/ssl/cert";
    let bench =
        bench(&[("ssls/2", json!({ "sni": "b.com", "cert": reference, "key": reference }))]).await;
    let pull = async |query: &str, header: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|name| {
            (header::HeaderName::from_static(name), HeaderValue::from_static("http://a.com"))
        }));
        let (status, body) = bench.control.refresh_secrets(&headers, query).await;
        (status.as_u16(), body)
    };
    for query in ["", "manager=vault", "manager=vault%2Fnone", &format!("reference={reference}")] {
        let (status, told) = pull(query, None).await;
        assert_eq!((status, &told["failed"]), (200, &json!(1)), "{query} {told}");
        assert_eq!(told["secrets"][0]["reference"], reference);
        assert!(told["secrets"][0]["error"].as_str().unwrap().contains("vault/none"), "{told}");
    }
    for (query, status) in [("manager=aws", 404), ("reference=plain", 400), ("refrence=a", 400)] {
        assert_eq!(pull(query, None).await.0, status, "{query}");
    }
    for header in ["origin", "sec-fetch-site"] {
        assert_eq!(pull("", Some(header)).await.0, 403);
    }
    assert_eq!(check(&bench, "/v1/secrets/refresh").await.0, 405);
    let (post, ()) = Request::post("/v1/secrets/refresh").body(()).unwrap().into_parts();
    assert_eq!(respond(&post, (StatusCode::OK, json!({}))).status(), 200);
}

#[tokio::test]
async fn is_ready_with_the_first_snapshot_only() {
    let bench = bench(&[]).await;
    assert_eq!(bench.control.status("/status").0, 200);
    let (status, body) = bench.control.status("/status/ready");
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("embedded"));
    bench.ready.send_replace(true);
    assert_eq!(bench.control.status("/status/ready").0, 200);
    let (post, ()) = Request::post("/v1/status").body(()).unwrap().into_parts();
    assert_eq!(respond(&post, (StatusCode::OK, json!({}))).status(), 405);
}

#[tokio::test]
async fn explains_which_route_answers_and_why_the_better_ones_do_not() {
    let bench = bench(&[
        ("upstreams/u", json!({ "nodes": { "127.0.0.1:1": 3, "127.0.0.1:2": 1 } })),
        (
            "services/s",
            json!({ "upstream_id": "u", "plugins": {
                "prometheus": {}, "proxy-rewrite": { "uri": "/service" } } }),
        ),
        ("global_rules/g", json!({ "id": "g", "plugins": { "prometheus": {} } })),
        (
            "routes/post",
            json!({ "uri": "/a/*", "methods": ["POST", "PUT"], "priority": 9, "upstream_id": "u" }),
        ),
        (
            "routes/inside",
            json!({ "uri": "/a/*", "remote_addr": "10.0.0.0/8", "priority": 8, "upstream_id": "u" }),
        ),
        (
            "routes/v2",
            json!({ "uri": "/a/*", "priority": 7, "upstream_id": "u",
                "vars": [["arg_ok", "==", "1"], ["http_x_version", "==", "2"]] }),
        ),
        (
            "routes/any",
            json!({ "uri": "/a/*", "name": "the rest", "service_id": "s",
                "plugins": { "key-auth": {}, "proxy-rewrite": { "uri": "/route" } } }),
        ),
        ("consumers/jack", json!({ "username": "jack", "plugins": {
            "key-auth": { "key": "k" }, "limit-count": { "count": 1, "time_window": 9 } } })),
    ])
    .await;
    let ask = "/v1/explain?uri=/a/./b%3Fok=1&remote_addr=192.0.2.1";
    let (status, told) = check(&bench, ask).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["request"]["path"], "/a/b");
    assert_eq!((&told["route"]["id"], &told["route"]["name"]), (&json!("any"), &json!("the rest")));
    let refused: Vec<_> = told["refused"].as_array().unwrap().iter().collect();
    let by: Vec<_> = refused.iter().map(|one| (&one["id"], &one["by"])).collect();
    let expected = [("post", "methods"), ("inside", "remote_addrs"), ("v2", "vars")];
    let expected = expected.map(|(id, by)| (json!(id), json!(by)));
    assert_eq!(by, expected.iter().map(|(id, by)| (id, by)).collect::<Vec<_>>());
    let reasons: Vec<_> = refused.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "GET is not one of POST, PUT",
            "the client 192.0.2.1 is in none of 10.0.0.0/8",
            r#"["http_x_version","==","2"] does not hold: http_x_version has no value"#,
        ]
    );
    let plugins = |told: &Value| -> Vec<String> {
        let all = told["plugins"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.map(|one| text(&one["source"]) + " " + &text(&one["name"])).collect()
    };
    assert_eq!(
        plugins(&told),
        [
            "global_rules/g prometheus",
            "routes/any key-auth",
            "routes/any proxy-rewrite",
            "services/s prometheus"
        ]
    );
    let hidden = json!({ "name": "proxy-rewrite", "source": "services/s", "by": "routes/any" });
    assert_eq!(told["hidden_plugins"], json!([hidden]));
    assert_eq!(told["upstream"]["source"], "upstreams/u");
    assert_eq!(told["upstream"]["nodes"][0]["share"], 75.0);
    // Who calls may bring plugins along.
    let (_, told) = check(&bench, &format!("{ask}&consumer=jack")).await;
    assert!(plugins(&told).contains(&"consumers/jack limit-count".to_owned()), "{told}");
    // Nothing answers, or the request is refused before a route is asked.
    let (_, told) = check(&bench, "/v1/explain?uri=/none").await;
    assert_eq!((&told["status"], &told["route"]), (&json!(404), &Value::Null));
    let (_, told) = check(&bench, "/v1/explain?uri=/a/../..").await;
    assert_eq!(told["status"], 400);
    for (query, said) in [
        ("", "uri: expected a path such as /a?b=1, or a URL; it is missing"),
        ("uri=/a/b&consumer=who", "consumer: there is no consumer who"),
    ] {
        let (status, told) = check(&bench, &format!("/v1/explain?{query}")).await;
        assert_eq!((status, told["error_msg"].as_str().unwrap()), (400, said));
    }
}

#[tokio::test]
async fn explains_by_the_body_that_is_told() {
    let route = |vars: Value, priority: i64| json!({ "uri": "/*", "vars": vars, "priority": priority, "plugins": {} });
    let bench = bench(&[
        ("routes/form", route(json!([["post_arg_plan", "==", "gold"]]), 5)),
        ("routes/json", route(json!([["post_arg.items[*].kind", "has", "book"]]), 4)),
        ("routes/graphql", route(json!([["graphql_name", "==", "pay"]]), 3)),
        ("routes/whole", route(json!([["request_body", "~~", "^raw"]]), 2)),
        ("routes/length", route(json!([["http_content_length", "==", "4"]]), 1)),
        ("routes/any", route(json!([]), 0)),
    ])
    .await;
    let ask = |kind: &str, body: Option<&str>| {
        let query = format!("uri=/&method=POST&header=Content-Type:+{kind}");
        bench.control.explain(&query, body.map(|body| Bytes::from(body.to_owned()))).1
    };
    let form = "application/x-www-form-urlencoded";
    for (kind, body, id) in [
        (form, "a=b&plan=gold", "form"),
        ("application/json", r#"{"items": [{"kind": "pen"}, {"kind": "book"}]}"#, "json"),
        ("application/json", r#"{"query": "mutation pay { done }"}"#, "graphql"),
        ("text/plain", "raw text", "whole"),
        ("text/plain", "four", "length"),
        (form, "plan=silver", "any"),
    ] {
        let told = ask(kind, Some(body));
        assert_eq!(told["route"]["id"], id, "{told}");
    }
    let reasons = |told: &Value| -> Vec<String> {
        let refused = told["refused"].as_array().unwrap().iter();
        refused.map(|one| one["reason"].as_str().unwrap().to_owned()).collect()
    };
    let expected = r#"["post_arg_plan","==","gold"] does not hold: post_arg_plan is "silver""#;
    assert_eq!(reasons(&ask(form, Some("plan=silver")))[0], expected);
    // A long value is cut short, and a body that nodes would not read has no variables.
    let told = ask("text/plain", Some(&"ä".repeat(300)));
    let cut = format!("{:?}… (600 bytes)", "ä".repeat(200));
    assert!(reasons(&told)[3].ends_with(&cut), "{told}");
    // Without a body it is as it was: those that ask for it say so.
    let told = ask(form, None);
    assert_eq!(told["route"]["id"], "any");
    let missing = reasons(&told).iter().filter(|reason| reason.contains("not told")).count();
    assert_eq!(missing, 4, "{told}");
}
