//! Header blocks in frames (RFC 9113, sections 4.3, 6.2 and 6.10), and frames that are too long.

use super::judge::{
    Demand, Judge, PROTOCOL, SIZE, SIZE_OR_PROTOCOL, UNKNOWN, asks, check, held, ping, posts,
    reset, settings, update, whole,
};
use crate::support::h2::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, GOAWAY, HEADERS,
    MAX_FRAME_SIZE, ORDINARY, PADDED, PING, PRIORITY, PROTOCOL_ERROR, SETTINGS, STREAM_CLOSED,
    WITH_PRIORITY, frame,
};

/// A header block in two.
fn halves() -> (Vec<u8>, Vec<u8>) {
    let mut first = whole();
    let second = first.split_off(20);
    (first, second)
}

#[tokio::test]
async fn header_blocks_and_streams() {
    let (first, second) = halves();
    let begins = |stream| frame(HEADERS, END_STREAM, stream, &first);
    let ends = |stream| frame(CONTINUATION, END_HEADERS, stream, &second);
    let empty = || frame(CONTINUATION, 0, 1, &[]);
    let headers = |flags: u8, before: &[u8], after: &[u8]| {
        vec![frame(HEADERS, ORDINARY | flags, 1, &[before, &whole()[..], after].concat())]
    };
    let closed: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    let go_on = Demand::GoOn;
    check(vec![
        ("HEADERS: plain", headers(0, b"", b""), go_on),
        ("HEADERS: padded", headers(PADDED, b"\x03", b"\0\0\0"), go_on),
        ("HEADERS: with a priority", headers(WITH_PRIORITY, b"\0\0\0\0\x09", b""), go_on),
        (
            "HEADERS: padded, with a priority",
            headers(PADDED | WITH_PRIORITY, b"\x02\x80\0\0\x09\x09", b"\0\0"),
            go_on,
        ),
        ("HEADERS: unknown flags", headers(0xd2, b"", b""), go_on),
        ("HEADERS: the reserved bit", vec![frame(HEADERS, ORDINARY, 0x8000_0001, &whole())], go_on),
        ("HEADERS: in two", vec![begins(1), ends(1)], go_on),
        ("HEADERS: in two, and parts of nothing", vec![begins(1), empty(), ends(1)], go_on),
        (
            "HEADERS: nothing, and all in the second",
            vec![frame(HEADERS, END_STREAM, 1, &[]), frame(CONTINUATION, END_HEADERS, 1, &whole())],
            go_on,
        ),
        (
            "HEADERS: in bytes",
            vec![
                frame(HEADERS, END_STREAM, 1, &[]),
                whole().iter().flat_map(|byte| frame(CONTINUATION, 0, 1, &[*byte])).collect(),
                frame(CONTINUATION, END_HEADERS, 1, &[]),
            ],
            Demand::Choice(&[11]),
        ),
        ("HEADERS: streams left out", vec![asks(7), asks(4097)], go_on),
        ("HEADERS: more padding than frame", headers(PADDED, b"\xff", b""), PROTOCOL),
        (
            "HEADERS: padded, without a length of it",
            vec![frame(HEADERS, ORDINARY | PADDED, 1, b"")],
            SIZE_OR_PROTOCOL,
        ),
        (
            "HEADERS: too short for a priority",
            vec![frame(HEADERS, ORDINARY | WITH_PRIORITY, 1, &[0; 4])],
            SIZE_OR_PROTOCOL,
        ),
        ("HEADERS: on stream 0", vec![asks(0)], PROTOCOL),
        ("HEADERS: an even stream", vec![asks(2)], PROTOCOL),
        ("HEADERS: backwards", vec![held(5), asks(3)], Demand::Connection(closed)),
        ("HEADERS: behind the end", vec![held(1), asks(1)], Demand::Stream(&[STREAM_CLOSED])),
        (
            "HEADERS: on a stream that was reset",
            vec![posts(1), reset(1, CANCEL), asks(1)],
            Demand::Choice(closed),
        ),
        ("CONTINUATION: of nothing", vec![ends(1)], PROTOCOL),
        (
            "CONTINUATION: on stream 0",
            vec![begins(1), frame(CONTINUATION, END_HEADERS, 0, &second)],
            PROTOCOL,
        ),
        ("CONTINUATION: on another stream", vec![begins(1), ends(3)], PROTOCOL),
        ("CONTINUATION: behind the end", vec![held(1), ends(1)], PROTOCOL),
        ("CONTINUATION: behind its own end", vec![begins(1), ends(1), ends(1)], PROTOCOL),
        ("CONTINUATION: behind DATA", vec![posts(1), frame(DATA, 0, 1, b"x"), ends(1)], PROTOCOL),
        ("in a header block: PING", vec![begins(1), ping(), ends(1)], PROTOCOL),
        ("in a header block: SETTINGS", vec![begins(1), settings(&[]), ends(1)], PROTOCOL),
        (
            "in a header block: DATA",
            vec![posts(1), begins(3), frame(DATA, 0, 1, b"x"), ends(3)],
            PROTOCOL,
        ),
        (
            "in a header block: DATA of its own",
            vec![frame(HEADERS, 0, 1, &first), frame(DATA, 0, 1, b"x"), ends(1)],
            PROTOCOL,
        ),
        ("in a header block: another one", vec![begins(1), asks(3), ends(1)], PROTOCOL),
        (
            "in a header block: HEADERS of its own",
            vec![begins(1), frame(HEADERS, ORDINARY, 1, &second)],
            PROTOCOL,
        ),
        ("in a header block: RST_STREAM", vec![begins(1), reset(1, CANCEL), ends(1)], PROTOCOL),
        (
            "in a header block: PRIORITY",
            vec![begins(1), frame(PRIORITY, 0, 1, &[0; 5]), ends(1)],
            PROTOCOL,
        ),
        ("in a header block: WINDOW_UPDATE", vec![begins(1), update(0, 1), ends(1)], PROTOCOL),
        (
            "in a header block: GOAWAY",
            vec![begins(1), frame(GOAWAY, 0, 0, &[0; 8]), ends(1)],
            PROTOCOL,
        ),
        (
            "in a header block: an unknown frame",
            vec![begins(1), frame(UNKNOWN, 0, 1, b"x"), ends(1)],
            PROTOCOL,
        ),
        (
            "in a header block: an unknown frame of the connection",
            vec![begins(1), frame(UNKNOWN, 0, 0, b"x"), ends(1)],
            PROTOCOL,
        ),
    ])
    .await;
}

