//! Windows (RFC 9113, sections 5.2 and 6.9). That the gateway sends no more than they allow is
//! looked after by `support/h2.rs` in every test.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxy::{catch_all, one_origin};
use crate::support::gateway::Gateway;
use crate::support::h2::{
    CANCEL, Connection, DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, LARGEST_WINDOW, Outcome,
    PING, RST_STREAM, WINDOW_BYTES, request,
};
use crate::support::origin::Origin;
use crate::support::{PATIENCE, eventually};

/// Reads until `stream` has had `bytes` of a body, and then makes sure that it gets no more. Says
/// whether it has ended.
async fn gets(client: &mut Connection, stream: u32, bytes: usize, case: &str) -> bool {
    let (mut had, mut over) = (0, false);
    let mut count = |kind, of, flags: u8, length| {
        if of == stream && kind == DATA {
            had += length;
            over |= flags & END_STREAM != 0;
        }
        had
    };
    let mut now = 0;
    while now < bytes {
        let frame = client.next().await.expect("more of the body");
        now = count(frame.kind, frame.stream, frame.flags, frame.payload.len());
    }
    for _ in 0..2 {
        for frame in client.ping().await.expect("the connection goes on") {
            now = count(frame.kind, frame.stream, frame.flags, frame.payload.len());
        }
    }
    assert_eq!(now, bytes, "{case}");
    over
}

async fn begun(client: &mut Connection, stream: u32, path: &str) {
    client.get(stream, path).await;
    assert_eq!(client.outcome(stream).await, Outcome::Status(200), "{path}");
}

