//! What a client begins with (RFC 9113, section 3.4).

use futures_util::future::join_all;
use serde_json::json;

use super::judge::{Demand, Judge, UNKNOWN, asks, ping, settings};
use crate::support::gateway::Gateway;
use crate::support::h2::{
    ACK, Connection, FRAME_SIZE_ERROR, PING, PREFACE, PROTOCOL_ERROR, SETTINGS, frame,
};

#[tokio::test]
async fn prefaces() {
    let mut judge = Judge::start().await;
    let asked = judge.origin.requests();
    let settings = settings(&[]);
    for (name, bytes) in [
        ("another word", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &settings[..], &asks(1)].concat()),
        (
            "another version",
            [b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", &settings[..], &asks(1)].concat(),
        ),
        ("LFs for line ends", [b"PRI * HTTP/2.0\n\nSM\n\n    ", &settings[..], &asks(1)].concat()),
        ("HEADERS first", [PREFACE, &asks(1)].concat()),
        ("PING first", [PREFACE, &ping(), &settings[..], &asks(1)].concat()),
        (
            "an ACK first",
            [PREFACE, &frame(SETTINGS, ACK, 0, &[]), &settings[..], &asks(1)].concat(),
        ),
        (
            "an unknown frame first",
            [PREFACE, &frame(UNKNOWN, 0, 0, &[]), &settings[..], &asks(1)].concat(),
        ),
        ("the preface twice", [PREFACE, PREFACE, &settings[..], &asks(1)].concat()),
    ] {
        // The second preface is a frame of 5,263,945 bytes to whoever looks at its length.
        let codes = Demand::Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
        let mut client = Connection::silent(judge.gateway.ports().http).await;
        client.write(&bytes).await;
        // What is not HTTP/2 may be answered in HTTP/1.1, which is no frame.
        if client.is_text().await {
            continue;
        }
        judge.watch(name, client, codes).await;
    }
    if judge.origin.requests() != asked {
        judge.wrong("a node was asked");
    }
    // Byte by byte.
    let mut client = Connection::silent(judge.gateway.ports().http).await;
    for byte in [PREFACE, &settings[..], &asks(1), &frame(PING, 0, 0, &[1; 8])].concat() {
        client.write(&[byte]).await;
    }
    judge.watch("slow", client, Demand::GoOn).await;
    judge.end();
}

#[tokio::test]
async fn a_preface_that_is_cut_holds_nothing() {
    let builder = Gateway::builder().config(|config| {
        config["nginx_config"]["http"] = json!({ "client_header_timeout": "1s" });
    });
    let gateway = builder.start().await;
    let whole = [PREFACE, &settings(&[])].concat();
    // At each byte, by clients that say that no more will come, and by others.
    let cut = |length: usize, says: bool| {
        let (port, begun) = (gateway.ports().http, &whole[..length]);
        async move {
            let mut client = Connection::silent(port).await;
            client.write(begun).await;
            if says {
                client.half_close().await;
            }
            client.read_to_end().await;
        }
    };
    let lengths = 0..=whole.len();
    join_all(lengths.flat_map(|length| [cut(length, true), cut(length, false)])).await;
}
