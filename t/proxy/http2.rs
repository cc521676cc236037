//! HTTP/2 connections: streams that are taken back, floods, stalls, and the way they end.
//!
//! The tests judge any server: they say what RFC 9113 and RFC 7541 demand, and where these leave a
//! choice, they take each.

mod judge;
mod preface;
mod frames;
mod blocks;
mod fields;
mod flow;
mod deaf;
mod streams;
mod floods;
mod clients;

use std::time::Duration;

use serde_json::json;

use super::one_origin;
use crate::support::gateway::Gateway;
use crate::support::h2::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
    INITIAL_WINDOW_SIZE, Outcome, RST_STREAM, WINDOW_UPDATE, block, request,
};
use crate::support::origin::Origin;
use crate::support::recorder::Recorder;
use crate::support::{PATIENCE, eventually};

const CANCEL: [u8; 4] = [0, 0, 0, 8];

async fn recorded(change: impl FnOnce(&mut serde_json::Value)) -> (Gateway, Recorder) {
    let recorder = Recorder::start().await;
    let gateway = Gateway::builder().config(change).start().await;
    gateway.put_route("1", json!({ "uri": "/*", "upstream": recorder.upstream() })).await;
    gateway.served("/").await;
    (gateway, recorder)
}

#[tokio::test]
async fn a_stream_that_is_taken_back_frees_the_node() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.answers("");
    let ended = recorder.ended();
    let mut client = Connection::open(gateway.ports().http).await;
    client.get(1, "/slow").await;
    eventually("the node was asked", || async {
        String::from_utf8_lossy(&recorder.seen()).contains("/slow")
    })
    .await;
    client.send(RST_STREAM, 0, 1, &CANCEL).await;
    eventually("the node is let go", || async { recorder.ended() > ended }).await;
    // The connection goes on.
    recorder.answers(crate::support::recorder::OK);
    client.get(3, "/").await;
    assert_eq!(client.outcome(3).await, Outcome::Status(200));
}

#[tokio::test]
async fn a_client_that_takes_back_more_than_it_lets_be_answered_is_sent_away() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.answers("");
    // All at once, as CVE-2023-44487 has it.
    let mut client = Connection::open(gateway.ports().http).await;
    let mut stream = 1;
    while client.get(stream, "/").await && client.send(RST_STREAM, 0, stream, &CANCEL).await {
        stream += 2;
        assert!(stream < 1_000_000, "the connection goes on");
    }
    // One after the other, each when it is under way.
    let mut client = Connection::open(gateway.ports().http).await;
    let mut stream = 1;
    loop {
        recorder.taken().await;
        client.get(stream, &format!("/{stream}")).await;
        let path = format!("/{stream} ");
        let asked = async {
            while !String::from_utf8_lossy(&recorder.seen()).contains(&path) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // Nothing is asked any more once the connection has ended.
        let ended = client.find(|frame| frame.kind == GOAWAY);
        tokio::select! {
            () = asked => {}
            _ = ended => break,
        }
        client.send(RST_STREAM, 0, stream, &CANCEL).await;
        stream += 2;
        assert!(stream < 1_000, "the connection goes on");
    }
    assert!(stream > 100, "it was given a chance");
}

/// The gateway resets the streams, the client only makes it do so (CVE-2025-8671).
#[tokio::test]
async fn a_client_that_has_its_requests_reset_is_sent_away_too() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.answers("");
    // A window widened by nothing, and by too much.
    for increment in [0_u32, 0x7fff_ffff] {
        let mut client = Connection::open(gateway.ports().http).await;
        let mut stream = 1;
        loop {
            client.get(stream, "/").await;
            client.send(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes()).await;
            let end = client.find(|frame| {
                frame.kind == GOAWAY || (frame.kind == RST_STREAM && frame.stream == stream)
            });
            match end.await {
                Some(frame) if frame.kind == RST_STREAM => stream += 2,
                _ => break,
            }
            assert!(stream < 1_000, "the connection goes on");
        }
        assert!(stream > 100, "it was given a chance");
    }
}

