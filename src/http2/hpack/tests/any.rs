//! What holds for any fields and any bytes.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::{Decoder, Encoder, Field, huffman};
use super::{read, write};

type Header = (HeaderName, HeaderValue);

/// Names and values of which some come again and again; values with the same ends, by which an
/// encoder looks for them.
fn headers() -> impl Strategy<Value = Header> {
    let known = prop::sample::select(vec!["server", "date", "set-cookie", "location", "x-id"]);
    let name = prop_oneof![
        6 => known.prop_map(HeaderName::from_static),
        2 => "x-[ab]{1,3}".prop_map(|name| name.parse().unwrap()),
        1 => "[!#$%&'*+.^_`|~0-9a-z-]{1,90}".prop_map(|name| name.parse().unwrap()),
    ];
    let value = prop_oneof![
        4 => "[ab]".prop_map(String::into_bytes),
        4 => "same-end[ab]{3}same-end".prop_map(String::into_bytes),
        1 => "[!-~]{0,300}".prop_map(String::into_bytes),
        1 => prop::collection::vec(0x80_u8.., 0..40),
    ];
    (name, value, prop::bool::weighted(0.1)).prop_map(|(name, value, sensitive)| {
        let mut value = HeaderValue::from_bytes(&value).unwrap();
        value.set_sensitive(sensitive);
        (name, value)
    })
}

/// What happens to an encoder: the peer's settings, and a block.
fn turns() -> impl Strategy<Value = Vec<(Vec<u32>, Vec<Header>)>> {
    let sizes = prop_oneof![0..200_u32, 0..5000_u32, Just(4096)];
    let settings = prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(sizes, 1..4)];
    prop::collection::vec((settings, prop::collection::vec(headers(), 0..12)), 1..20)
}

proptest! {
    #[test]
    fn what_is_written_is_read(turns in turns()) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(4096);
        for (settings, headers) in turns {
            settings.iter().for_each(|bytes| encoder.resize(*bytes));
            let block = write(&mut encoder, &headers);
            let fields: Vec<_> =
                headers.into_iter().map(|(name, value)| Field::Header(name, value)).collect();
            prop_assert_eq!(read(&mut decoder, &block), Ok(fields));
            prop_assert_eq!(decoder.table.sizes(), encoder.table.sizes());
            prop_assert!(encoder.table.sizes().iter().sum::<usize>() <= encoder.table.limit());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        table_bytes in 0..5000_usize,
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..20),
    ) {
        let mut decoder = Decoder::new(table_bytes);
        for block in blocks {
            // No connection goes on behind an error; but nothing may break either.
            let _ = read(&mut decoder, &block);
            prop_assert!(decoder.table.limit() <= table_bytes);
            prop_assert!(decoder.table.sizes().iter().sum::<usize>() <= decoder.table.limit());
        }
    }

    /// Blocks that are right but for a few bytes get further than any bytes do.
    #[test]
    fn bytes_that_change_on_the_way_break_nothing(
        turns in turns(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 20),
    ) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(4096);
        for ((_, headers), (at, byte)) in turns.into_iter().zip(changes) {
            let mut block = write(&mut encoder, &headers);
            if !block.is_empty() {
                let at = at.index(block.len());
                block[at] = byte;
            }
            let _ = read(&mut decoder, &block);
            prop_assert!(decoder.table.sizes().iter().sum::<usize>() <= 4096);
        }
    }

    /// A block cut anywhere is refused, or read up to the end of a field.
    #[test]
    fn a_cut_block_gives_what_is_whole(
        headers in prop::collection::vec(headers(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let block = write(&mut Encoder::new(), &headers);
        let mut fields = Vec::new();
        let all = Decoder::new(4096).decode(&block[..cut.index(block.len())], |field, _| {
            fields.push(field);
        });
        let whole: Vec<_> = headers
            .into_iter()
            .take(fields.len())
            .map(|(name, value)| Field::Header(name, value))
            .collect();
        prop_assert_eq!(&fields, &whole);
        prop_assert!(all.is_ok() || all == Err(super::super::DecodeError::Truncated));
    }

    #[test]
    fn any_string_has_a_huffman_code(string in prop::collection::vec(any::<u8>(), 0..600)) {
        let coded = huffman::coded_len(&string);
        let mut out = BytesMut::from(&b"before"[..]);
        huffman::encode(&string, coded, &mut out);
        prop_assert_eq!(out.len(), 6 + coded);
        prop_assert_eq!(&out[..6], b"before");
        let mut room = vec![0; huffman::longest(coded)];
        let len = huffman::decode(&out[6..], &mut room);
        prop_assert_eq!(len.map(|len| &room[..len]), Some(&string[..]));
    }

    /// What is a code at all is the code of what it stands for: there is one way to write each.
    #[test]
    fn any_huffman_code_is_the_one_of_its_string(code in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut room = vec![0; huffman::longest(code.len())];
        if let Some(len) = huffman::decode(&code, &mut room) {
            let mut out = BytesMut::new();
            huffman::encode(&room[..len], huffman::coded_len(&room[..len]), &mut out);
            prop_assert_eq!(&out[..], &code[..]);
        }
    }
}
