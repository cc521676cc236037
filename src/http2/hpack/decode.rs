//! Blocks read.
//!
//! Source: RFC 7541, sections 3 and 6.

use super::field::{Field, Name};
use super::table::Table;
use super::{OVERHEAD_BYTES, huffman, integer, statics};

/// Reads the header blocks of a connection.
pub struct Decoder {
    pub(super) table: Table<Kept>,
    /// How large the peer may make the table.
    most_bytes: usize,
}

/// Why a block cannot be read. What the tables hold is no longer known then: each is a
/// COMPRESSION_ERROR of the connection (RFC 9113, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the header block ends within a field")]
    Truncated,
    #[error("the header block has an integer of more than 32 bits")]
    Integer,
    #[error("the header block points at a field that is in no table")]
    Index,
    #[error("a string of the header block is no Huffman code")]
    Huffman,
    #[error("the header block makes the table larger than it may be")]
    TableTooLarge,
    #[error("the header block resizes the table behind its first field")]
    LateResize,
}

/// A field in a table.
pub(super) struct Kept {
    field: Field,
    /// Of a malformed one that was received; another field may point at it.
    name: Option<Box<Name>>,
}

/// Room for what Huffman codes stand for: most strings find it here, and need no allocation.
struct Scratch {
    small: [u8; 256],
    large: Vec<u8>,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder whose table takes at most `table_bytes`: what our SETTINGS_HEADER_TABLE_SIZE
    /// says.
    pub const fn new(table_bytes: usize) -> Self {
        Self { table: Table::new(table_bytes), most_bytes: table_bytes }
    }

    /// Reads a whole block; `each` gets every field, with the size that it counts: the lengths of
    /// name and value, and 32 (section 4.1). A byte of a block can stand for a field as large as
    /// the table, so that it is for `each` to limit their sum, and to drop what is above it.
    ///
    /// After an error the decoder is of no more use.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field, usize),
    ) -> Result<(), DecodeError> {
        let mut rest = self.resized(block)?;
        while let [first, after @ ..] = rest {
            if first & 0x80 != 0 {
                let (index, after) = integer::read(*first, 7, after)?;
                let (size, kept) = self.entry(index)?;
                each(kept.field.clone(), *size);
                rest = after;
            } else if first & 0x40 != 0 {
                let (index, after) = integer::read(*first, 6, after)?;
                let (size, kept, after) = self.literal(index, after)?;
                each(kept.field.clone(), size);
                self.table.insert(size, kept);
                rest = after;
            } else if first & 0x20 != 0 {
                return Err(DecodeError::LateResize);
            } else {
                let (index, after) = integer::read(*first, 4, after)?;
                let (size, mut kept, after) = self.literal(index, after)?;
                if first & 0x10 != 0 {
                    kept.field.set_sensitive();
                }
                each(kept.field, size);
                rest = after;
            }
        }
        Ok(())
    }

    /// Does what a block starts with that is no field, and gives what is behind it (section 4.2).
    #[inline]
    fn resized<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let mut rest = block;
        while let [first @ 0x20..0x40, after @ ..] = rest {
            let (bytes, after) = integer::read(*first, 5, after)?;
            if bytes > self.most_bytes {
                return Err(DecodeError::TableTooLarge);
            }
            self.table.resize(bytes);
            rest = after;
        }
        Ok(rest)
    }

    #[inline]
    fn entry(&self, index: usize) -> Result<&(usize, Kept), DecodeError> {
        let entry = match index.checked_sub(statics::COUNT + 1) {
            Some(age) => self.table.get(age),
            None => statics::get(index),
        };
        entry.ok_or(DecodeError::Index)
    }

    /// Reads a field that is spelt out, or all but its name, which is that of the entry `index`.
    #[inline(never)]
    fn literal<'a>(
        &self,
        index: usize,
        rest: &'a [u8],
    ) -> Result<(usize, Kept, &'a [u8]), DecodeError> {
        let mut scratch = Scratch::new();
        let (name, rest) = match index {
            0 => {
                let (name, rest) = string(rest, &mut scratch)?;
                (Name::parse(name), rest)
            }
            statics::AUTHORITY => (Name::Authority, rest),
            _ => (self.entry(index)?.1.name(), rest),
        };
        let name_bytes = name.len();
        let (value, rest) = string(rest, &mut scratch)?;
        Ok((name_bytes + value.len() + OVERHEAD_BYTES, Kept::parse(name, value), rest))
    }
}

// === impl Kept ===

impl Kept {
    pub(super) const fn new(field: Field) -> Self {
        Self { field, name: None }
    }

    fn parse(name: Name, value: &[u8]) -> Self {
        match name.field(value) {
            Ok(field) => Self::new(field),
            Err(name) => Self { field: Field::Malformed, name: Some(Box::new(name)) },
        }
    }

    fn name(&self) -> Name {
        match &self.name {
            Some(name) => Name::clone(name),
            None => Name::of(&self.field),
        }
    }
}

// === impl Scratch ===

impl Scratch {
    fn new() -> Self {
        Self { small: [0; 256], large: Vec::new() }
    }

    /// Room for `bytes`.
    fn of(&mut self, bytes: usize) -> &mut [u8] {
        if bytes <= self.small.len() {
            return &mut self.small;
        }
        self.large.resize(bytes, 0);
        &mut self.large
    }
}

/// Reads a string (section 5.2), and gives what is behind it. Room is made only for what is there.
fn string<'a: 's, 's>(
    rest: &'a [u8],
    scratch: &'s mut Scratch,
) -> Result<(&'s [u8], &'a [u8]), DecodeError> {
    let (first, rest) = rest.split_first().ok_or(DecodeError::Truncated)?;
    let (len, rest) = integer::read(*first, 7, rest)?;
    let (string, rest) = rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    if first & 0x80 == 0 {
        return Ok((string, rest));
    }
    let room = scratch.of(huffman::longest(len));
    let len = huffman::decode(string, room).ok_or(DecodeError::Huffman)?;
    Ok((&room[..len], rest))
}