#[tokio::test]
async fn heads_have_a_bound_however_they_come() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.taken().await;
    let port = gateway.ports().http;
    let value = [b'x'; 10_000];
    let large: Vec<_> =
        request("GET", "/").into_iter().chain([(&b"x-a"[..], &value[..]); 7]).collect();
    let mut client = Connection::open(port).await;
    let whole = block(&large);
    let mut parts = whole.chunks(16_000);
    client.send(HEADERS, END_STREAM, 1, parts.next().unwrap()).await;
    let rest: Vec<_> = parts.collect();
    for (index, part) in rest.iter().enumerate() {
        let flags = if index + 1 == rest.len() { END_HEADERS } else { 0 };
        client.send(CONTINUATION, flags, 1, part).await;
    }
    let outcome = client.outcome(1).await;
    assert!(
        matches!(outcome, Outcome::Status(431) | Outcome::GoAway(ENHANCE_YOUR_CALM)),
        "{outcome:?}"
    );
    // Continuations without an end, empty and full.
    for part in [&b""[..], &whole[..16_000]] {
        let mut client = Connection::open(port).await;
        client.send(HEADERS, END_STREAM, 1, &block(&request("GET", "/"))).await;
        let mut sent = 0;
        while client.send(CONTINUATION, 0, 1, part).await {
            sent += 1;
            assert!(sent < 1_000_000, "the connection goes on");
        }
    }
    assert!(recorder.taken().await.is_empty());
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_node_stops() {
    let (mut gateway, origin) = one_origin().await;
    let mut client = Connection::open(gateway.ports().http).await;
    let mut idle = Connection::open(gateway.ports().http).await;
    idle.get(1, "/get").await;
    assert_eq!(idle.outcome(1).await, Outcome::Status(200));
    let asked = origin.requests();
    client.get(1, "/held").await;
    client.get(3, "/stream/4/1000?held=1").await;
    eventually("the node was asked", || async { origin.requests() >= asked + 2 }).await;
    gateway.signal("QUIT");
    let mut told_to_go = false;
    let mut over = 0;
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            told_to_go = true;
            origin.release();
        }
        assert_ne!(frame.kind, RST_STREAM);
        let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        over += usize::from(ends);
    }
    assert!(told_to_go);
    assert_eq!(over, 2, "both streams came to their end");
    assert!(idle.find(|frame| frame.kind == GOAWAY).await.is_some());
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_hold_its_node_for_ever() {
    let origin = Origin::start().await;
    let builder = Gateway::builder().config(|config| {
        config["nginx_config"]["http"] = json!({ "send_timeout": "1s" });
    });
    let gateway = builder.start().await;
    super::catch_all(&gateway, &origin).await;
    // A window of nothing, and a window that is not opened again.
    for window in [0, 1_000] {
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut client = Connection::with(gateway.ports().http, &settings).await;
        client.get(1, "/bytes/3000000").await;
        assert_eq!(client.outcome(1).await, Outcome::Status(200));
        let mut taken = 0;
        while let Some(frame) = client.next().await
            && frame.kind != RST_STREAM
        {
            taken += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        assert_eq!(taken, window as usize);
    }

    // One that is busy on the connection meanwhile: with pings, and with a stream that waits.
    let settings = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = Connection::with(gateway.ports().http, &settings).await;
    client.get(1, "/bytes/3000000").await;
    client.get(3, "/delay/600000").await;
    let given_up = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let frames = client.ping().await.expect("the connection goes on");
            if frames.iter().any(|frame| frame.kind == RST_STREAM && frame.stream == 1) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("the stream is given up");
}

#[tokio::test]
async fn lengths_are_those_of_what_comes() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let plugins = json!({ "proxy-rewrite": { "method": "HEAD" } });
    let route = json!({ "uri": "/head", "plugins": plugins, "upstream": recorder.upstream() });
    gateway.put_route("2", route).await;
    recorder.answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let mut client = Connection::open(gateway.ports().http).await.taking();
    client.get(1, "/head").await;
    let answer = client.answer(1).await;
    assert_eq!(
        (answer.outcome(), answer.field("content-length")),
        (Outcome::Status(200), Some("0"))
    );
}

#[tokio::test]
async fn slow_requests_are_given_up() {
    let (gateway, _recorder) = recorded(|config| {
        config["nginx_config"]["http"] =
            json!({ "client_body_timeout": "300ms", "client_header_timeout": "1s" });
    })
    .await;
    let port = gateway.ports().http;
    // A body that pauses.
    let mut client = Connection::open(port).await;
    let mut fields = request("POST", "/");
    fields.push((b"content-length", b"10"));
    client.headers(1, &fields, false).await;
    client.data(1, b"abc", false).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(408));
    // A head that does not end, and none at all.
    for begins in [true, false] {
        let mut client = Connection::open(port).await;
        if begins {
            client.send(HEADERS, 0, 1, &block(&request("GET", "/"))).await;
        }
        let ended =
            tokio::time::timeout(PATIENCE, async { while client.next().await.is_some() {} });
        ended.await.expect("the connection is closed");
    }
}

#[tokio::test]
async fn bodies_have_a_bound_and_early_answers_are_given() {
    let (gateway, recorder) = recorded(|config| {
        config["nginx_config"]["http"] = json!({ "client_max_body_size": 1000 });
    })
    .await;
    let port = gateway.ports().http;
    let mut client = Connection::open(port).await;
    let mut fields = request("POST", "/");
    fields.push((b"content-length", b"1001"));
    client.headers(1, &fields, false).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(413));
    let mut client = Connection::open(port).await;
    client.headers(1, &request("POST", "/"), false).await;
    client.data(1, &[b'x'; 1001], false).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(413));

    recorder.answers_early("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    let mut client = Connection::open(port).await;
    client.headers(1, &request("POST", "/"), false).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(404));
    // The rest of the body is not wanted, and other streams go on.
    let end = client.find(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0).await;
    assert!(end.is_some());
}

#[tokio::test]
async fn trailers_of_a_node_reach_the_client() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.answers(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 1\r\nConnection: x\r\n\r\n",
    );
    let mut client = Connection::open(gateway.ports().http).await;
    client.get(1, "/").await;
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
    let data = client.find(|frame| frame.kind == DATA).await.unwrap();
    assert_eq!((data.payload.as_slice(), data.flags & END_STREAM), (&b"ok"[..], 0));
    let trailers = client.find(|frame| frame.stream == 1).await.unwrap();
    assert_eq!((trailers.kind, trailers.flags & END_STREAM), (HEADERS, END_STREAM));
}
