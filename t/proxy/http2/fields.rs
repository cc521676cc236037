//! Header blocks: their code (RFC 7541), their bounds, and fields that are none (RFC 9113, section
//! 8). What of them HTTP/1.1 would read in another way stands in `desync/streams.rs`.

use serde_json::Value;

use super::judge::{Demand, Judge, held, posts, reset};
use super::recorded;
use crate::support::h2::{
    CANCEL, COMPRESSION_ERROR, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, Field,
    HEADER_TABLE_SIZE, HEADERS, ORDINARY, Outcome, PROTOCOL_ERROR, STREAM_CLOSED, block, frame,
    request,
};
use crate::support::hpack::{coded, kept, number};

const COMPRESSION: Demand = Demand::Connection(&[COMPRESSION_ERROR]);
const MALFORMED: Demand = Demand::Malformed(&[PROTOCOL_ERROR]);

/// The first entry of the table that is not the static one, as a field.
const FIRST_KEPT: &[u8] = &[0x80 | 62];

fn plain() -> Vec<u8> {
    block(&request("GET", "/get"))
}

/// A request of a header block.
fn asks(stream: u32, parts: &[&[u8]]) -> Vec<u8> {
    frame(HEADERS, ORDINARY, stream, &parts.concat())
}

fn echoed(body: &[u8]) -> Value {
    let echo: Value = serde_json::from_slice(body).unwrap();
    echo["headers"].clone()
}

#[tokio::test]
async fn header_blocks_that_cannot_be_read_end_the_connection() {
    let mut judge = Judge::start().await;
    let plain = plain();
    let size = |bytes| number(0x20, 5, bytes);
    let kept_name = |index| [&number(0x40, 6, index)[..], b"\x01x"].concat();
    let over = vec![0xff; 12];
    let announced = judge.connect().await.setting(HEADER_TABLE_SIZE).await.unwrap_or(4096) as usize;
    for (name, parts) in [
        ("an index of 0", vec![&plain[..], &[0x80]]),
        ("an index of what is not there", vec![&plain, FIRST_KEPT]),
        ("an index far away", vec![&plain, &number(0x80, 7, 1_000_000)]),
        ("an index without an end", vec![&plain, &over]),
        ("an index that is cut", vec![&plain, &[0xff]]),
        ("a name that is not there", vec![&plain, &kept_name(62)]),
        ("a name that is not there, not kept", vec![&plain, b"\x0f\x2f\x01x"]),
        ("a name without a value", vec![&plain, b"\x00\x01x"]),
        ("a name that is cut", vec![&plain, b"\x00\x05x-a"]),
        ("a value that is cut", vec![&plain, b"\x00\x03x-a\x05b"]),
        ("a length without an end", vec![&plain, b"\x00\x03x-a\x7f", &over]),
        ("a length of very much", vec![&plain, b"\x00\x03x-a", &number(0, 7, 1 << 31)]),
        ("the end's code", vec![&plain, b"\x00\x03x-a\x84\xff\xff\xff\xff"]),
        ("the end's code in a name", vec![&plain, b"\x00\x84\xff\xff\xff\xff\x01b"]),
        ("eleven bits of padding", vec![&plain, b"\x00\x03x-a\x82\x1f\xff"]),
        ("nothing but padding", vec![&plain, b"\x00\x03x-a\x81\xff"]),
        ("padding of zeros", vec![&plain, b"\x00\x03x-a\x81\x18"]),
        ("a table that is too large", vec![&size(announced + 1), &plain]),
        ("a table of very much", vec![&size(1 << 31), &plain]),
        ("a table's size without an end", vec![b"\x3f", &over, &plain]),
        ("a table's size behind a field", vec![&plain, &size(0)]),
        (
            "what was put out of the table",
            vec![&plain, &kept(b"x-a", b"b"), &kept(b"x-c", &[b'x'; 4090]), FIRST_KEPT],
        ),
        (
            "what has no place in the table",
            vec![&size(40), &plain, &kept(b"x-a", b"bcdefghij"), FIRST_KEPT],
        ),
        (
            "what was in the table before it was emptied",
            vec![&size(0), &plain, &kept(b"x-a", b"b"), FIRST_KEPT],
        ),
    ] {
        judge.check(name, &asks(1, &parts), COMPRESSION).await;
        // Where nobody asks for anything any more it is read all the same.
        let trailers = [&held(1), &asks(1, &parts)[..]].concat();
        let codes = Demand::Connection(&[COMPRESSION_ERROR, STREAM_CLOSED]);
        judge.check(&format!("{name}, behind the end"), &trailers, codes).await;
    }
    // What an emptied table had: its size is told at the start of a block.
    let bytes = [asks(1, &[&plain, &kept(b"x-a", b"b")]), asks(3, &[&size(0), &plain, FIRST_KEPT])];
    judge.check("what the table had before it was emptied", &bytes.concat(), COMPRESSION).await;
    judge.end();
}