#[tokio::test]
async fn a_body_comes_as_the_streams_window_lets_it() {
    let (gateway, _origin) = one_origin().await;
    let port = gateway.ports().http;
    let mut client = Connection::with(port, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    // A body of nothing needs no window, nor do heads.
    client.get(1, "/status/200").await;
    assert!(client.answer(1).await.is_ok());
    begun(&mut client, 3, "/bytes/100").await;
    gets(&mut client, 3, 0, "a window of 0").await;
    client.update(3, 1).await;
    gets(&mut client, 3, 1, "one byte").await;
    client.announce(&[(INITIAL_WINDOW_SIZE, 10)]).await;
    gets(&mut client, 3, 10, "ten by SETTINGS").await;
    client.announce(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    gets(&mut client, 3, 0, "ten less").await;
    client.update(3, 10).await;
    gets(&mut client, 3, 0, "as many as were owed").await;
    client.update(3, 5).await;
    gets(&mut client, 3, 5, "five more").await;
    // Below nothing, and up again.
    client.announce(&[(INITIAL_WINDOW_SIZE, 50)]).await;
    gets(&mut client, 3, 50, "fifty by SETTINGS").await;
    client.announce(&[(INITIAL_WINDOW_SIZE, 1)]).await;
    client.announce(&[(INITIAL_WINDOW_SIZE, 51)]).await;
    gets(&mut client, 3, 1, "one more").await;
    // Several at once count together.
    client.announce(&[(INITIAL_WINDOW_SIZE, 1000), (INITIAL_WINDOW_SIZE, 61)]).await;
    gets(&mut client, 3, 10, "the last of two").await;
    // What is left takes no more than there is of it.
    client.update(3, LARGEST_WINDOW - 100).await;
    assert!(gets(&mut client, 3, 23, "the rest").await);
    // A stream that begins later has the window of now.
    begun(&mut client, 5, "/bytes/100").await;
    gets(&mut client, 5, 61, "a new stream").await;
    client.update(5, 39).await;
    assert!(gets(&mut client, 5, 39, "as many as are left").await);
}

#[tokio::test]
async fn a_body_comes_as_the_connections_window_lets_it() {
    let (gateway, _origin) = one_origin().await;
    let port = gateway.ports().http;
    let mut client = Connection::with(port, &[(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)]).await;
    let window = WINDOW_BYTES as usize;
    begun(&mut client, 1, "/bytes/1000000").await;
    gets(&mut client, 1, window, "all of the window").await;
    // Others are answered, as far as that goes without a window.
    begun(&mut client, 3, "/bytes/1000").await;
    gets(&mut client, 3, 0, "nothing is left").await;
    client.get(5, "/status/200").await;
    assert!(client.answer(5).await.is_ok());
    // A reset gives nothing back by itself, but leaves what comes to the other.
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    client.ping().await.unwrap();
    client.update(0, 400).await;
    gets(&mut client, 3, 400, "what was given").await;
    client.update(0, 600).await;
    assert!(gets(&mut client, 3, 600, "the rest").await);

    // Of two that wait, each comes to its end.
    let mut client = Connection::with(port, &[(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)]).await;
    begun(&mut client, 1, "/bytes/200000").await;
    gets(&mut client, 1, window, "all of the window").await;
    begun(&mut client, 3, "/bytes/200000").await;
    let mut client = client.taking();
    client.update(0, 10_000).await;
    let (mut had, mut over) = (0, 0);
    while over < 2 {
        let frame = client.find(|frame| frame.kind == DATA).await.unwrap();
        had += frame.payload.len();
        over += usize::from(frame.flags & END_STREAM != 0);
    }
    assert_eq!(had, 400_000 - window);
}

#[tokio::test]
async fn a_body_as_large_as_the_window_needs_no_more_of_it() {
    let (gateway, _origin) = one_origin().await;
    for path in ["/bytes/65535", "/stream/1/65535", "/stream/3/21845"] {
        let mut client = Connection::open(gateway.ports().http).await;
        client.get(1, path).await;
        let answer = client.answer(1).await;
        assert!(answer.is_ok() && answer.body.len() == 65_535, "{path}: {}", answer.body.len());
        // A head and an end, but no byte.
        client.get(3, "/status/200").await;
        assert!(client.answer(3).await.is_ok(), "{path}");
    }
}

#[tokio::test]
async fn uploads_larger_than_the_windows_go_through() {
    let (gateway, _origin) = one_origin().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut client = Connection::open(gateway.ports().http).await.taking();
    // One after the other, and two at once.
    for streams in [&[1][..], &[3, 5]] {
        for stream in streams {
            client.headers(*stream, &request("POST", "/echo"), false).await;
        }
        for part in sent.chunks(100_000) {
            for stream in streams {
                assert!(client.upload(*stream, part, false).await);
            }
        }
        for stream in streams {
            client.data(*stream, b"", true).await;
        }
        for answer in client.answers(streams).await {
            assert!(answer.is_ok() && answer.body == sent, "{} bytes came back", answer.body.len());
        }
    }
    // Padding takes of the window what it is, and is not the node's.
    for stream in [7, 9, 11] {
        client.headers(stream, &request("POST", "/anything"), false).await;
        for _ in 0..2000 {
            assert!(client.padded(stream, b"xy", 200).await);
        }
        client.upload(stream, b"z", true).await;
        let answer = client.answer(stream).await;
        let echo: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(echo["body_bytes"], 4001);
    }
}

#[tokio::test]
async fn a_client_may_open_its_windows_again_for_every_few_bytes() {
    let (gateway, _origin) = one_origin().await;
    let port = gateway.ports().http;
    let mut client = Connection::with(port, &[(INITIAL_WINDOW_SIZE, 5)]).await.taking();
    // Twenty-six bytes to each five, 80,000 times.
    let streams: Vec<u32> = (0..100).map(|at| 2 * at + 1).collect();
    for stream in &streams {
        client.get(*stream, "/bytes/4000").await;
    }
    for answer in client.answers(&streams).await {
        assert!(answer.is_ok() && answer.body.len() == 4000, "{answer:?}");
    }
}

#[tokio::test]
async fn what_nobody_wants_does_not_use_up_the_connections_window() {
    let (gateway, _origin) = one_origin().await;
    let mut client = Connection::open(gateway.ports().http).await.taking();
    client.setting(INITIAL_WINDOW_SIZE).await;
    // Bodies that are sent behind an answer that needed none of them: one refused at once, and one
    // taken back behind its body.
    let mut refused = request("POST", "/anything");
    refused.push((b"expect", b"magic"));
    let mut stream = 1;
    for _ in 0..60 {
        client.headers(stream, &refused, false).await;
        let some = vec![b'x'; client.may_send(stream).min(60_000)];
        assert!(!some.is_empty(), "the window of the connection is used up at stream {stream}");
        for part in some.chunks(16_384) {
            client.data(stream, part, false).await;
        }
        assert_eq!(client.outcome(stream).await, Outcome::Status(417));
        client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
        client.ping().await.unwrap();
        stream += 2;
        client.headers(stream, &request("POST", "/anything"), false).await;
        let some = vec![b'x'; client.may_send(stream).min(60_000)];
        for part in some.chunks(16_384) {
            client.data(stream, part, false).await;
        }
        // Some that come when it is over already.
        client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
        client.ping().await.unwrap();
        stream += 2;
    }
    client.headers(stream, &request("POST", "/echo"), false).await;
    assert!(client.upload(stream, &vec![b'x'; 3_000_000], true).await);
    assert_eq!(client.answer(stream).await.body.len(), 3_000_000);
}

#[tokio::test]
async fn many_streams_get_fair_shares() {
    const SIZE: usize = 1 << 20;
    let (gateway, _origin) = one_origin().await;
    let settings = [(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)];
    let streams: Vec<u32> = (0..20).map(|at| 2 * at + 1).collect();
    let mut client = Connection::with(gateway.ports().http, &settings).await;
    for stream in &streams {
        client.get(*stream, &format!("/bytes/{SIZE}")).await;
    }
    // All have begun before there is much to share.
    let mut begun = 0;
    let mut had = vec![0; 20];
    while begun < 20 {
        let frame = client.next().await.unwrap();
        begun += usize::from(frame.kind == HEADERS);
        if frame.kind == DATA {
            had[frame.stream as usize / 2] += frame.payload.len();
        }
    }
    // Opened by so much at once that there is a whole frame for each.
    let step = 40 * 16_384;
    let (mut taken, mut opened) = (had.iter().sum::<usize>(), WINDOW_BYTES as usize);
    let mut over = 0;
    let mut behind = None;
    while over < 20 {
        if taken == opened {
            client.update(0, step as u32).await;
            opened += step;
        }
        let frame = client.find(|frame| frame.kind == DATA).await.unwrap();
        had[frame.stream as usize / 2] += frame.payload.len();
        taken += frame.payload.len();
        if frame.flags & END_STREAM != 0 {
            over += 1;
            behind.get_or_insert_with(|| had.clone());
        }
    }
    assert_eq!(had, [SIZE; 20]);
    let behind = behind.unwrap();
    assert!(behind.iter().all(|had| *had > SIZE / 2), "when the first had all: {behind:?}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_harms_nobody_and_is_let_go() {
    let origin = Origin::start().await;
    let builder = Gateway::builder().config(|config| {
        config["nginx_config"]["http"] = json!({ "send_timeout": "5s" });
        config["nginx_config"]["worker_processes"] = json!(1);
    });
    let gateway = builder.start().await;
    catch_all(&gateway, &origin).await;
    let port = gateway.ports().http;
    let before = super::floods::memory_bytes(&gateway);
    // Windows that never end, on a socket that nobody reads.
    let mut deaf = Connection::with(port, &[(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)]).await;
    deaf.update(0, LARGEST_WINDOW - 65_535).await;
    let asked = origin.requests();
    for at in 0..100 {
        deaf.get(2 * at + 1, "/stream/1000/100000").await;
    }
    eventually("the node was asked", || async { origin.requests() >= asked + 100 }).await;
    let mut other = Connection::open(port).await.taking();
    for at in 0..20 {
        other.get(2 * at + 1, "/bytes/100000").await;
        assert!(other.answer(2 * at + 1).await.is_ok());
    }
    let after = super::floods::memory_bytes(&gateway);
    assert!(after < before + (64 << 20), "from {before} to {after} bytes");
    // It is let go: what it sends is not taken any more.
    let end = Instant::now() + PATIENCE;
    while deaf.send(PING, 0, 0, &[0; 8]).await {
        assert!(Instant::now() < end, "the connection goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One stream that is not read leaves the others of its connection alone.
    let mut client = Connection::open(port).await;
    client.update(0, LARGEST_WINDOW - 65_535).await;
    begun(&mut client, 1, "/bytes/3000000").await;
    gets(&mut client, 1, 65_535, "a window").await;
    for at in 1..20 {
        client.get(2 * at + 1, "/bytes/60000").await;
        assert!(client.answer(2 * at + 1).await.is_ok());
    }
    client.update(1, LARGEST_WINDOW - 65_535).await;
    gets(&mut client, 1, 3_000_000 - 65_535, "the rest").await;
}
