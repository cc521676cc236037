//! Answers that come before the request has ended, interim responses, and clients that half close.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::recorder::{OK, Recorder};
use crate::support::{PATIENCE, eventually, raw};

/// How long the gateway waits before it finds out by an interim response whether a client that has
/// ended its side still listens.
const INTERIM_AFTER: Duration = Duration::from_secs(1);

const REFUSAL: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 6\r\n\r\nenough";

async fn recorded() -> (Gateway, Recorder) {
    let recorder = Recorder::start().await;
    let gateway = Gateway::start().await;
    gateway.put_route("1", json!({ "uri": "/*", "upstream": recorder.upstream() })).await;
    gateway.served("/").await;
    (gateway, recorder)
}

async fn connect(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap()
}

async fn rest(client: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    read.expect("the connection is closed").unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_given_and_ends_the_connection() {
    let (gateway, recorder) = recorded().await;
    recorder.answers_early(REFUSAL);
    for framing in ["Content-Length: 100000000", "Transfer-Encoding: chunked"] {
        let mut client = connect(&gateway).await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("enough"), "{answer}");
    }
    eventually("the node is not left with half a request", || async { recorder.ended() >= 2 })
        .await;
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_still_gets_the_early_answer() {
    let (gateway, recorder) = recorded().await;
    for closes in [false, true] {
        if closes {
            recorder.answers_and_closes(REFUSAL);
        } else {
            recorder.answers_early(REFUSAL);
        }
        // A node that closes does so when it has all of the first request, of two.
        let length = if closes { 4 } else { 20_000_000 };
        let mut client = connect(&gateway).await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let chunk = vec![b'x'; 100_000];
        let mut left: usize = length;
        while left > 0 {
            let size = left.min(chunk.len());
            client.write_all(&chunk[..size]).await.expect("the gateway goes on reading");
            left -= size;
        }
        let answer = raw::read_until(&mut client, "enough").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

#[tokio::test]
async fn the_gateway_answers_expectations_itself_and_once() {
    let (gateway, recorder) = recorded().await;
    let mut client = connect(&gateway).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    recorder.taken().await;
    for _ in 0..2 {
        client.write_all(head.as_bytes()).await.unwrap();
        let interim = raw::read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hi").await.unwrap();
        let answer = raw::read_until(&mut client, "\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let reached = String::from_utf8(recorder.taken().await).unwrap();
    assert!(!reached.contains("expect") && reached.matches("\r\n\r\nhi").count() == 2, "{reached}");
    // Nothing is expected without a body, nor in HTTP/1.0.
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        "POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let answer = raw::until_closed(gateway.ports().http, request.as_bytes()).await.unwrap();
        assert_eq!(raw::statuses(&answer), [200], "{request}");
    }
}

#[tokio::test]
async fn a_client_that_only_listens_any_more_is_answered() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    super::catch_all(&gateway, &origin).await;
    // An answer at once is an answer and nothing else; one that takes its time may come behind an
    // interim response, by which the gateway finds out whether anybody listens.
    for (path, body) in
        [("/bytes/3", "xxx"), ("/delay/300", "/delay/300"), ("/delay/4000", "/delay/4000")]
    {
        for version in ["1.1", "1.0"] {
            let mut client = connect(&gateway).await;
            let request = format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let began = Instant::now();
            client.shutdown().await.unwrap();
            let answer = rest(&mut client).await;
            // On a busy machine an answer may take its time that need not.
            let is_prompt = began.elapsed() < INTERIM_AFTER;
            let answers = raw::statuses(answer.as_bytes());
            assert_eq!(answers.last(), Some(&200), "{path}: {answer}");
            assert!(answer.contains(body), "{path}: {answer}");
            if version == "1.0" || is_prompt {
                assert_eq!(answers.len(), 1, "{path}: {answer}");
            }
        }
    }
    // Also with a body, and in the middle of a response.
    let mut client = connect(&gateway).await;
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(rest(&mut client).await.contains("hello"));
    let mut client = connect(&gateway).await;
    let request = "GET /stream/3/4?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let begun = raw::read_until(&mut client, "xxxx").await;
    client.shutdown().await.unwrap();
    let ended = rest(&mut client).await;
    assert!(begun.starts_with("HTTP/1.1 200") && ended.ends_with("0\r\n\r\n"), "{ended}");
    assert!(!ended.contains("HTTP/1.1"), "{ended}");
}

#[tokio::test]
async fn a_client_that_has_gone_frees_the_node_before_it_answers() {
    let (gateway, recorder) = recorded().await;
    recorder.answers("");
    let ended = recorder.ended();
    let mut client = connect(&gateway).await;
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("the node was asked", || async {
        String::from_utf8_lossy(&recorder.seen()).contains("/slow")
    })
    .await;
    drop(client);
    eventually("the node is let go", || async { recorder.ended() > ended }).await;
}

#[tokio::test]
async fn an_old_client_gets_an_old_answer() {
    let (gateway, recorder) = recorded().await;
    let port = gateway.ports().http;
    let chunks =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: b\r\n\r\n";
    recorder.answers(chunks);
    for keep in ["", "Connection: keep-alive\r\n"] {
        let request = format!("GET / HTTP/1.0\r\n{keep}\r\n");
        let answer = raw::until_closed(port, request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "ok", "{answer}");
        assert!(head.contains("connection: close") && !head.contains("chunked"), "{head}");
    }
    recorder.answers(OK);
    let mut client = connect(&gateway).await;
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = raw::read_until(&mut client, "\r\n\r\nok").await;
        assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_protocol_that_would_pass_by_the_routes_is_not_switched_to() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::start().await;
    let route = json!({ "uri": "/*", "enable_websocket": true, "upstream": recorder.upstream() });
    gateway.put_route("1", route).await;
    gateway.served("/").await;
    for (protocol, passes) in [("websocket", true), ("h2c", false), ("websocket, H2C", false)] {
        recorder.taken().await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {protocol}\r\n\
             Connection: Upgrade, close\r\n\r\n"
        );
        raw::until_closed(gateway.ports().http, request.as_bytes()).await.unwrap();
        let reached = String::from_utf8(recorder.taken().await).unwrap();
        assert_eq!(reached.contains("upgrade"), passes, "{reached}");
    }
}
