//! Header blocks, compressed: what both sides of a connection remember of each other's fields.
//!
//! A [`Decoder`] reads the peer's blocks, an [`Encoder`] writes ours; each belongs to one
//! connection and has to see every block of it, in order. Neither takes memory before the first
//! field enters its table.
//!
//! Source: RFC 7541.

mod integer;
mod huffman;
mod statics;
mod names;
mod table;
mod field;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use field::{Field, Scheme};

/// What an entry of a table counts beside its name and value (RFC 7541, section 4.1).
const OVERHEAD_BYTES: usize = 32;
