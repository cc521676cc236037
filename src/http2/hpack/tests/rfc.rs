//! The examples of RFC 7541, appendix C.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::super::encode::Form;
use super::super::{Decoder, Field, Scheme, integer, statics};
use super::{bytes, header, read};

const DATE: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const NEXT_DATE: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const LOCATION: &str = "https://www.example.com";
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

fn authority() -> Field {
    Field::Authority("www.example.com".parse().unwrap())
}

fn path(path: &'static str) -> Field {
    Field::Path(Bytes::from_static(path.as_bytes()))
}

/// Reads blocks one after the other; each has its fields, and then the table these sizes.
fn check(table_bytes: usize, blocks: &[(&str, &[Field], &[usize])]) {
    let mut decoder = Decoder::new(table_bytes);
    for (hex, fields, sizes) in blocks {
        assert_eq!(read(&mut decoder, &bytes(hex)).as_deref(), Ok(*fields), "{hex}");
        assert_eq!(decoder.table.sizes(), *sizes, "{hex}");
    }
}

#[test]
fn c_1_integers() {
    // Prefix, first byte with the other bits set, what follows, value.
    let cases: [(u32, u8, &[u8], usize); 3] =
        [(5, 0b1110_1010, &[], 10), (5, 0xff, &[0x9a, 0x0a], 1337), (8, 42, &[], 42)];
    for (bits, first, rest, value) in cases {
        let mut out = BytesMut::new();
        let flags = if bits == 8 { 0 } else { first & (0xff << bits) };
        integer::write(value, bits, flags, &mut out);
        assert_eq!(out, [&[first], rest].concat(), "{value}");
        assert_eq!(integer::read(first, bits, rest), Ok((value, &[][..])));
    }
}

#[test]
fn c_2_representations() {
    check(
        4096,
        &[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &[header("custom-key", "custom-header")],
            &[55],
        )],
    );
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[path("/sample/path")], &[])]);
    check(
        4096,
        &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[header("password", "secret")], &[])],
    );
    check(4096, &[("82", &[Field::Method(Method::GET)], &[])]);
}

fn requests() -> [Vec<Field>; 3] {
    let get = || Field::Method(Method::GET);
    [
        vec![get(), Field::Scheme(Scheme::Http), path("/"), authority()],
        vec![
            get(),
            Field::Scheme(Scheme::Http),
            path("/"),
            authority(),
            header("cache-control", "no-cache"),
        ],
        vec![
            get(),
            Field::Scheme(Scheme::Https),
            path("/index.html"),
            authority(),
            header("custom-key", "custom-value"),
        ],
    ]
}

#[test]
fn c_3_requests_without_huffman_codes() {
    let [first, second, third] = requests();
    check(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &first, &[57]),
            ("8286 84be 5808 6e6f 2d63 6163 6865", &second, &[53, 57]),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                &third,
                &[54, 53, 57],
            ),
        ],
    );
}

#[test]
fn c_4_requests_with_huffman_codes() {
    let [first, second, third] = requests();
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &first, &[57]),
            ("8286 84be 5886 a8eb 1064 9cbf", &second, &[53, 57]),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &third, &[54, 53, 57]),
        ],
    );
}

fn responses() -> [Vec<Field>; 3] {
    let fields = |status, date| {
        vec![
            Field::Status(status),
            header("cache-control", "private"),
            header("date", date),
            header("location", LOCATION),
        ]
    };
    let mut third = fields(StatusCode::OK, NEXT_DATE);
    third.extend([header("content-encoding", "gzip"), header("set-cookie", COOKIE)]);
    [fields(StatusCode::FOUND, DATE), fields(StatusCode::TEMPORARY_REDIRECT, DATE), third]
}

#[test]
fn c_5_responses_without_huffman_codes() {
    let [first, second, third] = responses();
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                &first,
                &[63, 65, 52, 42],
            ),
            ("4803 3330 37c1 c0bf", &second, &[42, 63, 65, 52]),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
                 3d31",
                &third,
                &[98, 52, 65],
            ),
        ],
    );
}

#[test]
fn c_6_responses_with_huffman_codes() {
    let [first, second, third] = responses();
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                &first,
                &[63, 65, 52, 42],
            ),
            ("4883 640e ffc1 c0bf", &second, &[42, 63, 65, 52]),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                &third,
                &[98, 52, 65],
            ),
        ],
    );
}

/// The representations that the examples choose, where ours would be others: which fields are
/// put into the table is for the encoder to say.
#[test]
fn writes_the_literals_of_c_2_c_4_and_c_6() {
    let cases: [(Form, usize, &str, &str, &str); 8] = [
        (Form::Indexed, 1, "", "www.example.com", "418c f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        (Form::Indexed, 24, "", "no-cache", "5886 a8eb 1064 9cbf"),
        (
            Form::Indexed,
            0,
            "custom-key",
            "custom-value",
            "4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ),
        (Form::Indexed, statics::STATUS, "", "302", "4882 6402"),
        (
            Form::Indexed,
            33,
            "",
            DATE,
            "6196 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
        ),
        (
            Form::Indexed,
            statics::LOCATION,
            "",
            LOCATION,
            "6e91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
        ),
        (
            Form::Indexed,
            statics::SET_COOKIE,
            "",
            COOKIE,
            "77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ),
        (Form::NotIndexed, 4, "", "/sample/path", "0489 6103 a6ba 0ac5 634c ff"),
    ];
    for (form, index, name, value, hex) in cases {
        let mut out = BytesMut::new();
        form.write(index, name, value.as_bytes(), &mut out);
        assert_eq!(out, bytes(hex), "{value}");
    }
}
