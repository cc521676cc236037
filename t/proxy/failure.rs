//! Nodes that refuse, hang or lie, and what the client is told.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{one_origin, upstream};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::{PATIENCE, eventually, free_port, raw, undisturbed};

#[tokio::test]
async fn tells_failures_as_apisix_does() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let node = |node: &str| json!({ "type": "roundrobin", "nodes": { node: 1 } });
    gateway.put_route("refused", json!({ "uri": "/refused", "upstream": node(&nobody) })).await;
    gateway
        .put_route(
            "empty",
            json!({ "uri": "/empty", "upstream": { "type": "roundrobin", "nodes": {} } }),
        )
        .await;
    let timeout = json!({ "connect": 1, "send": 1, "read": 0.2 });
    gateway
        .put_route(
            "slow",
            json!({ "uri": "/delay/*", "timeout": timeout, "upstream": upstream(&origin) }),
        )
        .await;
    gateway.put_route("dropped", json!({ "uri": "/drop", "upstream": upstream(&origin) })).await;
    gateway
        .put_route("failing", json!({ "uri": "/status/*", "upstream": upstream(&origin) }))
        .await;
    gateway.served("/status/200").await;

    let none = gateway.get("/none").await;
    assert_eq!(none.status(), 404);
    assert_eq!(none.headers()["content-type"], "application/json");
    assert_eq!(none.text().await.unwrap().trim(), r#"{"error_msg":"404 Route Not Found"}"#);
    let refused = gateway.get("/refused").await;
    assert_eq!(refused.status(), 502);
    assert_eq!(refused.headers()["x-apisix-upstream-status"], "502");
    assert_eq!(gateway.get("/empty").await.status(), 503);
    let slow = gateway.get("/delay/5000").await;
    assert_eq!(slow.status(), 504);
    assert_eq!(slow.headers()["x-apisix-upstream-status"], "504");
    assert_eq!(gateway.get("/drop").await.status(), 502);
    let failing = gateway.get("/status/500").await;
    assert_eq!(failing.status(), 500);
    assert_eq!(failing.headers()["x-apisix-upstream-status"], "500");
    assert!(!gateway.get("/status/200").await.headers().contains_key("x-apisix-upstream-status"));
    assert!(gateway.logs().contains(&nobody), "the log names the node that refused");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap().to_string();
    let answers: [&[u8]; 4] = [
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ];
    let server = tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(answer).await.unwrap();
        }
    });
    let gateway = Gateway::start().await;
    let upstream = json!({ "type": "roundrobin", "nodes": { node: 1 }, "retries": 0 });
    gateway.put_route("1", json!({ "uri": "/lies", "upstream": upstream })).await;
    gateway.routed("/lies").await;
    for _ in answers {
        assert_eq!(gateway.get("/lies").await.status(), 502);
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_routes_own_times_go_before_its_upstreams() {
    // A node whose queue of connections is full: the next one is never accepted.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    let connect = || tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr));
    while let Ok(Ok(socket)) = connect().await {
        queued.push(socket);
        assert!(queued.len() < 100, "the queue is never full");
    }
    // A node that accepts, and reads nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf_node = deaf.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = deaf.accept().await {
            held.push(socket);
        }
    });
    let gateway = Gateway::start().await;
    let short = |what: &str| {
        let mut timeout = json!({ "connect": 20, "send": 20, "read": 20 });
        timeout[what] = json!(0.3);
        timeout
    };
    let long = json!({ "connect": 20, "send": 20, "read": 20 });
    let upstream = |node: &str| json!({ "type": "roundrobin", "nodes": { node: 1 }, "timeout": long, "retries": 0 });
    for (what, node) in [("connect", &addr.to_string()), ("send", &deaf_node), ("read", &deaf_node)]
    {
        let route = json!({ "uri": format!("/{what}"), "timeout": short(what),
            "upstream": upstream(node) });
        gateway.put(&format!("/routes/{what}"), route).await;
        let mut request = gateway.client().post(gateway.http_url(&format!("/{what}")));
        if what == "send" {
            // More than the sockets' buffers hold.
            request = request.body(vec![b'x'; 32 * 1024 * 1024]);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 504, "{what}");
        assert_eq!(answer.headers()["x-apisix-upstream-status"], "504", "{what}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_given_up() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] = json!({ "send_timeout": "1s" });
        })
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    client.write_all(b"GET /bytes/50000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("the exchange is logged", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().contains("/bytes/50000000")
    })
    .await;
    let mut taken = Vec::new();
    let _ = client.read_to_end(&mut taken).await;
    assert!(taken.len() < 50_000_000);
}

#[tokio::test]
async fn a_slow_request_body_is_given_up() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] = json!({ "client_body_timeout": "300ms" });
        })
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    client
        .write_all(b"POST /anything HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        .await
        .unwrap();
    let answer = raw::read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] =
                json!({ "keepalive_timeout": "1s", "client_header_timeout": "1s" });
        })
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    for first in ["", "GET /get HTTP/1.1\r\nHost: a\r\n\r\n", "GET /get HT"] {
        let ends = async || {
            let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
            client.write_all(first.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, client.read_to_end(&mut all));
            ended.await.expect("the connection is closed").unwrap();
            assert_eq!(all.is_empty(), !first.ends_with("\r\n\r\n"), "{first}");
        };
        undisturbed(Duration::from_millis(500), ends).await;
    }
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_in_flight() {
    let (mut gateway, origin) = one_origin().await;
    let asked = origin.requests();
    let slow = gateway.client().get(gateway.http_url("/held"));
    let slow = tokio::spawn(slow.send());
    let idle = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    eventually("the slow request is under way", || async { origin.requests() > asked }).await;
    gateway.signal("QUIT");
    eventually("new connections are refused", || async {
        TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.is_err()
    })
    .await;
    origin.release();
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("/held"));
    assert!(gateway.ended().await.success());
    drop(idle);
}

#[tokio::test]
async fn a_stop_that_takes_too_long_cuts_what_is_left() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::builder()
        .config(|config| config["nginx_config"]["worker_shutdown_timeout"] = json!("1s"))
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let endless = gateway.get("/stream/1000000/10?ms=10").await;
    gateway.signal("QUIT");
    assert!(gateway.ended().await.success());
    assert!(endless.bytes().await.is_err());
}

#[tokio::test]
async fn a_node_that_never_got_its_config_can_be_stopped() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let mut gateway = Gateway::builder().etcd(&[nowhere]).no_wait().start().await;
    eventually("the status service answers", || async {
        let url = format!("http://127.0.0.1:{}/status/ready", gateway.ports().status);
        let answer = gateway.client().get(url).send().await;
        answer.is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    gateway.signal("QUIT");
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_client_that_gave_up_is_logged_as_such() {
    let (gateway, _origin) = one_origin().await;
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    client.write_all(b"GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("the request is under way", || async {
        gateway.sample("apisix_nginx_http_current_connections", &[r#"state="writing""#]).await
            >= Some(1.0)
    })
    .await;
    drop(client);
    eventually("the log says 499", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().contains("\"GET /delay/60000 HTTP/1.1\" 499")
    })
    .await;
}
