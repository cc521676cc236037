//! How an encoder chooses, and what it tells of its table.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, StatusCode};

use super::super::{Decoder, Encoder, Field};
use super::{bytes, read, write};

fn field(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

/// The first byte of what `fields` come to, each time that they are written.
fn first_bytes<const N: usize>(fields: &[(HeaderName, HeaderValue)]) -> [u8; N] {
    let mut encoder = Encoder::new();
    std::array::from_fn(|_| write(&mut encoder, fields)[0])
}

#[test]
fn a_field_is_one_byte_the_third_time() {
    let server = [field("server", "sluice")];
    assert_eq!(first_bytes(&server), [0x0f, 0x76, 0xbe, 0xbe]);
    let own = [field("x-own", "value")];
    assert_eq!(first_bytes(&own), [0, 0x40, 0xbe, 0xbe]);
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        write(&mut encoder, &server);
    }
    assert_eq!(&write(&mut encoder, &server)[..], [0xbe]);
}

#[test]
fn what_differs_each_time_stays_out_of_the_table() {
    let mut encoder = Encoder::new();
    for id in 0..1000 {
        for value in [format!("{id:032x}"), format!("script-src 'nonce-{id:08x}'; base-uri 'self'")]
        {
            let value = HeaderValue::from_str(&value).unwrap();
            write(&mut encoder, &[(HeaderName::from_static("x-own"), value)]);
        }
    }
    assert!(encoder.table.sizes().is_empty());
}

#[test]
fn cookies_credentials_and_sensitive_values_are_never_indexed() {
    let mut sensitive = field("x-token", "secret");
    sensitive.1.set_sensitive(true);
    for (field, first) in [
        (field("set-cookie", "a=b"), 0x1f),
        (field("cookie", "a=b"), 0x1f),
        (field("authorization", "Basic YTpi"), 0x1f),
        (field("proxy-authorization", "Basic YTpi"), 0x1f),
        (sensitive, 0x10),
        // Not into our table; others may.
        (field("location", "https://a.test/?token=1"), 0x0f),
    ] {
        assert_eq!(first_bytes(&[field]), [first; 4]);
    }
}

/// The same bytes were no secret before.
#[test]
fn a_sensitive_value_is_not_pointed_at() {
    let mut encoder = Encoder::new();
    let open = field("x-token", "secret");
    let mut sensitive = open.clone();
    sensitive.1.set_sensitive(true);
    for _ in 0..3 {
        write(&mut encoder, std::slice::from_ref(&open));
    }
    assert_eq!(write(&mut encoder, std::slice::from_ref(&open))[..], [0xbe]);
    assert_eq!(write(&mut encoder, &[sensitive])[0], 0x10);
}

#[test]
fn a_field_that_would_fill_the_table_stays_out() {
    let mut encoder = Encoder::new();
    let value = HeaderValue::from_bytes(&[b'v'; 3100]).unwrap();
    for _ in 0..3 {
        write(&mut encoder, &[(HeaderName::from_static("x-large"), value.clone())]);
    }
    assert!(encoder.table.sizes().is_empty());
}

#[test]
fn writes_each_status() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(4096);
    for code in 100..=999 {
        let status = StatusCode::from_u16(code).unwrap();
        let mut out = BytesMut::new();
        encoder.status(status, &mut out);
        let usual = [200, 204, 206, 304, 400, 404, 500].contains(&code);
        assert_eq!(out.len() == 1, usual, "{code}");
        assert_eq!(read(&mut decoder, &out), Ok(vec![Field::Status(status)]));
    }
}

/// The peer's settings one after the other, and how the next block begins.
#[test]
fn tells_of_each_change_of_the_table() {
    let cases: [(&[u32], &str); 11] = [
        (&[4096], ""),
        (&[65536], ""),
        (&[u32::MAX, 4096], "3fe11f"),
        (&[65536, 8192], "3fe11f"),
        (&[100], "3f45"),
        (&[0], "20"),
        (&[0, 4096], "203fe11f"),
        (&[200, 100, 300], "3f45 3f8d02"),
        (&[100, 200, 200], "3f45 3fa901"),
        (&[0, 65536], "203fe11f"),
        (&[30], "3e"),
    ];
    for (settings, hex) in cases {
        let mut encoder = Encoder::new();
        for bytes in settings {
            encoder.resize(*bytes);
        }
        assert_eq!(write(&mut encoder, &[]), bytes(hex), "{settings:?}");
        assert!(write(&mut encoder, &[]).is_empty(), "{settings:?}: told twice");
    }
}

#[test]
fn a_table_of_nothing_keeps_nothing() {
    let mut encoder = Encoder::new();
    let server = [field("server", "sluice")];
    for _ in 0..3 {
        write(&mut encoder, &server);
    }
    encoder.resize(0);
    assert!(encoder.table.sizes().is_empty());
    assert_eq!(write(&mut encoder, &server)[..2], [0x20, 0x0f]);
    assert_eq!(write(&mut encoder, &server)[0], 0x0f);
}
