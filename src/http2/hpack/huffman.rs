//! The Huffman code of strings.
//!
//! The code is canonical: of the symbols of one length, in their order, each has the next number,
//! and the first of a length follows the last of the shorter ones. So the lengths are all there
//! is to know; the tables are made of them by the compiler.
//!
//! Source: RFC 7541, section 5.2 and appendix B.

use std::mem;

use bytes::BytesMut;

/// How many bits each byte takes; the last is the end of the string, which no string may have.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The longest length that [`SHORT`] knows; seven in eight bytes of a usual head are no longer.
const SHORT_BITS: u32 = 8;

/// By the next eight bits: the byte whose code they begin with, and above it the length of its
/// code; zero if that is longer.
static SHORT: [u16; 1 << SHORT_BITS] = short();

/// The codes of a length above [`SHORT_BITS`].
#[derive(Clone, Copy)]
struct Long {
    /// How many bits each has.
    bits: u32,
    /// The last code, as the high bits of 32, with ones behind it.
    last: u32,
    /// The first code, as the low bits.
    first: u32,
    /// Where the symbol of the first code stands in [`SYMBOLS`].
    at: u32,
}

static LONG: [Long; 17] = long();

/// All symbols in the order of their codes; 256 is the end of the string.
static SYMBOLS: [u16; 257] = symbols();

/// By symbol: its code, as the low bits, and how many these are.
static CODES: [(u32, u8); 257] = codes();

/// How many bytes a string of `coded` bytes can have at most: no code is shorter than five bits.
pub(super) const fn longest(coded: usize) -> usize {
    coded * 8 / 5
}

/// Writes the string that `coded` stands for to `into`, which is at least [`longest`] long, and
/// tells its length. `None` if it has the end of the string in it, or ends otherwise than with
/// less than eight bits of that (RFC 7541, section 5.2).
pub(super) fn decode(coded: &[u8], into: &mut [u8]) -> Option<usize> {
    // The next bits, from the highest on, and how many they are.
    let mut bits = 0_u64;
    let mut have = 0_u32;
    let mut len = 0;
    let (words, rest) = coded.as_chunks();
    for word in words {
        bits |= u64::from(u32::from_be_bytes(*word)) << (32 - have);
        have += 32;
        while have >= 32 {
            let (symbol, taken) = next(bits)?;
            *into.get_mut(len)? = symbol;
            len += 1;
            bits <<= taken;
            have -= taken;
        }
    }
    for byte in rest {
        bits |= u64::from(*byte) << (56 - have);
        have += 8;
    }
    // Behind them stand ones, as if the padding went on.
    loop {
        let padded = bits | u64::MAX >> have;
        if have < 8 && padded == u64::MAX {
            return Some(len);
        }
        let (symbol, taken) = next(padded)?;
        have = have.checked_sub(taken)?;
        *into.get_mut(len)? = symbol;
        len += 1;
        bits <<= taken;
    }
}

/// The byte whose code stands in the highest of `bits`, and how many it takes; `None` if it is the
/// end of the string. At least 30 of them count.
#[inline]
fn next(bits: u64) -> Option<(u8, u32)> {
    let short = SHORT[(bits >> (u64::BITS - SHORT_BITS)) as usize];
    if short != 0 { Some((short as u8, (short >> 8).into())) } else { next_long(bits) }
}

#[inline(never)]
fn next_long(bits: u64) -> Option<(u8, u32)> {
    let bits = (bits >> 32) as u32;
    let row = LONG.iter().find(|row| bits <= row.last)?;
    let nth = (bits >> (u32::BITS - row.bits)) - row.first;
    let symbol = SYMBOLS[(row.at + nth) as usize];
    u8::try_from(symbol).ok().map(|symbol| (symbol, row.bits))
}

/// How many bytes `string` takes.
#[inline]
pub(super) fn coded_len(string: &[u8]) -> usize {
    let bits: usize = string.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `string`, which takes `coded` bytes.
pub(super) fn encode(string: &[u8], coded: usize, out: &mut BytesMut) {
    let from = out.len();
    out.resize(from + coded, 0);
    let mut into = &mut out[from..];
    // The bits not written yet, as the low ones, and how many they are: less than 32.
    let mut bits = 0_u64;
    let mut have = 0;
    for byte in string {
        let (code, len) = CODES[usize::from(*byte)];
        bits = bits << len | u64::from(code);
        have += u32::from(len);
        if have >= 32 {
            have -= 32;
            if let Some((four, after)) = mem::take(&mut into).split_first_chunk_mut::<4>() {
                *four = ((bits >> have) as u32).to_be_bytes();
                into = after;
            }
        }
    }
    // What is left, with ones behind it.
    let last = (bits << (u64::BITS - 1 - have) << 1 | u64::MAX >> have).to_be_bytes();
    for (into, byte) in into.iter_mut().zip(last) {
        *into = byte;
    }
}

const fn codes() -> [(u32, u8); 257] {
    let mut codes = [(0, 0); 257];
    let mut code = 0;
    let mut bits = 1;
    while bits <= 30 {
        code <<= 1;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == bits {
                codes[symbol] = (code, bits);
                code += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    codes
}

const fn symbols() -> [u16; 257] {
    let mut symbols = [0; 257];
    let mut at = 0;
    let mut bits = 1;
    while bits <= 30 {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == bits {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    symbols
}

const fn short() -> [u16; 1 << SHORT_BITS] {
    let codes = codes();
    let mut short = [0; 1 << SHORT_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, bits) = codes[symbol];
        if bits as u32 <= SHORT_BITS {
            let free = SHORT_BITS - bits as u32;
            let mut low = 0;
            while low < 1 << free {
                short[(code << free) as usize + low] = (bits as u16) << 8 | symbol as u16;
                low += 1;
            }
        }
        symbol += 1;
    }
    short
}

const fn long() -> [Long; 17] {
    let codes = codes();
    let symbols = symbols();
    let mut rows = [Long { bits: 0, last: 0, first: 0, at: 0 }; 17];
    let mut count = 0;
    let mut at = 0;
    while at < symbols.len() {
        let (code, bits) = codes[symbols[at] as usize];
        if bits as u32 > SHORT_BITS {
            if count == 0 || rows[count - 1].bits < bits as u32 {
                rows[count] = Long { bits: bits as u32, last: 0, first: code, at: at as u32 };
                count += 1;
            }
            let free = 32 - bits as u32;
            rows[count - 1].last = code << free | ((1 << free) - 1);
        }
        at += 1;
    }
    rows
}
