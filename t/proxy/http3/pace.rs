//! Responses at the client's pace, and clients that have none.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Quic, REQUEST_CANCELLED, request, serve, speaking};
use crate::proxy::catch_all;
use crate::support::authority::Authority;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::recorder::Recorder;
use crate::support::{PATIENCE, eventually};

/// A gateway that waits five seconds for its clients: long enough for one to do something meanwhile
/// on a machine that is busy.
async fn impatient() -> (Gateway, Origin, Authority) {
    with(json!({ "send_timeout": "5s" })).await
}

/// A gateway by `http` of `nginx_config` that sends everything to an origin.
async fn with(http: Value) -> (Gateway, Origin, Authority) {
    let origin = Origin::start().await;
    let configured = |config: &mut Value| config["nginx_config"]["http"] = http;
    let gateway = speaking().config(configured).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    (gateway, origin, ca)
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_hold_its_node_for_ever() {
    let (gateway, _origin, ca) = impatient().await;
    let recorder = Recorder::start().await;
    let large = json!({ "uri": "/large", "priority": 1, "upstream": recorder.upstream() });
    gateway.put_route("large", large).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n";
    recorder.answers([head.as_bytes(), &[b'x'; 3_000_000]].concat());
    let mut quic = Quic::start(&gateway, &ca);
    // A window that has no room for the head, and one that is not opened again; on a connection
    // where another stream waits for its node, and the client pings or asks for more.
    for (conn, window, asks) in [("a", 10, false), ("b", 100_000, false), ("c", 100_000, true)] {
        assert!(quic.connect_with(conn, "test.com", json!({ "window": window })).await);
        let ended = recorder.ended();
        let slow = quic.begin(conn, request("GET", "/delay/600000"), json!({})).await;
        let held = quic.begin(conn, request("GET", "/large"), json!({ "held": true })).await;
        let end = Instant::now() + PATIENCE;
        while recorder.ended() == ended {
            assert!(Instant::now() < end, "the node is not let go");
            if asks {
                let stream = quic.begin(conn, request("GET", "/bytes/5000"), json!({})).await;
                assert_eq!(quic.end(conn, stream).await["body_bytes"], 5000);
            } else {
                quic.command(json!({ "do": "ping", "conn": conn })).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = quic.end(conn, held).await;
        assert_eq!(told["reset"], REQUEST_CANCELLED, "{told}");
        let has_head = window > 1000;
        assert_eq!(told["status"].is_null(), !has_head, "{told}");
        let taken = told["body_bytes"].as_u64().unwrap();
        assert!(taken <= window && (taken > window / 2 || !has_head), "{taken} of {window}");
        // The others go on.
        let stream = quic.begin(conn, request("GET", "/bytes/5000"), json!({})).await;
        assert_eq!(quic.end(conn, stream).await["body_bytes"], 5000);
        quic.command(json!({ "do": "take_back", "conn": conn, "stream": slow })).await;
    }
}

/// Bits of a connection's window are taken by any of its streams.
#[tokio::test]
async fn a_stream_that_waits_for_others_is_not_given_up() {
    let (gateway, _origin, ca) = impatient().await;
    let mut quic = Quic::start(&gateway, &ca);
    for conn in ["a", "shut"] {
        let windows = json!({ "window": 1000, "most": 20_000 });
        assert!(quic.connect_with(conn, "test.com", windows).await);
    }
    let large = request("GET", "/bytes/300000");
    let held = quic.begin("a", large.clone(), json!({ "held": true })).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(quic.begin("a", large.clone(), json!({})).await);
    }
    quic.command(json!({ "do": "trickle", "conn": "a", "count": 1000 })).await;
    // One does not wait for others, but for its own window; and where the client takes nothing more
    // at all, all are given up.
    let told = quic.end("a", held).await;
    assert_eq!(
        (&told["status"], &told["reset"]),
        (&json!(200), &json!(REQUEST_CANCELLED)),
        "{told}"
    );
    let stream = quic.begin("shut", large, json!({})).await;
    assert_eq!(quic.end("shut", stream).await["reset"], REQUEST_CANCELLED);
    quic.command(json!({ "do": "widen", "conn": "a", "count": 2_000_000 })).await;
    for stream in streams {
        let told = quic.end("a", stream).await;
        assert_eq!(
            (&told["status"], &told["body_bytes"]),
            (&json!(200), &json!(300_000)),
            "{told}"
        );
    }
}

/// Its node has been let go long before, and nothing else happens on the connection.
#[tokio::test]
async fn a_client_has_its_time_for_the_end_of_a_response() {
    let (gateway, origin, ca) = with(json!({ "keepalive_timeout": "1s" })).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    quic.command(json!({ "do": "deaf", "conn": "a", "deaf": true })).await;
    let asked = origin.requests();
    let stream = quic.begin("a", request("GET", "/bytes/50000"), json!({})).await;
    eventually("the node was asked", || async { origin.requests() > asked }).await;
    // Idle connections end meanwhile, one after the other.
    for conn in ["b", "c", "d", "e"] {
        assert!(quic.connect(conn, "test.com").await);
        let get = quic.begin(conn, request("GET", "/get"), json!({})).await;
        assert_eq!(quic.end(conn, get).await["status"], 200);
        quic.command(json!({ "do": "ended", "conn": conn })).await;
    }
    quic.command(json!({ "do": "deaf", "conn": "a", "deaf": false })).await;
    let told = quic.end("a", stream).await;
    assert_eq!((&told["status"], &told["body_bytes"]), (&json!(200), &json!(50_000)), "{told}");
}
