//! Variables of requests, those of the body above all: routes and plugins that ask for them, and
//! what reaches the node.

use futures_util::stream;
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{one_origin, upstream};
use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::raw;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A route of `/hello` that tells the node its id.
fn route(origin: &Origin, vars: Value) -> Value {
    let rewrite = json!({ "headers": { "set": { "x-route": "$route_id" } } });
    json!({
        "uri": "/hello", "vars": vars, "upstream": upstream(origin),
        "plugins": { "proxy-rewrite": rewrite },
    })
}

/// A gateway with a route for each id and its conditions, all of `/hello`.
async fn with_routes(gateway: Gateway, routes: &[(&str, Value)]) -> (Gateway, Origin) {
    let origin = Origin::start().await;
    for (id, vars) in routes {
        gateway.put_route(id, route(&origin, vars.clone())).await;
    }
    (gateway, origin)
}

/// The id of the route that a request for `/hello` takes, and the body that its node got.
async fn taken(
    gateway: &Gateway,
    method: Method,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (String, String) {
    let url = gateway.http_url(&format!("/hello{query}"));
    let mut request = gateway.client().request(method, url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    if answer.status() == 404 {
        return ("none".to_owned(), String::new());
    }
    assert_eq!(answer.status(), 200, "{query} {headers:?} {body}");
    let echo: Value = answer.json().await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&echo["headers"]["x-route"]), text(&echo["body"]))
}

