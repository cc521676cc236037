//! What a decoder takes, what it refuses, and what it makes of fields that are none.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::super::{DecodeError, Decoder, Field, Scheme, huffman};
use super::{bytes, header, literal, read};

#[test]
fn refuses_blocks_that_cannot_be_read() {
    use DecodeError::{Huffman, Index, Integer, LateResize, TableTooLarge, Truncated};
    let cases = [
        ("80", Index),
        ("be", Index),
        ("ff 00", Index),
        ("ff ff ff ff 0f", Index),
        ("7e 00", Index),
        ("7f 00 00", Index),
        ("0f 2f 00", Index),
        ("1f 2f 00", Index),
        ("ff", Truncated),
        ("ff 80", Truncated),
        ("3f", Truncated),
        ("40", Truncated),
        ("40 01", Truncated),
        ("40 01 61", Truncated),
        ("40 01 61 02 61", Truncated),
        ("04", Truncated),
        ("04 7f ff ff ff ff 0f", Integer),
        ("04 7f 80 ff ff ff 0f", Truncated),
        ("04 ff 80 ff ff ff 0f", Truncated),
        ("82 ff ff ff ff ff 0f", Integer),
        ("ff 80 80 80 80 80 00", Integer),
        ("ff 80 80 80 80 80 80 80 80 80 80 01", Integer),
        ("82 20", LateResize),
        ("40 01 61 01 62 3f 00", LateResize),
        ("3f e2 1f", TableTooLarge),
        ("20 3f ff ff ff ff 0f", Integer),
        // Padding of a zero, of eight ones, of nothing but ones; the end of the string.
        ("04 81 1e", Huffman),
        ("04 82 1f ff", Huffman),
        ("04 81 ff", Huffman),
        ("04 84 ff ff ff ff", Huffman),
        ("04 85 1f ff ff ff ff", Huffman),
        ("04 84 ff ff ff fc", Huffman),
        ("04 88 ff ff ff fc 18 c6 31 8c", Huffman),
        ("00 81 1e 00", Huffman),
        // A code of thirteen bits that ends after eight.
        ("04 81 fe", Huffman),
    ];
    for (hex, error) in cases {
        let block = bytes(hex);
        assert_eq!(read(&mut Decoder::new(4096), &block), Err(error), "{hex}");
    }
}

#[test]
fn takes_what_is_odd_but_allowed() {
    // An integer with zeros behind it, no field but a resize, two of them, an empty block, an
    // empty code.
    let cases: [(&str, &[Field]); 5] = [
        ("0f 80 80 80 80 00 00", &[header("accept-charset", "")]),
        ("20", &[]),
        ("20 3f e1 1f 82", &[Field::Method(Method::GET)]),
        ("", &[]),
        ("04 80", &[Field::Path(Bytes::new())]),
    ];
    for (hex, fields) in cases {
        assert_eq!(read(&mut Decoder::new(4096), &bytes(hex)).as_deref(), Ok(fields), "{hex}");
    }
}

#[test]
fn parses_fields_once_and_for_all() {
    let cases: [(&str, &str, Field); 18] = [
        (":method", "GET", Field::Method(Method::GET)),
        (":method", "PURGE", Field::Method(Method::from_bytes(b"PURGE").unwrap())),
        (":scheme", "https", Field::Scheme(Scheme::Https)),
        (":scheme", "HTTP", Field::Scheme(Scheme::Http)),
        (":scheme", "ftp", Field::Scheme(Scheme::Other)),
        (":authority", "a.test:8443", Field::Authority("a.test:8443".parse().unwrap())),
        (":path", "/a?b", Field::Path(Bytes::from_static(b"/a?b"))),
        (":path", "*", Field::Path(Bytes::from_static(b"*"))),
        (":path", "", Field::Path(Bytes::new())),
        (":path", " \0", Field::Path(Bytes::from_static(b" \0"))),
        (":protocol", "websocket", Field::Protocol(Bytes::from_static(b"websocket"))),
        (":status", "418", Field::Status(StatusCode::IM_A_TEAPOT)),
        ("accept", "*/*", header("accept", "*/*")),
        ("x-request-id", "", header("x-request-id", "")),
        ("!#$%&'*+-.^_`|~09az", "a b\tc", header("!#$%&'*+-.^_`|~09az", "a b\tc")),
        ("sec-fetch-mode", "cors", header("sec-fetch-mode", "cors")),
        ("sec-fetch-mode2", "cors", header("sec-fetch-mode2", "cors")),
        ("connection", "close", header("connection", "close")),
    ];
    for (name, value, field) in cases {
        let block = literal(name.as_bytes(), value.as_bytes());
        assert_eq!(read(&mut Decoder::new(4096), &block), Ok(vec![field]), "{name}: {value}");
    }
}

#[test]
fn tells_what_is_no_field_and_goes_on() {
    let long = [b'a'; 100];
    let mut long_upper = long;
    long_upper[99] = b'A';
    let cases: [(&[u8], &[u8]); 28] = [
        (b"", b"a"),
        (b"Accept", b"a"),
        (b"x-Custom", b"a"),
        (b"a b", b"a"),
        (b"a:", b"a"),
        (b"a\0", b"a"),
        (b"\x80", b"a"),
        (&long_upper, b"a"),
        (b":", b"a"),
        (b":path ", b"/"),
        (b":Path", b"/"),
        (b":unknown", b"a"),
        (b":method", b""),
        (b":method", b"GE T"),
        (b":scheme", b""),
        (b":authority", b""),
        (b":authority", b"a\n"),
        (b":authority", b" a"),
        (b":protocol", b""),
        (b":status", b""),
        (b":status", b"2000"),
        (b":status", b"20x"),
        (b"a", b" b"),
        (b"a", b"b "),
        (b"a", b"\tb"),
        (b"a", b"b\r\nc: d"),
        (b"a", b"a\0b"),
        (b"a", b"0123456789abcdef0123456789abcdef\x7f"),
    ];
    for (name, value) in cases {
        let block = [literal(name, value), literal(b"next", b"one")].concat();
        let fields = read(&mut Decoder::new(4096), &block);
        assert_eq!(
            fields,
            Ok(vec![Field::Malformed, header("next", "one")]),
            "{name:?}: {value:?}"
        );
    }
    assert_eq!(read(&mut Decoder::new(4096), &[0x81]), Ok(vec![Field::Malformed]));
    let fields = read(&mut Decoder::new(4096), &literal(&long, b"a"));
    assert_eq!(fields, Ok(vec![header(std::str::from_utf8(&long).unwrap(), "a")]));
}