#[tokio::test]
async fn header_blocks_may_be_written_in_every_way() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let plain = plain();
    let size = |bytes| number(0x20, 5, bytes);
    // Every byte that a value may have: those that are printed, blanks between them, and others.
    let all: Vec<u8> =
        (0x21..0x7f).chain(b"\t ".iter().copied()).chain(0x80..=0xff).chain([b'.']).collect();
    let by_code = [&[0][..], &coded(b"x-a"), &coded(&all)].concat();
    let long = vec![b'x'; 3000];
    for (name, parts, expected) in [
        ("as it is", vec![&plain[..], b"\x00\x03x-a\x01b"], &b"x-a: b\r\n"[..]),
        ("never to be kept", vec![&plain, b"\x10\x03x-a\x01b"], b"x-a: b\r\n"),
        ("in Huffman's code", vec![&plain, &by_code], &[b"x-a: ", &all[..], b"\r\n"].concat()),
        ("an empty text in it", vec![&plain, b"\x00\x03x-a\x80"], b"x-a: \r\n"),
        ("kept", vec![&plain, &kept(b"x-a", b"b"), FIRST_KEPT], b"x-a: b\r\nx-a: b\r\n"),
        ("a kept name", vec![&plain, &kept(b"x-a", b"b"), b"\x7e\x01c"], b"x-a: b\r\nx-a: c\r\n"),
        ("a name of the static table", vec![&plain, b"\x0f\x2b\x01b"], b"user-agent: b\r\n"),
        (
            "a field of the static table",
            vec![&plain, &[0x80 | 16]],
            b"accept-encoding: gzip, deflate\r\n",
        ),
        (
            "a table of another size",
            vec![&size(100), &plain, &kept(b"x-a", b"b"), FIRST_KEPT],
            b"x-a: b\r\nx-a: b\r\n",
        ),
        (
            "emptied and opened again",
            vec![&size(0), &size(4096), &plain, &kept(b"x-a", b"b"), FIRST_KEPT],
            b"x-a: b\r\nx-a: b\r\n",
        ),
        (
            "the first of two that fit",
            vec![&plain, &kept(b"x-a", b"b"), &kept(b"x-c", &long), &[0x80 | 63]],
            b"x-a: b\r\n",
        ),
        (
            "a name that its own entry puts out",
            vec![&plain, &kept(b"x-a", &long), b"\x7e", &number(0, 7, 2000), &long[..2000]],
            b"x-a: x",
        ),
        (
            "larger than the table",
            vec![&plain, &kept(b"x-a", &[b'x'; 5000]), &kept(b"x-c", b"d"), FIRST_KEPT],
            b"x-c: d\r\nx-c: d\r\n",
        ),
        (
            "numbers with zeros behind",
            vec![&plain, b"\x00\x03x-a\x7f\x80\x80\x00", &[b'x'; 127]],
            b"x-a: xxxx",
        ),
    ] {
        recorder.taken().await;
        let mut client = Connection::open(gateway.ports().http).await;
        client.write(&asks(1, &parts)).await;
        assert_eq!(client.outcome(1).await, Outcome::Status(200), "{name}");
        let reached = recorder.taken().await;
        let is_there = reached.windows(expected.len()).any(|bytes| bytes == expected);
        assert!(is_there, "{name}: {}", String::from_utf8_lossy(&reached));
    }
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_the_table_in_step() {
    let judge = Judge::start().await;
    let large = block(&[(&b"x-large"[..], &[b'x'; 10_000][..]); 7]);
    let many = block(&[(&b"x-many"[..], &b"x"[..]); 500]);
    let plain = plain();
    let kept = kept(b"x-kept", b"in step");
    let no_path: [Field<'_>; 3] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a")];
    let in_parts = |parts: &[&[u8]]| {
        let whole = parts.concat();
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, &whole[..16_000])];
        frames.extend(whole[16_000..].chunks(16_000).map(|part| frame(CONTINUATION, 0, 1, part)));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
        frames.concat()
    };
    // Whether the connection may end instead.
    for (name, bytes, status, may_end) in [
        ("a head that is too large", in_parts(&[&plain, &large, &kept]), Some(431), false),
        ("the same the other way round", in_parts(&[&plain, &kept, &large]), Some(431), false),
        ("too many fields", asks(1, &[&plain, &many, &kept]), Some(431), false),
        ("a name in upper case", asks(1, &[&plain, b"\x00\x01X\x01x", &kept]), None, true),
        ("a name in upper case behind", asks(1, &[&plain, &kept, b"\x00\x01X\x01x"]), None, true),
        ("no path", asks(1, &[&block(&no_path), &kept]), None, true),
        (
            "one that is taken back",
            [asks(1, &[&plain, &kept]), reset(1, CANCEL)].concat(),
            None,
            false,
        ),
        ("one behind the end", [held(1), asks(1, &[&plain, &kept])].concat(), None, true),
        ("trailers", [posts(1), asks(1, &[&kept])].concat(), None, false),
        (
            "trailers of what was taken back",
            [posts(1), reset(1, CANCEL), asks(1, &[&kept])].concat(),
            None,
            true,
        ),
        (
            "trailers that are refused",
            [posts(1), asks(1, &[b"\x00\x01X\x01x", &kept])].concat(),
            None,
            true,
        ),
    ] {
        let mut client = judge.connect().await;
        client.write(&bytes).await;
        if let Some(status) = status {
            assert_eq!(client.outcome(1).await, Outcome::Status(status), "{name}");
        }
        client.write(&asks(3, &[&plain, FIRST_KEPT])).await;
        let answer = client.answer(3).await;
        if answer.broken.is_some() && may_end {
            continue;
        }
        assert!(answer.is_ok(), "{name}: {answer:?}");
        assert_eq!(echoed(&answer.body)["x-kept"], "in step", "{name}");
    }
}

