//! Frames that are wrong, and frames that are unusual (RFC 9113, sections 4 to 6).

use super::judge::{
    Demand, FLOW, Judge, PROTOCOL, SIZE, SIZE_OR_PROTOCOL, UNKNOWN, check, held, posts, reset,
    settings, update, whole,
};
use crate::support::h2::{
    ACK, CANCEL, Connection, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, LARGEST_WINDOW, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, NO_ERROR, ORDINARY, Outcome, PADDED, PING, PRIORITY, PROTOCOL_ERROR,
    PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, WITH_PRIORITY, frame,
};

#[tokio::test]
async fn settings_and_pings() {
    let setting = |name, value| vec![settings(&[(name, value)])];
    let go_on = Demand::GoOn;
    check(vec![
        ("SETTINGS: nothing", vec![settings(&[])], go_on),
        (
            "SETTINGS: unknown ones",
            vec![settings(&[(0x4242, 7), (0, 1), (0xffff, u32::MAX)])],
            go_on,
        ),
        (
            "SETTINGS: one twice",
            vec![settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 9)])],
            go_on,
        ),
        ("SETTINGS: unknown flags", vec![frame(SETTINGS, 0xfe, 0, &[])], go_on),
        (
            "SETTINGS: the most of all",
            vec![settings(&[
                (1, u32::MAX),
                (2, 1),
                (3, u32::MAX),
                (4, LARGEST_WINDOW),
                (5, 0xff_ffff),
                (6, u32::MAX),
            ])],
            go_on,
        ),
        (
            "SETTINGS: the least of all",
            vec![settings(&[(1, 0), (2, 0), (3, 0), (5, 16_384)])],
            go_on,
        ),
        (
            "SETTINGS: an ACK of nothing",
            vec![frame(SETTINGS, ACK, 0, &[])],
            Demand::Choice(&[PROTOCOL_ERROR]),
        ),
        ("SETTINGS: an ACK that says something", vec![frame(SETTINGS, ACK, 0, &[0; 6])], SIZE),
        ("SETTINGS: five bytes", vec![frame(SETTINGS, 0, 0, &[0; 5])], SIZE),
        ("SETTINGS: seven bytes", vec![frame(SETTINGS, 0, 0, &[0; 7])], SIZE),
        ("SETTINGS: on an open stream", vec![posts(1), frame(SETTINGS, 0, 1, &[])], PROTOCOL),
        ("SETTINGS: on an idle stream", vec![frame(SETTINGS, 0, 1, &[])], PROTOCOL),
        ("SETTINGS: pushes 2", setting(ENABLE_PUSH, 2), PROTOCOL),
        ("SETTINGS: pushes a lot", setting(ENABLE_PUSH, u32::MAX), PROTOCOL),
        ("SETTINGS: a window of 2^31", setting(INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1), FLOW),
        ("SETTINGS: a window of 2^32 - 1", setting(INITIAL_WINDOW_SIZE, u32::MAX), FLOW),
        ("SETTINGS: frames of 16,383", setting(MAX_FRAME_SIZE, 16_383), PROTOCOL),
        ("SETTINGS: frames of 2^24", setting(MAX_FRAME_SIZE, 1 << 24), PROTOCOL),
        ("SETTINGS: frames of nothing", setting(MAX_FRAME_SIZE, 0), PROTOCOL),
        (
            "SETTINGS: a bad one behind a good one",
            vec![settings(&[(MAX_CONCURRENT_STREAMS, 1), (ENABLE_PUSH, 3)])],
            PROTOCOL,
        ),
        (
            "SETTINGS: a window that is too large for a stream",
            vec![
                held(1),
                update(1, LARGEST_WINDOW - 65_535),
                settings(&[(INITIAL_WINDOW_SIZE, 65_536)]),
            ],
            FLOW,
        ),
        ("PING: an answer to nothing", vec![frame(PING, ACK, 0, &[0; 8])], go_on),
        ("PING: unknown flags", vec![frame(PING, 0xfe, 0, &[0; 8])], go_on),
        ("PING: seven bytes", vec![frame(PING, 0, 0, &[0; 7])], SIZE),
        ("PING: nine bytes", vec![frame(PING, 0, 0, &[0; 9])], SIZE),
        ("PING: nothing", vec![frame(PING, 0, 0, &[])], SIZE),
        ("PING: an answer of seven bytes", vec![frame(PING, ACK, 0, &[0; 7])], SIZE),
        ("PING: on an open stream", vec![posts(1), frame(PING, 0, 1, &[0; 8])], PROTOCOL),
        ("PING: on an idle stream", vec![frame(PING, 0, 3, &[0; 8])], PROTOCOL),
        ("GOAWAY: on a stream", vec![posts(1), frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL),
        ("GOAWAY: seven bytes", vec![frame(GOAWAY, 0, 0, &[0; 7])], SIZE_OR_PROTOCOL),
        ("unknown frame", vec![frame(UNKNOWN, 0xff, 0, b"anything")], go_on),
        (
            "unknown frame: in a stream",
            vec![posts(1), frame(UNKNOWN, 0xff, 1, b"anything"), frame(DATA, END_STREAM, 1, b"x")],
            go_on,
        ),
        ("unknown frame: nothing in it", vec![frame(UNKNOWN, 0, 0, &[])], go_on),
        ("unknown frame: as long as may be", vec![frame(UNKNOWN, 0, 0, &[0; 16_384])], go_on),
        ("PRIORITY_UPDATE", vec![frame(0x10, 0, 0, b"\0\0\0\x01u=1")], go_on),
        (
            "PUSH_PROMISE",
            vec![
                held(1),
                frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &whole()[..]].concat()),
            ],
            PROTOCOL,
        ),
        (
            "PUSH_PROMISE: on stream 0",
            vec![frame(PUSH_PROMISE, END_HEADERS, 0, &[0, 0, 0, 2])],
            PROTOCOL,
        ),
    ])
    .await;
}

