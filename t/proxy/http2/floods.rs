//! What attackers send: cheap for them and dear for a careless server. Under each the gateway's
//! memory stays bounded and others are served, on the same worker; it ends the connection, reads no
//! more of it, or takes it all in its stride. Where a request makes work behind the gateway, only
//! the end of the connection will do.
//!
//! Sources: CVE-2019-9511 to 9518 (Netflix), CVE-2023-44487 (rapid reset), CVE-2024-27316
//! (CONTINUATION), CVE-2025-8671 (MadeYouReset), and the HPACK bomb (CVE-2016-6581).

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use super::judge::{asks, ping, posts, reset, settings, update};
use super::recorded;
use crate::proxy::catch_all;
use crate::support::PATIENCE;
use crate::support::gateway::Gateway;
use crate::support::h2::{
    CANCEL, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, Flood, HEADER_TABLE_SIZE,
    HEADERS, INITIAL_WINDOW_SIZE, LARGEST_WINDOW, ORDINARY, Outcome, PRIORITY, block, frame,
    request,
};
use crate::support::hpack::kept;
use crate::support::origin::Origin;
use crate::support::recorder::OK;

/// Who says so much and asks nothing is sent away.
const MUCH_TALK_BYTES: usize = 2 << 20;

/// How much more memory a flood may take, with what allocators keep.
const MEMORY_BYTES: usize = 48 << 20;

/// What the gateway's process holds (`VmRSS`).
pub(super) fn memory_bytes(gateway: &Gateway) -> usize {
    status_bytes(gateway, "VmRSS:")
}

fn status_bytes(gateway: &Gateway, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A gateway of one worker that sends everything to an origin: nobody is served beside a flood who
/// could not be.
pub(super) async fn one_worker() -> (Gateway, Origin) {
    let origin = Origin::start().await;
    let builder =
        Gateway::builder().config(|config| config["nginx_config"]["worker_processes"] = json!(1));
    let gateway = builder.start().await;
    catch_all(&gateway, &origin).await;
    (gateway, origin)
}

/// Floods by `batch` while another client is served, and says how far it got.
async fn flood(
    name: &str,
    gateway: &Gateway,
    client: &mut Connection,
    reads: bool,
    batch: impl FnMut(u32) -> Option<Vec<u8>>,
) -> Flood {
    let most = status_bytes(gateway, "VmHWM:");
    let over = Cell::new(false);
    let flooding = async {
        let flood = client.flood(reads, batch).await;
        over.set(true);
        flood
    };
    let bystanding = async {
        let mut bystander = Connection::open(gateway.ports().http).await.taking();
        let mut stream = 1;
        loop {
            let last = over.get();
            bystander.get(stream, "/bytes/10").await;
            let answer = bystander.answer(stream).await;
            assert_eq!(answer.outcome(), Outcome::Status(200), "{name}: the other client");
            stream += 2;
            if last {
                return;
            }
        }
    };
    let (flood, ()) = tokio::join!(flooding, bystanding);
    let now = status_bytes(gateway, "VmHWM:");
    assert!(now < most + MEMORY_BYTES, "{name}: from {most} to {now} bytes");
    flood
}

/// `count` times the same, in batches.
fn times(count: u32, bytes: Vec<u8>) -> impl FnMut(u32) -> Option<Vec<u8>> {
    let batch = bytes.repeat(500);
    move |at| (at < count / 500).then(|| batch.clone())
}

#[tokio::test]
async fn frames_that_are_cheap_to_send_are_cheap_to_take() {
    let (gateway, _origin) = one_worker().await;
    let port = gateway.ports().http;
    let toggles = [settings(&[(HEADER_TABLE_SIZE, 0)]), settings(&[(HEADER_TABLE_SIZE, 4096)])];
    let open: Vec<u8> = (0..100).flat_map(|at| posts(2 * at + 1)).collect();
    let windows =
        [settings(&[(INITIAL_WINDOW_SIZE, 0)]), settings(&[(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)])];
    let part = frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/")));
    for (name, before, bytes, count) in [
        ("PING", vec![], ping(), 300_000),
        ("SETTINGS", vec![], settings(&[]), 300_000),
        ("SETTINGS of the table", vec![], toggles.concat(), 100_000),
        ("SETTINGS of the windows of a hundred streams", open.clone(), windows.concat(), 20_000),
        ("SETTINGS of many", vec![], settings(&[(0x4242, 1); 2000]), 2_000),
        ("DATA of nothing", posts(1), frame(DATA, 0, 1, b""), 300_000),
        ("DATA of nothing behind the end", asks(1), frame(DATA, 0, 1, b""), 300_000),
        ("CONTINUATION of nothing", part.clone(), frame(CONTINUATION, 0, 1, b""), 300_000),
        (
            "CONTINUATION of a field",
            part.clone(),
            frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"),
            300_000,
        ),
        (
            "CONTINUATION of much",
            part,
            frame(CONTINUATION, 0, 1, &block(&[(b"x-a", &[b'x'; 16_000])])),
            4_000,
        ),
        ("PRIORITY", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), 300_000),
        ("WINDOW_UPDATE of the connection", vec![], update(0, 1), 300_000),
        ("WINDOW_UPDATE of a stream", open, update(1, 1), 300_000),
        (
            "WINDOW_UPDATE of a stream that is over",
            [posts(1), reset(1, CANCEL)].concat(),
            update(1, 1),
            300_000,
        ),
        (
            "RST_STREAM of one that is over",
            [posts(1), reset(1, CANCEL)].concat(),
            reset(1, CANCEL),
            300_000,
        ),
        ("unknown frames", vec![], frame(0xfe, 0, 0, b"x"), 300_000),
        ("long unknown frames", vec![], frame(0xfe, 0, 1, &[0; 16_384]), 4_000),
    ] {
        let is_much = count as usize * bytes.len() > MUCH_TALK_BYTES;
        for reads in [true, false] {
            let mut client = Connection::open(port).await;
            client.write(&before).await;
            let flood =
                flood(name, &gateway, &mut client, reads, times(count, bytes.clone())).await;
            // What the kernel has taken, the gateway has not yet.
            if is_much && reads && flood != Flood::Ended {
                println!("{name} has to end the connection");
                client.read_to_end().await;
            }
        }
    }
}

