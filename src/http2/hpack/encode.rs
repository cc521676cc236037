//! Blocks written.
//!
//! A field enters the table when it is met a second time: what is told once, as the id of a
//! request is, would only push out what is told each time. The third time it is one byte.
//!
//! Source: RFC 7541, sections 4.2, 6 and 7.1.

use std::cmp::Reverse;

use bytes::{BufMut as _, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};

use super::table::Table;
use super::{OVERHEAD_BYTES, huffman, integer, names, statics};

/// How large a table is at the start (RFC 9113, section 6.5.2), and never larger than.
const MOST_BYTES: u32 = 4096;

/// Writes the header blocks of a connection.
pub struct Encoder {
    pub(super) table: Table<Pair>,
    /// The number of the entry that was put in last.
    newest: u16,
    /// What was met: by a digest of name and value; made with the first field.
    slots: Option<Box<[Slot; SLOTS]>>,
    /// What the peer allows, which may be more than is used.
    allowed: u32,
    /// The smallest size since the last block, if the peer has to be told of a change.
    smallest: Option<usize>,
}

/// A field in the table. The value is a copy, since the field's own may hold on to the whole
/// buffer that it was read into.
pub(super) struct Pair {
    name: HeaderName,
    value: Box<[u8]>,
}

/// A field that was met.
#[derive(Clone, Copy)]
struct Slot {
    /// More of its digest.
    tag: u16,
    /// Some of a digest of all of its value.
    whole: u16,
    /// The number of its entry. That may be gone, or never have been, or be another's by now:
    /// it is looked at before it is believed.
    number: u16,
}

const SLOTS: usize = 64;

/// A field may stand in this many slots, beginning with that of its digest.
const PLACES: usize = 4;

/// An entry so many numbers back is gone: one takes 33 bytes of the table's 4096 at least.
const GONE: u16 = 128;

/// How a field is written out (section 6.2).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// And put into the table.
    Indexed,
    NotIndexed,
    /// And nobody on the way may put it into a table.
    NeverIndexed,
}

// === impl Encoder ===

impl Encoder {
    /// An encoder whose table takes at most 4096 bytes.
    pub const fn new() -> Self {
        Self {
            table: Table::new(MOST_BYTES as usize),
            newest: 0,
            slots: None,
            allowed: MOST_BYTES,
            smallest: None,
        }
    }

    /// Takes the peer's SETTINGS_HEADER_TABLE_SIZE, of which no more than 4096 bytes are used.
    /// The next block tells of the change.
    pub fn resize(&mut self, bytes: u32) {
        let limit = bytes.min(MOST_BYTES) as usize;
        // A peer that allows less has to be told, though it be as much as was used before
        // (RFC 9113, section 4.3.1).
        if bytes < self.allowed || limit != self.table.limit() {
            self.smallest = Some(self.smallest.map_or(limit, |smallest| smallest.min(limit)));
        }
        self.allowed = bytes;
        self.table.resize(limit);
    }

    /// Begins a block: tells of the changes of the table's size since the last one.
    #[inline]
    pub fn begin(&mut self, out: &mut BytesMut) {
        if let Some(smallest) = self.smallest.take() {
            if smallest < self.table.limit() {
                integer::write(smallest, 5, 0x20, out);
            }
            integer::write(self.table.limit(), 5, 0x20, out);
        }
    }

    /// Writes `:status`.
    #[inline]
    pub fn status(&mut self, status: StatusCode, out: &mut BytesMut) {
        match statics::status(status) {
            Some(index) => write_index(index, out),
            None => Form::NotIndexed.write(statics::STATUS, "", status.as_str().as_bytes(), out),
        }
    }

