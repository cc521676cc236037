//! Requests whose end could be read in two ways: each is refused, or what reaches the node has
//! one reading only. Compared byte by byte with what a recording node gets.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::gateway::Gateway;
use crate::support::{eventually, raw};

/// A node that records every byte and answers each request head with an empty 200. Not a real
/// server: one would hide what exactly it was sent.
struct Recorder {
    node: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap().to_string();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let shared = bytes.clone();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 16 * 1024];
                    let mut pending = Vec::new();
                    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                        shared.lock().unwrap().extend_from_slice(&buffer[..read]);
                        pending.extend_from_slice(&buffer[..read]);
                        if complete(&pending) {
                            pending.clear();
                            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                            socket.write_all(ok).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { node, bytes }
    }

    fn taken(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.bytes.lock().unwrap())).into_owned()
    }
}

/// Whether a whole request stands in `bytes`, as the gateway frames requests.
fn complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    if field("transfer-encoding:") == Some("chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

#[tokio::test]
async fn no_request_can_be_read_in_two_ways() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::start().await;
    let upstream = json!({ "type": "roundrobin", "nodes": { &recorder.node: 1 } });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/").await;

    // What must be refused outright.
    for (name, request) in [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
        ("a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"),
        ("an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        ),
        (
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a blank before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n"),
        ("a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        ("no version", "GET /\r\n\r\n"),
        ("nonsense", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    ] {
        recorder.taken();
        let answer = raw::send(gateway.ports().http, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
        assert_eq!(recorder.taken(), "", "{name} reached the node");
    }

    // What may pass, with one reading.
    let both = "POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                1\r\nx\r\n0\r\n\r\n";
    raw::send(gateway.ports().http, both).await;
    let reached = recorder.taken();
    assert!(!reached.to_lowercase().contains("content-length"), "{reached}");
    assert!(reached.ends_with("1\r\nx\r\n0\r\n\r\n"), "{reached}");

    // A chunk that lies about its size ends the exchange; nothing after it reaches the node.
    let lying = "POST /lying HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 1\r\nxGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    raw::send(gateway.ports().http, lying).await;
    assert!(!recorder.taken().contains("smuggled"));

    // Two requests in one packet stay two.
    let two = "GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = raw::send(gateway.ports().http, two).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let reached = recorder.taken();
    assert!(reached.contains("GET /first") && reached.contains("GET /second"), "{reached}");
}

#[tokio::test]
async fn odd_but_rightful_requests_pass() {
    let recorder = Recorder::start().await;
    let gateway = Gateway::start().await;
    let upstream = json!({ "type": "roundrobin", "nodes": { &recorder.node: 1 } });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/").await;
    recorder.taken();
    let http_10 = raw::send(gateway.ports().http, "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(http_10.contains(" 200 "), "{http_10}");
    assert!(recorder.taken().starts_with("GET /old HTTP/1.1\r\n"));
    let absolute = "GET http://other.com/abs?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    raw::send(gateway.ports().http, absolute).await;
    let reached = recorder.taken();
    assert!(reached.starts_with("GET /abs?x=1 HTTP/1.1\r\nhost: other.com\r\n"), "{reached}");
    let connect = raw::send(gateway.ports().http, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(connect.starts_with("HTTP/1.1 40"), "{connect}");
    let options = "OPTIONS /o HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(raw::send(gateway.ports().http, options).await.starts_with("HTTP/1.1 200"));
    // Byte by byte.
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    for byte in b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" {
        client.write_all(&[*byte]).await.unwrap();
        client.flush().await.unwrap();
    }
    raw::read_until(&mut client, "200 OK").await;
    eventually("the whole request reached the node", || async {
        recorder.bytes.lock().unwrap().ends_with(b"hi")
    })
    .await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
    let answer = raw::send(gateway.ports().http, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}
