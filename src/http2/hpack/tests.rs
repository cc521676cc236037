//! Blocks read and written, here by facts of the RFC and by what holds for all;
//! `t/proxy/http2/http2.py` asks another implementation.

mod rfc;
mod read;
mod written;
mod any;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};

use super::{DecodeError, Decoder, Encoder, Field};

/// The bytes that `hex` spells; spaces are for the eye.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// What `block` has to say to `decoder`.
fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, DecodeError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field, _| fields.push(field))?;
    Ok(fields)
}

fn header(name: &str, value: &str) -> Field {
    Field::Header(name.parse().unwrap(), value.parse().unwrap())
}

fn write(encoder: &mut Encoder, fields: &[(HeaderName, HeaderValue)]) -> BytesMut {
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    for (name, value) in fields {
        encoder.field(name, value, &mut out);
    }
    out
}

/// A literal without indexing, as plain as can be.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0, name.len() as u8];
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value);
    block
}
