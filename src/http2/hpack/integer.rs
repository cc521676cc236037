//! Integers: the low bits of a byte, and seven bits of each byte that follows.
//!
//! Source: RFC 7541, section 5.1.

use bytes::{BufMut as _, BytesMut};

use super::DecodeError;

/// Reads an integer of a prefix of `bits`, which are the low ones of `first`; `rest` is what
/// follows, and what of it is left is given back. Nothing in a block is as large as 32 bits say.
#[inline]
pub(super) fn read(first: u8, bits: u32, rest: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let most = u8::MAX >> (u8::BITS - bits);
    let prefix = first & most;
    if prefix < most { Ok((prefix.into(), rest)) } else { read_on(prefix, rest) }
}

#[cold]
fn read_on(prefix: u8, mut rest: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let mut value = u64::from(prefix);
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first().ok_or(DecodeError::Truncated)?;
        rest = after;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| DecodeError::Integer)?;
            return Ok((value as usize, rest));
        }
    }
    Err(DecodeError::Integer)
}

/// Writes `value` with a prefix of `bits`; the bits above it are those of `flags`.
#[inline]
pub(super) fn write(value: usize, bits: u32, flags: u8, out: &mut BytesMut) {
    let most = (1 << bits) - 1;
    if value < most {
        out.put_u8(flags | value as u8);
        return;
    }
    out.put_u8(flags | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}