#[tokio::test]
async fn large_heads_come_in_one_piece() {
    let judge = Judge::start().await;
    let fields: Vec<(String, String)> =
        (10..60).map(|at| (format!("x-{at}"), format!("{at}-").repeat(250))).collect();
    let mut whole = plain();
    for (name, value) in &fields {
        whole.extend(block(&[(name.as_bytes(), value.as_bytes())]));
    }
    assert!(whole.len() > 2 * 16_384, "{}", whole.len());
    let mut client = judge.connect().await;
    client.send(HEADERS, END_STREAM, 1, &whole[..16_384]).await;
    client.send(CONTINUATION, 0, 1, &whole[16_384..32_768]).await;
    client.send(CONTINUATION, END_HEADERS, 1, &whole[32_768..]).await;
    let answer = client.answer(1).await;
    assert!(answer.is_ok(), "{answer:?}");
    let echo = echoed(&answer.body);
    for (name, value) in &fields {
        assert_eq!(echo[name], *value);
    }
}

#[tokio::test]
async fn fields_that_no_message_has_are_refused() {
    let mut judge = Judge::start().await;
    let plain = plain();
    let asked = judge.origin.requests();
    let with = |name: &[u8], value: &[u8]| asks(1, &[&plain, &block(&[(name, value)])]);
    for (name, bytes) in [
        // RFC 9113, section 8.2.1.
        ("a blank before a value", with(b"x-a", b" b")),
        ("a blank behind a value", with(b"x-a", b"b ")),
        ("a tab before a value", with(b"x-a", b"\tb")),
        ("a tab behind a value", with(b"x-a", b"b\t")),
        ("a value of a blank", with(b"x-a", b" ")),
        ("a control character in a name", with(b"x\x01a", b"b")),
        ("a DEL in a name", with(b"x\x7fa", b"b")),
        ("a byte beyond ASCII in a name", with(b"x\x80a", b"b")),
        ("a tab in a name", with(b"x\ta", b"b")),
        ("a colon at a name's end", with(b"x-a:", b"b")),
        ("a name that is a colon", with(b":", b"b")),
        // No token, and no value (RFC 9110, sections 5.1 and 5.5).
        ("a slash in a name", with(b"x/a", b"b")),
        ("a control character in a value", with(b"x-a", b"b\x01c")),
        ("a DEL in a value", with(b"x-a", b"b\x7fc")),
        // Section 8.2.2.
        ("te of trailers and more", with(b"te", b"trailers, deflate")),
        // Section 8.3.
        ("a pseudo-field in upper case", with(b":PATH", b"/")),
        ("a status besides", with(b":status", b"200")),
    ] {
        judge.check(name, &bytes, MALFORMED).await;
    }
    // Section 8.1: trailers.
    for (name, fields, flags) in [
        ("trailers that end nothing", &[(&b"x-a"[..], &b"b"[..])][..], END_HEADERS),
        ("a path in trailers", &[(b":path", b"/")], ORDINARY),
        ("a method in trailers", &[(b":method", b"GET"), (b"x-a", b"b")], ORDINARY),
        ("a status in trailers", &[(b":status", b"200")], ORDINARY),
        ("a second request", &request("GET", "/get"), ORDINARY),
        ("a blank behind a value of trailers", &[(b"x-a", b"b ")], ORDINARY),
    ] {
        let trailers = frame(HEADERS, flags, 1, &block(fields));
        let bytes = [posts(1), frame(DATA, 0, 1, b"x"), trailers].concat();
        judge.check(name, &bytes, MALFORMED).await;
    }
    // Of the requests with trailers a node may have seen the beginning.
    let seen = judge.origin.seen();
    let wrong = seen[asked..].iter().filter(|seen| seen.uri == "/get").count();
    if wrong > 0 {
        judge.wrong(format!("{wrong} of them reached the node"));
    }
    judge.end();
}