#[tokio::test]
async fn streams_that_are_named_and_not_used_are_not_kept() {
    let (gateway, _origin) = one_worker().await;
    let each = |bytes: fn(u32) -> Vec<u8>| {
        move |at: u32| {
            let streams = (0..500).map(|stream| 2 * (500 * at + stream) + 1);
            (at < 200).then(|| streams.flat_map(bytes).collect())
        }
    };
    let upper: fn(u32) -> Vec<u8> = |stream| {
        let fields = [&request("GET", "/get")[..], &[(b"X-Upper", b"x")]].concat();
        frame(HEADERS, ORDINARY, stream, &block(&fields))
    };
    // All with nobody who reads the answers, and with somebody.
    for (name, bytes) in [
        (
            "PRIORITY of ever more streams",
            (|stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9])) as fn(u32) -> Vec<u8>,
        ),
        ("requests that are refused", posts),
        ("requests that are malformed", upper),
        ("requests that expect what there is not", |stream| {
            let fields = [&request("POST", "/get")[..], &[(b"expect", b"magic")]].concat();
            frame(HEADERS, END_HEADERS, stream, &block(&fields))
        }),
        ("requests with a body of one byte", |stream| {
            [posts(stream), frame(DATA, END_STREAM, stream, b"x")].concat()
        }),
    ] {
        for reads in [true, false] {
            let mut client = Connection::open(gateway.ports().http).await;
            flood(name, &gateway, &mut client, reads, each(bytes)).await;
        }
    }
}