#[tokio::test]
async fn frames_that_are_too_long() {
    let mut judge = Judge::start().await;
    let announced = judge.connect().await.setting(MAX_FRAME_SIZE).await.unwrap_or(16_384);
    assert!((16_384..=0xff_ffff).contains(&announced), "{announced}");
    let long = vec![0; announced as usize + 1];
    let stream = Demand::Stream(&[FRAME_SIZE_ERROR]);
    for (name, before, kind, on, demand) in [
        ("DATA", posts(1), DATA, 1, stream),
        // What is read of a header block, or said of the connection, cannot be left out.
        ("HEADERS", vec![], HEADERS, 1, SIZE),
        ("CONTINUATION", frame(HEADERS, END_STREAM, 1, &[]), CONTINUATION, 1, SIZE),
        ("SETTINGS", vec![], SETTINGS, 0, SIZE),
        ("GOAWAY", vec![], GOAWAY, 0, SIZE),
        ("PING", vec![], PING, 0, SIZE),
        ("an unknown frame", vec![], UNKNOWN, 0, stream),
    ] {
        let bytes = [before.clone(), frame(kind, END_HEADERS & !ACK, on, &long)].concat();
        judge.check(name, &bytes, demand).await;
        // That it is too long is known before it is there.
        if kind != DATA && kind != UNKNOWN {
            judge.check(&format!("the head of {name}"), &bytes[..before.len() + 9], demand).await;
        }
    }
    // As long as may be.
    let whole = vec![b'x'; announced as usize];
    judge
        .check(
            "DATA that is not",
            &[posts(1), frame(DATA, END_STREAM, 1, &whole)].concat(),
            Demand::GoOn,
        )
        .await;
    judge.end();
}