#[tokio::test]
async fn crumbs_are_one_cookie_again() {
    let judge = Judge::start().await;
    let mut fields = request("GET", "/get");
    for field in
        [("cookie", "a=1"), ("x-a", "b"), ("cookie", "c=2; d=3"), ("x-e", "f"), ("cookie", "g=4")]
    {
        fields.push((field.0.as_bytes(), field.1.as_bytes()));
    }
    let mut client = judge.connect().await;
    client.headers(1, &fields, true).await;
    let answer = client.answer(1).await;
    let echo = echoed(&answer.body);
    assert_eq!(echo["cookie"], "a=1; c=2; d=3; g=4");
    assert_eq!((&echo["x-a"], &echo["x-e"]), (&"b".into(), &"f".into()));
}

#[tokio::test]
async fn a_client_says_how_much_the_gateway_may_keep() {
    let judge = Judge::start().await;
    let port = judge.gateway.ports().http;
    // The reader of the answers panics where the table is larger than it was announced.
    for sizes in [&[0][..], &[100], &[100_000], &[4096, 0], &[0, 4096], &[4096, 200, 0, 64, 4096]] {
        let mut client = Connection::with(port, &[]).await;
        let mut stream = 1;
        for size in sizes {
            client.announce(&[(HEADER_TABLE_SIZE, *size)]).await;
            client.ping().await.unwrap();
            for _ in 0..3 {
                client.get(stream, "/get").await;
                let answer = client.answer(stream).await;
                assert!(answer.is_ok(), "{sizes:?}: {answer:?}");
                assert_eq!(answer.field("x-origin"), Some("origin"), "{sizes:?}");
                stream += 2;
            }
        }
    }
    // Two changes before anything is answered: the smaller one is told, too.
    let mut client = Connection::with(port, &[]).await;
    client.get(1, "/get").await;
    assert!(client.answer(1).await.is_ok());
    client.announce(&[(HEADER_TABLE_SIZE, 0)]).await;
    client.announce(&[(HEADER_TABLE_SIZE, 4096)]).await;
    client.get(3, "/get").await;
    assert!(client.answer(3).await.is_ok());
}
