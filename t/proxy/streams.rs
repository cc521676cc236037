//! Bodies both ways, upgrades, and what ends a stream.

use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{one_origin, upstream};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::raw;

#[tokio::test]
async fn passes_requests_and_responses_on() {
    let (gateway, origin) = one_origin().await;
    let echo: Value = gateway
        .client()
        .post(gateway.http_url("/anything/a%20b?x=1&y=%2F"))
        .header("X-Custom", "one")
        .header("X-Custom", "two")
        .body("hello")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["uri"], "/anything/a%20b?x=1&y=%2F");
    assert_eq!(echo["headers"]["x-custom"], json!(["one", "two"]));
    assert_eq!(echo["headers"]["content-length"], "5");
    assert_eq!(echo["body"], "hello");
    let answer = gateway.get("/status/204").await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["x-origin"], origin.name());
    assert!(answer.headers()["server"].to_str().unwrap().starts_with("Sluice"));
    let head = gateway.client().head(gateway.http_url("/bytes/1000")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "1000");
    assert_eq!(head.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn streams_large_bodies_without_changing_a_byte() {
    let (gateway, _origin) = one_origin().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    // With a length, and chunked.
    let bodies = [
        reqwest::Body::from(sent.clone()),
        reqwest::Body::wrap_stream(stream::iter(
            sent.chunks(70_001)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect::<Vec<_>>(),
        )),
    ];
    for body in bodies {
        let request = gateway.client().post(gateway.http_url("/echo")).body(body);
        let echoed = request.send().await.unwrap().bytes().await.unwrap();
        assert!(echoed == sent, "{} bytes came back", echoed.len());
    }
    let chunked = gateway.get("/stream/50/20000").await;
    assert_eq!(chunked.bytes().await.unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn a_response_begins_before_the_request_has_ended() {
    let (gateway, _origin) = one_origin().await;
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(b"3\r\none\r\n").await.unwrap();
    let early = raw::read_until(&mut client, "one").await;
    assert!(early.starts_with("HTTP/1.1 200"), "{early}");
    client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    raw::read_until(&mut client, "two").await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_whole() {
    let (gateway, _origin) = one_origin().await;
    let answer = gateway.get("/truncate/1000").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err());
    // The connection to the node is not used again.
    assert_eq!(gateway.get("/get").await.status(), 200);
}

#[tokio::test]
async fn upgrades_where_the_route_says_so_and_only_there() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let upstream = upstream(&origin);
    let on = json!({ "uri": "/ws", "enable_websocket": true, "upstream": upstream });
    gateway.put_route("on", on).await;
    let off = json!({ "uri": "/off", "upstream": upstream,
        "plugins": { "proxy-rewrite": { "uri": "/ws" } } });
    gateway.put_route("off", off).await;
    gateway.routed("/off").await;
    let connect = async |path: &str| {
        let socket = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://a{path}"), socket).await
    };
    let (mut socket, _) = connect("/ws").await.unwrap();
    for text in ["hello", "again", &"x".repeat(100_000)] {
        socket.send(text.into()).await.unwrap();
        let echo = socket.next().await.unwrap().unwrap();
        assert_eq!(echo.into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
    assert!(connect("/off").await.is_err());
}

#[tokio::test]
async fn answers_expectations_and_bodies_that_are_too_large() {
    let origin = Origin::start().await;
    let gateway = super::of_small_bodies().await;
    super::catch_all(&gateway, &origin).await;
    let url = gateway.http_url("/anything");
    let post = |body: reqwest::Body| gateway.client().post(&url).body(body).send();
    assert_eq!(post("x".repeat(1000).into()).await.unwrap().status(), 200);
    assert_eq!(post("x".repeat(1001).into()).await.unwrap().status(), 413);
    let chunks = [(); 2].map(|()| Ok::<_, std::io::Error>("x".repeat(600)));
    let chunked = post(reqwest::Body::wrap_stream(stream::iter(chunks))).await.unwrap();
    assert_eq!(chunked.status(), 413);

    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    let head =
        "POST /anything HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let interim = raw::read_until(&mut client, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    client.write_all(b"body").await.unwrap();
    let answer = raw::read_until(&mut client, "\"body\":\"body\"").await;
    assert!(!answer.contains("expect"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let (gateway, origin) = one_origin().await;
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    client.write_all(b"GET /stream/100000/1000?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut some = [0; 1000];
    client.read_exact(&mut some).await.unwrap();
    drop(client);
    let before = origin.requests();
    crate::support::eventually("the exchange is logged", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().contains("/stream/100000/1000")
    })
    .await;
    assert_eq!(origin.requests(), before);
}