#[tokio::test]
async fn answers_that_are_drawn_out_byte_by_byte_are_sent_so() {
    let (gateway, _origin) = one_worker().await;
    let mut client = Connection::with(gateway.ports().http, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for at in 0..100 {
        client.get(2 * at + 1, "/bytes/1000000").await;
    }
    for reads in [true, false] {
        flood("one byte each", &gateway, &mut client, reads, |at| {
            (at < 500).then(|| (0..100).flat_map(|at| update(2 * at + 1, 1)).collect())
        })
        .await;
    }
}

#[tokio::test]
async fn requests_that_the_client_makes_the_gateway_reset_end_the_connection() {
    let (gateway, recorder) = recorded(|_| {}).await;
    recorder.answers("");
    let open = recorder.connections() - recorder.ended();
    type Breaks = fn(u32) -> Vec<u8>;
    let cases: [(&str, Breaks); 7] = [
        ("RST_STREAM", |stream| reset(stream, CANCEL)),
        ("an update of nothing", |stream| update(stream, 0)),
        ("an update of too much", |stream| update(stream, LARGEST_WINDOW)),
        ("DATA behind the end", |stream| frame(DATA, 0, stream, b"")),
        ("HEADERS behind the end", asks),
        ("a short PRIORITY", |stream| frame(PRIORITY, 0, stream, &[0; 4])),
        ("a body that is longer than was said", |_| vec![]),
    ];
    for (name, breaks) in cases {
        for reads in [true, false] {
            let mut client = Connection::open(gateway.ports().http).await;
            let flood = client
                .flood(reads, |at| {
                    let stream = 2 * at + 1;
                    let fields = request("GET", "/");
                    let begins = match breaks(stream) {
                        broken if broken.is_empty() => {
                            let fields = [&fields[..], &[(b"content-length", b"1")]].concat();
                            let head = frame(HEADERS, END_HEADERS, stream, &block(&fields));
                            [head, frame(DATA, 0, stream, b"xx")].concat()
                        }
                        broken => {
                            let flags = ORDINARY;
                            [frame(HEADERS, flags, stream, &block(&fields)), broken].concat()
                        }
                    };
                    (at < 50_000).then_some(begins)
                })
                .await;
            // What comes behind its end is read for a while, so that the client learns of that.
            assert_ne!(flood, Flood::Stands, "{name}, reads: {reads}");
            if flood == Flood::Taken {
                client.read_to_end().await;
            }
        }
    }
    // Nothing is left of all that.
    crate::support::eventually("the node is let go", || async {
        recorder.connections() - recorder.ended() <= open
    })
    .await;
    recorder.answers(OK);
    gateway.served("/").await;
}

#[tokio::test]
async fn a_small_block_that_means_a_large_head_is_not_unpacked() {
    let (gateway, _origin) = one_worker().await;
    let plain = block(&request("GET", "/bytes/1"));
    // An entry that fills the table, and then nothing but references to it: 64 MB in a frame.
    let entry = kept(b"x-bomb", &[b'x'; 4000]);
    let bomb = [&plain[..], &entry, &[0x80 | 62; 12_000]].concat();
    // Fields without a byte of their own, and crumbs that are to be joined.
    let empty = [&plain[..], &kept(b"cookie", b""), &[0x80 | 62; 16_000]].concat();
    let crumbs = [&plain[..], &kept(b"cookie", b"a=b"), &[0x80 | 62; 16_000]].concat();
    for (name, bytes) in [("one entry", bomb), ("nothing", empty), ("crumbs", crumbs)] {
        for reads in [true, false] {
            let mut client = Connection::open(gateway.ports().http).await;
            flood(name, &gateway, &mut client, reads, |at| {
                let flags = ORDINARY;
                (at < 50).then(|| frame(HEADERS, flags, 2 * at + 1, &bytes))
            })
            .await;
        }
        let mut client = Connection::open(gateway.ports().http).await;
        client.send(HEADERS, ORDINARY, 1, &bytes).await;
        let outcome = client.outcome(1).await;
        let is_refused =
            matches!(outcome, Outcome::Status(431) | Outcome::GoAway(11) | Outcome::Closed);
        assert!(is_refused, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up_later_in_a_connection_too() {
    let origin = Origin::start().await;
    let builder = Gateway::builder().config(|config| {
        config["nginx_config"]["http"] = json!({ "client_header_timeout": "1s" });
    });
    let gateway = builder.start().await;
    catch_all(&gateway, &origin).await;
    let begins = frame(HEADERS, END_STREAM, 5, &block(&request("GET", "/never")));
    for (under_way, dribbles) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut client = Connection::open(gateway.ports().http).await;
        client.get(1, "/status/200").await;
        assert!(client.answer(1).await.is_ok());
        // While a node is waited for, that has a timeout of its own.
        if under_way {
            client.get(3, "/delay/1500").await;
        }
        client.write(&begins).await;
        let ends = async {
            while dribbles && client.send(CONTINUATION, 0, 5, b"").await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            client.read_to_end().await;
        };
        let case = format!("a request is under way: {under_way}, it dribbles: {dribbles}");
        let ended = tokio::time::timeout(PATIENCE, ends).await;
        ended.unwrap_or_else(|_| panic!("the connection goes on; {case}"));
    }
}
