//! A client's HTTP/1.1 connection: what it carries one after the other, and what ends it.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{catch_all, one_origin};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::{eventually, raw, undisturbed};

async fn connect(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap()
}

/// Sends a request and reads until `end` has come.
async fn ask(client: &mut TcpStream, request: &str, end: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    raw::read_until(client, end).await
}

/// Whether the gateway ends the connection, and sends nothing more before.
async fn is_closed(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(crate::support::PATIENCE, client.read_to_end(&mut rest)).await;
    matches!(read, Ok(Ok(0)))
}

#[tokio::test]
async fn a_connection_goes_on_as_the_client_wants_it_to() {
    let (gateway, _origin) = one_origin().await;
    let mut client = connect(&gateway).await;
    for _ in 0..2 {
        let old = "GET /bytes/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let answer = ask(&mut client, old, "\r\n\r\nxxx").await;
        assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    }
    // The node sends chunks, which HTTP/1.0 does not know.
    let answer = raw::send(gateway.ports().http, "GET /stream/2/3 HTTP/1.0\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body, "xxxxxx");

    let mut client = connect(&gateway).await;
    let head = ask(&mut client, "HEAD /bytes/9 HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n").await;
    assert!(head.contains("\r\ncontent-length: 9\r\n") && !head.contains("\r\nconnection:"));
    let chunks =
        ask(&mut client, "GET /stream/2/3 HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n0\r\n\r\n").await;
    assert!(chunks.contains("\r\ntransfer-encoding: chunked\r\n"), "{chunks}");
    let last = "GET /bytes/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = ask(&mut client, last, "\r\n\r\nxxx").await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("\r\ndate: "), "{answer}");
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_become_the_next_request() {
    let origin = Origin::start().await;
    let gateway = super::of_small_bodies().await;
    let only = json!({ "uri": "/get", "upstream": super::upstream(&origin) });
    gateway.put_route("1", only).await;
    gateway.served("/get").await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = body.len();
    let unread =
        format!("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut client = connect(&gateway).await;
    // All of it is there: the connection goes on behind it.
    for _ in 0..2 {
        let answer = ask(&mut client, &unread, "Route Not Found\"}\n").await;
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("connection: close"));
    }
    // It is still to come: the connection ends, and a client that waits is not told to send it.
    for (head, status) in [
        ("POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "413"),
        ("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "404"),
        (
            "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
            "404",
        ),
    ] {
        let mut client = connect(&gateway).await;
        let answer = ask(&mut client, head, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    let wrong = "POST /get HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    let answer = raw::send(gateway.ports().http, wrong).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(!gateway.logs().contains("smuggled"));
}

#[tokio::test]
async fn many_requests_sent_at_once_are_answered_in_order() {
    let (gateway, _origin) = one_origin().await;
    let mut client = connect(&gateway).await;
    let requests: String =
        (0..200).map(|n| format!("GET /anything/{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let answers = ask(&mut client, &requests, "/anything/199\"").await;
    let places: Vec<usize> =
        (0..200).map(|n| answers.find(&format!("\"/anything/{n}\"")).unwrap()).collect();
    assert!(places.is_sorted());
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_logged_so() {
    let (gateway, origin) = one_origin().await;
    let mut client = connect(&gateway).await;
    client.write_all(b"GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("the node was asked", || async { origin.requests() > 1 }).await;
    drop(client);
    eventually("the exchange is logged", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().lines().any(|line| line.contains("/delay/") && line.contains("499"))
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_is_logged_by_its_first_line() {
    let (gateway, _origin) = one_origin().await;
    for (bytes, status) in [
        ("GET /a\u{e9}\"b c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /length HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        ("GET /version HTTP/3.7\r\nHost: a\r\n\r\n", 505),
    ] {
        let answer = raw::send(gateway.ports().http, bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    for line in [
        "\"GET /a\\xC3\\xA9\\x22b c HTTP/1.1\" 400 ",
        "\"GET /length HTTP/1.1\" 400 ",
        "\"GET /version HTTP/3.7\" 505 ",
    ] {
        eventually("the refusal is logged", || async {
            let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
            log.unwrap_or_default().contains(line)
        })
        .await;
    }
}

#[tokio::test]
async fn half_a_head_is_not_waited_for_for_ever() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] =
                json!({ "client_header_timeout": "1s", "keepalive_timeout": "600s" });
        })
        .start()
        .await;
    catch_all(&gateway, &origin).await;
    let are_closed = async || {
        let mut first = connect(&gateway).await;
        first.write_all(b"GET /get HT").await.unwrap();
        let mut second = connect(&gateway).await;
        ask(&mut second, "GET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n", "xxx").await;
        second.write_all(b"GET /get HT").await.unwrap();
        assert!(is_closed(&mut first).await);
        assert!(is_closed(&mut second).await);
    };
    undisturbed(Duration::from_millis(500), are_closed).await;
}

#[tokio::test]
async fn what_is_too_long_is_told_apart() {
    let (gateway, _origin) = one_origin().await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000));
    let answer = raw::send(gateway.ports().http, &target).await;
    assert!(answer.starts_with("HTTP/1.1 414"), "{answer}");
    let fields = "X-A: b\r\n".repeat(200);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let answer = raw::send(gateway.ports().http, &many).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn trailers_end_a_response_once() {
    // Not a real server: the origin of the tests sends no trailers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while let Ok(1..) = socket.read(&mut request).await {
                    socket.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let gateway = Gateway::start().await;
    let upstream = json!({ "type": "roundrobin", "nodes": { node: 1 } });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/").await;
    let mut client = connect(&gateway).await;
    for _ in 0..2 {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = ask(&mut client, request, "x-sum: 1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{answer}");
    }
}