#[tokio::test]
async fn resets_priorities_and_updates() {
    let go_on = Demand::GoOn;
    let closed: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    check(vec![
        ("RST_STREAM: of an open stream", vec![posts(1), reset(1, CANCEL)], go_on),
        (
            "RST_STREAM: twice",
            vec![posts(1), reset(1, CANCEL), reset(1, CANCEL)],
            Demand::Choice(&[STREAM_CLOSED]),
        ),
        ("RST_STREAM: for an unknown reason", vec![posts(1), reset(1, 0xdead_beef)], go_on),
        ("RST_STREAM: of an idle stream", vec![reset(1, CANCEL)], PROTOCOL),
        ("RST_STREAM: of one that only the gateway could begin", vec![reset(2, CANCEL)], PROTOCOL),
        ("RST_STREAM: of stream 0", vec![reset(0, CANCEL)], PROTOCOL),
        ("RST_STREAM: three bytes", vec![posts(1), frame(RST_STREAM, 0, 1, &[0; 3])], SIZE),
        ("RST_STREAM: five bytes", vec![posts(1), frame(RST_STREAM, 0, 1, &[0; 5])], SIZE),
        ("PRIORITY", vec![frame(PRIORITY, 0, 5, &[0, 0, 0, 1, 200])], go_on),
        (
            "PRIORITY: of an open stream",
            vec![posts(1), frame(PRIORITY, 0, 1, &[0x80, 0, 0, 0, 1])],
            go_on,
        ),
        (
            "PRIORITY: of a stream that is over",
            vec![posts(1), reset(1, CANCEL), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            go_on,
        ),
        (
            "PRIORITY: four bytes",
            vec![posts(1), frame(PRIORITY, 0, 1, &[0; 4])],
            Demand::Stream(&[FRAME_SIZE_ERROR]),
        ),
        (
            "PRIORITY: six bytes",
            vec![posts(1), frame(PRIORITY, 0, 1, &[0; 6])],
            Demand::Stream(&[FRAME_SIZE_ERROR]),
        ),
        ("PRIORITY: of stream 0", vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 200])], PROTOCOL),
        // An error in RFC 7540 (section 5.3.1), of which RFC 9113 says nothing.
        (
            "PRIORITY: of itself",
            vec![posts(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9])],
            Demand::Choice(&[PROTOCOL_ERROR]),
        ),
        (
            "HEADERS: a priority of itself",
            vec![frame(
                HEADERS,
                ORDINARY | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 9], &whole()[..]].concat(),
            )],
            Demand::Choice(&[PROTOCOL_ERROR]),
        ),
        ("WINDOW_UPDATE: of the connection", vec![update(0, 1)], go_on),
        ("WINDOW_UPDATE: of a stream", vec![held(1), update(1, 1)], go_on),
        (
            "WINDOW_UPDATE: of a stream that is over",
            vec![posts(1), reset(1, CANCEL), update(1, 1)],
            go_on,
        ),
        ("WINDOW_UPDATE: the reserved bit", vec![held(1), update(1, 0x8000_0001)], go_on),
        (
            "WINDOW_UPDATE: up to the most",
            vec![update(0, LARGEST_WINDOW - 65_535), held(1), update(1, LARGEST_WINDOW - 65_535)],
            go_on,
        ),
        ("WINDOW_UPDATE: nothing for the connection", vec![update(0, 0)], PROTOCOL),
        ("WINDOW_UPDATE: nothing and the reserved bit", vec![update(0, 0x8000_0000)], PROTOCOL),
        (
            "WINDOW_UPDATE: nothing for a stream",
            vec![held(1), update(1, 0)],
            Demand::Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "WINDOW_UPDATE: nothing for an open stream",
            vec![posts(1), update(1, 0)],
            Demand::Stream(&[PROTOCOL_ERROR]),
        ),
        ("WINDOW_UPDATE: too much for the connection", vec![update(0, LARGEST_WINDOW)], FLOW),
        (
            "WINDOW_UPDATE: too much for the connection, bit by bit",
            vec![update(0, LARGEST_WINDOW - 65_535), update(0, 1)],
            FLOW,
        ),
        (
            "WINDOW_UPDATE: too much for a stream",
            vec![held(1), update(1, LARGEST_WINDOW)],
            Demand::Stream(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "WINDOW_UPDATE: too much for a stream, bit by bit",
            vec![held(1), update(1, LARGEST_WINDOW - 65_535), update(1, 1)],
            Demand::Stream(&[FLOW_CONTROL_ERROR]),
        ),
        ("WINDOW_UPDATE: of an idle stream", vec![update(1, 1)], PROTOCOL),
        ("WINDOW_UPDATE: three bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], SIZE),
        (
            "WINDOW_UPDATE: five bytes",
            vec![held(1), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 0, 1])],
            SIZE,
        ),
        ("DATA: on stream 0", vec![frame(DATA, 0, 0, b"x")], PROTOCOL),
        ("DATA: on an idle stream", vec![frame(DATA, 0, 1, b"x")], Demand::Connection(closed)),
        (
            "DATA: on one that only the gateway could begin",
            vec![frame(DATA, 0, 2, b"x")],
            Demand::Connection(closed),
        ),
        (
            "DATA: behind the end",
            vec![held(1), frame(DATA, 0, 1, b"x")],
            Demand::Stream(&[STREAM_CLOSED]),
        ),
        (
            "DATA: the end, twice",
            vec![posts(1), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, END_STREAM, 1, b"")],
            Demand::Stream(&[STREAM_CLOSED]),
        ),
        (
            "DATA: on a stream that was reset",
            vec![posts(1), reset(1, CANCEL), frame(DATA, END_STREAM, 1, b"x")],
            Demand::Choice(&[STREAM_CLOSED]),
        ),
        (
            "DATA: nothing, and nothing, and the end",
            vec![
                posts(1),
                frame(DATA, 0, 1, b""),
                frame(DATA, 0, 1, b""),
                frame(DATA, END_STREAM, 1, b""),
            ],
            go_on,
        ),
        (
            "DATA: padded",
            vec![posts(1), frame(DATA, END_STREAM | PADDED, 1, b"\x03xyz\0\0\0")],
            go_on,
        ),
        (
            "DATA: nothing but padding",
            vec![posts(1), frame(DATA, END_STREAM | PADDED, 1, b"\x03\0\0\0")],
            go_on,
        ),
        (
            "DATA: padding that is not zero",
            vec![posts(1), frame(DATA, END_STREAM | PADDED, 1, b"\x03xyz???")],
            Demand::Choice(&[PROTOCOL_ERROR]),
        ),
        (
            "DATA: more padding than frame",
            vec![posts(1), frame(DATA, PADDED, 1, b"\x04xyz")],
            PROTOCOL,
        ),
        (
            "DATA: as much padding as frame",
            vec![posts(1), frame(DATA, PADDED, 1, b"\x01")],
            PROTOCOL,
        ),
        (
            "DATA: padded, without a length of it",
            vec![posts(1), frame(DATA, PADDED, 1, b"")],
            SIZE_OR_PROTOCOL,
        ),
        ("DATA: unknown flags", vec![posts(1), frame(DATA, 0xf7, 1, b"x")], go_on),
        (
            "DATA: the reserved bit",
            vec![posts(1), frame(DATA, END_STREAM, 0x8000_0001, b"x")],
            go_on,
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_said_is_acknowledged() {
    let judge = Judge::start().await;
    let mut client = judge.connect().await;
    let acks = async |client: &mut Connection, count| {
        for _ in 0..count {
            let ack = client.find(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
            assert_eq!(ack.unwrap().payload, b"");
        }
    };
    acks(&mut client, 1).await;
    for _ in 0..3 {
        client.announce(&[(0x4242, 1)]).await;
    }
    acks(&mut client, 3).await;
    for payload in [*b"\0\0\0\0\0\0\0\0", *b"\xff\xfe12345\0"] {
        client.send(PING, 0, 0, &payload).await;
        let pong = client.find(|frame| frame.kind == PING).await.unwrap();
        assert_eq!((pong.flags, pong.stream, pong.payload), (ACK, 0, payload.to_vec()));
    }
    // What a client says of itself is nothing to answer.
    client.send(PING, ACK, 0, &[7; 8]).await;
    assert!(!client.ping().await.unwrap().iter().any(|frame| frame.kind == PING));
}

#[tokio::test]
async fn a_client_that_goes_is_given_what_it_waits_for() {
    let judge = Judge::start().await;
    for code in [NO_ERROR, PROTOCOL_ERROR] {
        let mut client = judge.connect().await;
        let asked = judge.origin.requests();
        client.get(1, "/delay/300").await;
        crate::support::eventually("the node was asked", || async {
            judge.origin.requests() > asked
        })
        .await;
        let payload = [[0; 4], code.to_be_bytes()].concat();
        client.send(GOAWAY, 0, 0, &[&payload[..], b"debug"].concat()).await;
        let answer = client.answer(1).await;
        // Of a client that goes for an error nobody knows what it will read.
        if code == NO_ERROR {
            assert!(answer.is_ok(), "{answer:?}");
        } else {
            let outcome = answer.outcome();
            assert!(matches!(outcome, Outcome::Status(200) | Outcome::Closed | Outcome::GoAway(_)));
        }
        client.half_close().await;
        client.read_to_end().await;
    }
}