/// Each byte in a name and in a value, between others and alone.
#[test]
fn forbids_the_bytes_that_http_does() {
    for byte in 0..=u8::MAX {
        let token = byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = [b'a', byte, b'z'];
        let fields = read(&mut Decoder::new(4096), &literal(&name, b"a")).unwrap();
        assert_eq!(fields != [Field::Malformed], token, "{byte:#x} in a name");
        let text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        for value in [&[b'a', byte, b'z'][..], &[&[b'a'; 40][..], &[byte, b'z']].concat()] {
            let fields = read(&mut Decoder::new(4096), &literal(b"a", value)).unwrap();
            assert_eq!(fields != [Field::Malformed], text, "{byte:#x} in a value");
            assert_eq!(HeaderValue::from_bytes(value).is_ok(), text, "{byte:#x}");
        }
    }
}

#[test]
fn counts_names_values_and_overhead() {
    let block = [
        bytes("82 81"),
        literal(b":path", b"/a"),
        literal(b"Bad", b"value"),
        bytes("40 03 626164 01 20"),
        bytes("be 7e 00"),
    ]
    .concat();
    let mut sizes = Vec::new();
    let mut decoder = Decoder::new(4096);
    let all = decoder.decode(&block, |_, size| sizes.push(size));
    assert_eq!(all, Ok(()));
    let lengths = [7 + 3, 10, 5 + 2, 3 + 5, 3 + 1, 3 + 1, 3];
    assert_eq!(sizes, lengths.map(|length| length + 32));
}

#[test]
fn a_malformed_field_takes_its_place_in_the_table() {
    let mut decoder = Decoder::new(4096);
    let value = bytes("40 04 6e616d65 02 2061");
    let upper = bytes("40 04 4e616d65 01 61");
    assert_eq!(read(&mut decoder, &[value, upper].concat()), Ok(vec![Field::Malformed; 2]));
    assert_eq!(decoder.table.sizes(), [37, 38]);
    // Both again; then other values with the name of the first, and with that of the second.
    let fields = read(&mut decoder, &bytes("be bf 0f30 0162 0f2f 0162"));
    let mut told = vec![Field::Malformed; 4];
    told[2] = header("name", "b");
    assert_eq!(fields, Ok(told));
    // And a third with the name of the second, which is kept too.
    assert_eq!(read(&mut decoder, &bytes("7e 0162")), Ok(vec![Field::Malformed]));
    assert_eq!(decoder.table.sizes(), [37, 37, 38]);
}

#[test]
fn marks_what_must_never_be_indexed() {
    let mut decoder = Decoder::new(4096);
    let fields = read(&mut decoder, &bytes("10 01 61 01 62 00 01 61 01 62")).unwrap();
    let sensitive =
        |field: &Field| matches!(field, Field::Header(_, value) if value.is_sensitive());
    assert_eq!(fields.iter().map(sensitive).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_field_may_have_the_name_of_one_that_it_pushes_out() {
    let mut decoder = Decoder::new(40);
    let fields = read(&mut decoder, &bytes("40 03 616263 01 64 7e 02 6566"));
    assert_eq!(fields, Ok(vec![header("abc", "d"), header("abc", "ef")]));
    assert_eq!(decoder.table.sizes(), [37]);
    // One that is too large empties the table.
    assert_eq!(read(&mut decoder, &bytes("7e 06 313233343536")), Ok(vec![header("abc", "123456")]));
    assert!(decoder.table.sizes().is_empty());
}

#[test]
fn many_references_to_a_large_field_share_it() {
    let mut decoder = Decoder::new(4096);
    let value = [b'v'; 4000];
    let mut block = bytes("40 01 61 7f a1 1e");
    block.extend_from_slice(&value);
    block.extend([0xbe; 4000]);
    let mut first = None;
    let mut total = 0;
    let all = decoder.decode(&block, |field, size| {
        total += size;
        let Field::Header(_, value) = field else { panic!("{field:?}") };
        let at = value.as_bytes().as_ptr();
        assert_eq!(*first.get_or_insert(at), at);
    });
    assert_eq!(all, Ok(()));
    assert_eq!(total, 4001 * (1 + 4000 + 32));
}

#[test]
fn a_huffman_code_is_read_as_far_as_it_goes() {
    // Every byte, by itself and behind each number of bits.
    for byte in 0..=u8::MAX {
        for before in [&b""[..], b"a", b"X", b"aa", b"\x00", b"aX\x00", b"aaaaaaaa"] {
            let string = [before, &[byte]].concat();
            let mut out = bytes::BytesMut::new();
            let coded = huffman::coded_len(&string);
            huffman::encode(&string, coded, &mut out);
            assert_eq!(out.len(), coded);
            let mut room = vec![0; huffman::longest(coded)];
            let len = huffman::decode(&out, &mut room);
            assert_eq!(len.map(|len| &room[..len]), Some(&string[..]));
        }
    }
}