    /// Writes a field. One with a sensitive value, a cookie or a credential goes out so that
    /// nobody on the way indexes it (section 7.1.3).
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
        let name_digest = names::digest(name.as_str().as_bytes());
        let digest = name_digest.rotate_left(25) ^ names::digest(value.as_bytes());
        if !value.is_sensitive()
            && let Some(slots) = &self.slots
        {
            for slot in places(digest).map(|place| slots[place]) {
                let age = usize::from(self.newest.wrapping_sub(slot.number));
                if slot.tag == tag(digest)
                    && let Some((_, pair)) = self.table.get(age)
                    && pair.is(name, value)
                {
                    return write_index(statics::COUNT + 1 + age, out);
                }
            }
        }
        self.spell(name, value, name_digest, digest, out);
    }

    /// Writes a field that is not in the table, and puts it there if it was met before.
    #[inline(never)]
    fn spell(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
        name_digest: u64,
        digest: u64,
        out: &mut BytesMut,
    ) {
        let text = name.as_str();
        let index = names::static_index(text.as_bytes(), name_digest);
        let mut form = Form::of(index, value);
        if form == Form::Indexed && !self.keep(name, value, digest) {
            form = Form::NotIndexed;
        }
        form.write(index, text, value.as_bytes(), out);
    }

    /// Puts a field into the table, if it was met before; else notes that it was met.
    fn keep(&mut self, name: &HeaderName, value: &HeaderValue, digest: u64) -> bool {
        let size = name.as_str().len() + value.len() + OVERHEAD_BYTES;
        // What would push out most of the others is not worth it.
        if size > self.table.limit() / 4 * 3 {
            return false;
        }
        let newest = self.newest;
        let slots = self.slots.get_or_insert_with(|| {
            let never = newest.wrapping_sub(2 * GONE);
            Box::new([Slot { tag: 0, whole: 0, number: never }; SLOTS])
        });
        // Others may have the same ends, with something random between.
        let whole = names::whole_digest(value.as_bytes()) as u16;
        let is_met = |slot: &Slot| slot.tag == tag(digest) && slot.whole == whole;
        // Its own, else the one with the oldest entry.
        let order = |place: &usize| {
            let slot = &slots[*place];
            (!is_met(slot), Reverse(newest.wrapping_sub(slot.number)))
        };
        let place = places(digest).min_by_key(order).unwrap_or_default();
        let met = is_met(&slots[place]);
        if met {
            self.newest = newest.wrapping_add(1);
            self.table.insert(size, Pair { name: name.clone(), value: value.as_bytes().into() });
        }
        let number = if met { self.newest } else { newest.wrapping_sub(GONE) };
        slots[place] = Slot { tag: tag(digest), whole, number };
        met
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Pair ===

impl Pair {
    fn is(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        *self.value == *value.as_bytes() && self.name == *name
    }
}

// === impl Form ===

impl Form {
    /// How a field may go out whose name has this index in the static table.
    fn of(index: usize, value: &HeaderValue) -> Self {
        use statics::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION, SET_COOKIE};
        match index {
            AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE => Self::NeverIndexed,
            _ if value.is_sensitive() => Self::NeverIndexed,
            // It may have a token in it, which one that can ask for other fields would guess at.
            LOCATION => Self::NotIndexed,
            _ => Self::Indexed,
        }
    }

    /// Writes a field whose name is the entry `index`, or is spelt out if that is 0.
    pub(super) fn write(self, index: usize, name: &str, value: &[u8], out: &mut BytesMut) {
        // Three integers, none above 32 bits.
        out.reserve(18 + name.len() + value.len());
        match self {
            Self::Indexed => integer::write(index, 6, 0x40, out),
            Self::NotIndexed => integer::write(index, 4, 0, out),
            Self::NeverIndexed => integer::write(index, 4, 0x10, out),
        }
        if index == 0 {
            write_string(name.as_bytes(), out);
        }
        write_string(value, out);
    }
}

/// The slots in which a field may stand.
fn places(digest: u64) -> impl Iterator<Item = usize> {
    let first = (digest >> 58) as usize;
    (first..first + PLACES).map(|place| place % SLOTS)
}

fn tag(digest: u64) -> u16 {
    (digest >> 40) as u16
}

#[inline]
fn write_index(index: usize, out: &mut BytesMut) {
    integer::write(index, 7, 0x80, out);
}

fn write_string(string: &[u8], out: &mut BytesMut) {
    let coded = huffman::coded_len(string);
    if coded < string.len() {
        integer::write(coded, 7, 0x80, out);
        huffman::encode(string, coded, out);
    } else {
        integer::write(string.len(), 7, 0, out);
        out.put_slice(string);
    }
}