#[tokio::test]
async fn routes_by_what_the_body_says() {
    let (gateway, _origin) = with_routes(
        Gateway::start().await,
        &[
            ("form", json!([["post_arg_model", "==", "form"]])),
            ("any", json!([["post_arg.model", "in", ["openai", "deepseek"]]])),
            ("number", json!([["post_arg.user.age", ">", 17], ["post_arg.user.ok", "==", true]])),
            ("path", json!([["post_arg.messages[*].content[*].type", "has", "image_url"]])),
        ],
    )
    .await;
    let multipart =
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndeepseek\r\n--b--\r\n";
    let messages = |kind: &str| {
        json!({ "messages": [{ "content": [{ "type": "text" }, { "type": kind }] }] }).to_string()
    };
    let user = |age: Value| json!({ "user": { "age": age, "ok": true } }).to_string();
    for (content_type, body, expected) in [
        (FORM, "a=b&model=form", "form"),
        ("application/x-www-form-urlencoded;charset=utf-8", "model=form&model=x", "form"),
        (FORM, "model=openai", "any"),
        (FORM, "model=else", "none"),
        (FORM, "", "none"),
        (JSON, r#"{"model": "openai"}"#, "any"),
        (JSON, r#"{"model": "form"}"#, "none"),
        (JSON, r#"{"model": "#, "none"),
        ("multipart/form-data; boundary=b", multipart, "any"),
        ("multipart/form-data; boundary=c", multipart, "none"),
        ("text/plain", multipart, "none"),
        (JSON, &user(json!(18)), "number"),
        (JSON, &user(json!("18")), "number"),
        (JSON, &user(json!(17)), "none"),
        (JSON, &messages("image_url"), "path"),
        (JSON, &messages("audio"), "none"),
    ] {
        let headers = [("content-type", content_type)];
        let (route, got) = taken(&gateway, Method::POST, "", &headers, body).await;
        assert_eq!(route, expected, "{content_type} {body}");
        if route != "none" {
            assert_eq!(got, body);
        }
    }
    assert_eq!(taken(&gateway, Method::GET, "?model=form", &[], "").await.0, "none");
}

#[tokio::test]
async fn routes_by_graphql() {
    let (gateway, _origin) = with_routes(
        Gateway::start().await,
        &[
            ("mutation", json!([["graphql_operation", "==", "mutation"]])),
            ("named", json!([["graphql_name", "==", "repo"]])),
            ("owner", json!([["graphql_name", "==", ""], ["graphql_root_fields", "has", "owner"]])),
        ],
    )
    .await;
    let in_json = json!({ "query": "query repo { stars }", "variables": {} }).to_string();
    for (method, query, content_type, body, expected) in [
        (Method::POST, "", "application/graphql", "mutation m { add(x: 1) { id } }", "mutation"),
        (Method::POST, "", "", "query repo { owner { name } }", "named"),
        (Method::POST, "", JSON, &*in_json, "named"),
        (Method::POST, "", "", "{ repo { id } owner { name } }", "owner"),
        (Method::POST, "", "", "{ repo { id } }", "none"),
        (Method::POST, "", "", "AA", "none"),
        (Method::POST, "", JSON, "{}", "none"),
        (Method::POST, "", "", "", "none"),
        (Method::GET, "?query={owner{name}}", "", "", "owner"),
        (Method::GET, "?query=query%20repo%7Bowner%7D&query=mutation{a}", "", "", "named"),
        (Method::GET, "", "", "", "none"),
        (Method::PUT, "", "", "query repo { owner }", "none"),
    ] {
        let headers = [("content-type", content_type)];
        let headers = if content_type.is_empty() { &headers[..0] } else { &headers[..] };
        let (route, got) = taken(&gateway, method, query, headers, body).await;
        assert_eq!(route, expected, "{query} {body}");
        if route != "none" {
            assert_eq!(got, body);
        }
    }
}

#[tokio::test]
async fn routes_by_heads_and_addresses() {
    let (gateway, _origin) = with_routes(
        Gateway::start().await,
        &[
            ("cookie", json!([["cookie_k", "==", "v"]])),
            ("header", json!([["http_x_tag", "~*", "^A, b$"]])),
            ("argument", json!(["OR", ["arg_a-b", "==", "ab"], ["arg_age", "IN", ["18", "19"]]])),
            ("bare", json!([["arg_flag", "==", true]])),
            (
                "local",
                json!([["http_x_local", "~=", null], ["remote_addr", "ipmatch", "127.0.0.0/8"]]),
            ),
            (
                "far",
                json!([
                    ["http_x_far", "~=", null],
                    ["remote_addr", "!", "ipmatch", ["127.0.0.1", "::1"]]
                ]),
            ),
            ("list", json!([["arg_list", "has", "x"]])),
        ],
    )
    .await;
    for (query, headers, expected) in [
        ("", &[("cookie", "j=x; k=v; l=y")][..], "cookie"),
        ("", &[("cookie", "K=v; kk=v")], "none"),
        ("", &[("x-tag", "a"), ("x-tag", "b")], "header"),
        ("", &[("x-tag", "a")], "none"),
        ("?a-b=ab&a-b=x", &[], "argument"),
        ("?a%2Db=ab", &[], "argument"),
        ("?age=19", &[], "argument"),
        ("?age=20", &[], "none"),
        ("?flag", &[], "bare"),
        ("?flag=", &[], "none"),
        ("", &[("x-local", "1")], "local"),
        ("", &[("x-far", "1")], "none"),
        ("?list=x&list=y", &[], "none"),
    ] {
        let (route, _) = taken(&gateway, Method::GET, query, headers, "").await;
        assert_eq!(route, expected, "{query} {headers:?}");
    }
}

#[tokio::test]
async fn conditions_that_are_none_are_refused_by_name() {
    let gateway = Gateway::start().await;
    for (vars, path) in [
        (json!([["arg_a", "===", 1]]), "vars/0/1"),
        (json!([["post_arg.messages[.content", "has", "x"]]), "vars/0/0"),
        (json!([["remote_addr", "ipmatch", ["10.0.0.0/99"]]]), "vars/0/2"),
        (json!(["OR", ["arg_a", "==", 1]]), "vars"),
    ] {
        let route =
            json!({ "uri": "/x", "vars": vars, "upstream": { "nodes": { "127.0.0.1:1": 1 } } });
        let (status, answer) = gateway.admin("PUT", "/routes/1", Some(route)).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(path), "{answer}");
    }
}

/// A body that was looked at goes on unchanged: in pieces, binary, of known and unknown length,
/// over either version of HTTP.
#[tokio::test]
async fn the_node_gets_a_body_that_was_looked_at_byte_for_byte() {
    let (gateway, origin) = one_origin().await;
    let vars = json!(["OR", ["post_arg.a", "==", 1], ["request_body", "~=", null]]);
    let looked_at = json!({ "uri": "/echo", "vars": vars, "upstream": upstream(&origin) });
    gateway.put_route("echo", looked_at).await;
    let missing = json!({ "uri": "/echo/none", "vars": [["post_arg_k", "==", "x"]], "upstream": upstream(&origin) });
    gateway.put_route("none", missing).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let pieces = |bytes: &[u8]| {
        let pieces: Vec<_> =
            bytes.chunks(70_001).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        reqwest::Body::wrap_stream(stream::iter(pieces))
    };
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [gateway.client(), &h2] {
        for body in [bytes.clone().into(), pieces(&bytes)] {
            let answer = client.post(gateway.http_url("/echo")).body(body).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.unwrap() == bytes, "the body was changed");
        }
        let answer = client.post(gateway.http_url("/echo")).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    let seen = origin.seen();
    let lengths = seen.iter().filter(|seen| seen.headers.contains_key("content-length"));
    assert!(lengths.count() >= 2, "bodies of known length are told their length");
}

#[tokio::test]
async fn the_next_node_gets_the_whole_of_a_body_that_was_looked_at() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let port = origin.addr().port();
    let nodes = json!([
        { "host": "127.0.0.1", "port": 1, "weight": 1, "priority": 1 },
        { "host": "127.0.0.1", "port": port, "weight": 1 },
    ]);
    let upstream = json!({ "type": "roundrobin", "nodes": nodes });
    let vars = json!([["post_arg.k", "==", "v"]]);
    gateway.put_route("1", json!({ "uri": "/anything", "vars": vars, "upstream": upstream })).await;
    let body = json!({ "k": "v", "pad": "x".repeat(100_000) });
    let post = gateway.client().post(gateway.http_url("/anything")).json(&body);
    let echo: Value = post.send().await.unwrap().json().await.unwrap();
    assert_eq!(echo["body_bytes"], body.to_string().len());
}

/// Only requests that come as far as a condition on the body have theirs read ahead.
#[tokio::test]
async fn a_body_that_nobody_asks_for_is_passed_on_as_it_comes() {
    let (gateway, origin) = one_origin().await;
    let other = json!({ "uri": "/hello", "vars": [["post_arg_k", "==", "x"]], "upstream": upstream(&origin) });
    gateway.put_route("other", other).await;
    // The argument is looked at first, and settles it.
    let vars = json!([["arg_a", "==", "b"], ["post_arg_k", "==", "x"]]);
    gateway
        .put_route("echo", json!({ "uri": "/echo", "vars": vars, "upstream": upstream(&origin) }))
        .await;
    gateway.served("/echo").await;
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    let begun = "POST /echo?a=c HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst";
    socket.write_all(begun.as_bytes()).await.unwrap();
    raw::read_until(&mut socket, "first").await;
    socket.write_all(b"-last").await.unwrap();
    raw::read_until(&mut socket, "-last").await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_when_the_body_is_looked_at() {
    let (gateway, _origin) =
        with_routes(Gateway::start().await, &[("form", json!([["post_arg_k", "==", "v"]]))]).await;
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    let head = format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: 3\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    raw::read_until(&mut socket, "HTTP/1.1 100 Continue\r\n\r\n").await;
    socket.write_all(b"k=v").await.unwrap();
    let answer = raw::read_until(&mut socket, "\"x-route\"").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The connection goes on with the next request, also after one that no route takes.
    for (body, status) in [("k=w", "404"), ("k=v", "200")] {
        let request = format!(
            "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: 3\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let end = if status == "404" { "Not Found\"}" } else { "\"x-route\"" };
        let answer = raw::read_until(&mut socket, end).await;
        assert!(answer.contains(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_before_a_route_is_found() {
    let gateway = Gateway::builder()
        .config(|config| {
            let limits = json!({ "client_max_body_size": 1000, "client_body_timeout": "200ms" });
            config["nginx_config"]["http"] = limits;
        })
        .start()
        .await;
    let (gateway, _origin) =
        with_routes(gateway, &[("form", json!([["post_arg_k", "==", "v"]]))]).await;
    let head = format!("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n");
    let chunks = "40\r\n".to_owned() + &"x".repeat(64) + "\r\n";
    for (rest, status) in [
        // Stops in the middle.
        ("Content-Length: 9\r\n\r\nk=v".to_owned(), "408"),
        // More than the limit, which only shows as it comes.
        (format!("Transfer-Encoding: chunked\r\n\r\n{}", chunks.repeat(20)), "413"),
        ("Transfer-Encoding: chunked\r\n\r\nnonsense\r\n".to_owned(), "400"),
    ] {
        let answer = raw::send(gateway.ports().http, &(head.clone() + &rest)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{rest}: {answer}");
    }
}

/// APISIX has no variables of bodies above its limits; they still go to the route that needs none.
#[tokio::test]
async fn bodies_above_the_limits_have_no_variables_and_are_forwarded() {
    let gateway = Gateway::builder()
        .config(|config| {
            config["apisix"]["max_post_args_readable_size"] = json!(1);
            config["graphql"] = json!({ "max_size": 30 });
        })
        .start()
        .await;
    let (gateway, origin) = with_routes(
        gateway,
        &[
            ("model", json!([["post_arg.model", "==", "m"]])),
            ("graphql", json!([["graphql_name", "==", "q"]])),
        ],
    )
    .await;
    let rest = json!({ "uri": "/*", "upstream": upstream(&origin) });
    gateway.put_route("rest", rest).await;
    let padded = |bytes: usize| {
        let body = r#"{"model":"m","pad":""}"#;
        body.replace("\"\"", &format!("\"{}\"", "a".repeat(bytes - body.len())))
    };
    const MIB: usize = 1024 * 1024;
    for (length, expected) in [(100, "model"), (MIB, "model"), (MIB + 1, ""), (2 * MIB, "")] {
        for chunked in [false, true] {
            let body = padded(length);
            let body = if chunked {
                let pieces = body.as_bytes().chunks(100_000).map(<[u8]>::to_vec);
                let pieces: Vec<_> = pieces.map(Ok::<_, std::io::Error>).collect();
                reqwest::Body::wrap_stream(stream::iter(pieces))
            } else {
                body.into()
            };
            let post = gateway.client().post(gateway.http_url("/hello"));
            let answer = post.header("content-type", JSON).body(body).send().await.unwrap();
            let echo: Value = answer.json().await.unwrap();
            let route = echo["headers"]["x-route"].as_str().unwrap_or_default();
            assert_eq!((route, &echo["body_bytes"]), (expected, &json!(length)), "{chunked}");
        }
    }
    let small = taken(&gateway, Method::POST, "", &[], "query q { a }").await;
    assert_eq!(small.0, "graphql");
    let large = taken(&gateway, Method::POST, "", &[], "query q { a b c d e f g h i j k }").await;
    assert_eq!(large.0, "");
}

#[tokio::test]
async fn plugins_may_ask_for_the_body_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let rewrite = json!({
        "_meta": { "filter": [["post_arg.plan", "~=", "free"]] },
        "headers": { "set": {
            "x-user": "$post_arg.user.name/${post_arg.tags[*] ?? none}",
            "x-query": "$graphql_operation",
        }},
    });
    gateway
        .put_route(
            "1",
            json!({
                "uri": "/*", "upstream": upstream(&origin), "plugins": { "proxy-rewrite": rewrite },
            }),
        )
        .await;
    gateway.served("/get").await;
    let post = |body: Value| {
        let request = gateway.client().post(gateway.http_url("/anything")).json(&body);
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let body = json!({ "user": { "name": "jo" }, "tags": ["a", 1], "query": "{ a }" });
    let echo = post(body.clone()).await;
    assert_eq!(echo["headers"]["x-user"], r#"jo/["a",1]"#);
    assert_eq!(echo["headers"]["x-query"], "query");
    assert_eq!(serde_json::from_str::<Value>(echo["body"].as_str().unwrap()).unwrap(), body);
    let echo = post(json!({ "user": { "name": "jo" } })).await;
    assert_eq!(echo["headers"]["x-user"], "jo/none");
    let echo = post(json!({ "plan": "free" })).await;
    assert_eq!(echo["headers"]["x-user"], Value::Null);
}

#[tokio::test]
async fn tells_of_the_connection_and_its_handshake() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let names = [
        "ssl_protocol",
        "ssl_cipher",
        "ssl_curve",
        "ssl_alpn_protocol",
        "ssl_server_name",
        "ssl_session_reused",
        "ssl_client_verify",
        "ssl_client_s_dn",
        "https",
        "http2",
        "connection_requests",
        "remote_user",
        "upstream_unresolved_host",
        "request_line",
    ];
    let headers: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| (format!("x-{}", name.replace('_', "-")), json!(format!("[${name}]"))))
        .collect();
    gateway
        .put_route(
            "1",
            json!({
                "uri": "/*", "upstream": upstream(&origin),
                "plugins": { "proxy-rewrite": { "headers": { "set": headers } } },
            }),
        )
        .await;
    gateway.served("/get").await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": cert, "key": key })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &cert).await;
    let client = gateway.https_client("test.com", &ca.pem());
    let request = client.get(gateway.https_url("test.com", "/a%20b?c")).basic_auth("jo", Some("x"));
    let echo: Value = request.send().await.unwrap().json().await.unwrap();
    for (name, expected) in [
        ("ssl-protocol", "[TLSv1.3]"),
        ("ssl-alpn-protocol", "[h2]"),
        ("ssl-server-name", "[test.com]"),
        ("ssl-session-reused", "[.]"),
        ("ssl-client-verify", "[NONE]"),
        ("ssl-client-s-dn", "[]"),
        ("https", "[on]"),
        ("http2", "[h2]"),
        ("connection-requests", "[1]"),
        ("remote-user", "[jo]"),
        ("request-line", "[GET /a%20b?c HTTP/2.0]"),
    ] {
        assert_eq!(echo["headers"][format!("x-{name}")], expected, "{name}");
    }
    for name in ["ssl-cipher", "ssl-curve"] {
        assert_ne!(echo["headers"][format!("x-{name}")], "[]", "{name}");
    }
    let echo: Value = gateway.get("/get").await.json().await.unwrap();
    for name in ["ssl-protocol", "ssl-cipher", "ssl-client-verify", "https", "http2", "remote-user"]
    {
        assert_eq!(echo["headers"][format!("x-{name}")], "[]", "{name}");
    }
}

#[tokio::test]
async fn the_access_log_tells_of_bodies_and_nodes_where_it_is_asked_to() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] = json!({
                "access_log_format":
                    "$request_uri|$request_body|$post_arg_k|$remote_user|$upstream_http_x_origin|$balancer_ip:$balancer_port|$upstream_addr.",
            });
        })
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let post = gateway.client().post(gateway.http_url("/anything/%61?x"));
    let post = post.header("content-type", FORM).basic_auth("jo", Some("x")).body("k=v&l=w");
    assert_eq!(post.send().await.unwrap().status(), 200);
    let log = gateway.dir().join("logs/access.log");
    let node = origin.node();
    let line = format!("/anything/%61?x|k=v&l=w|v|jo|origin|{node}|{node}.\n");
    eventually("the line is written", || async {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains(&line))
    })
    .await;
}
