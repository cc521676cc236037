//! HPACK (RFC 7541) by hand: what the gateway writes is read here, by code and tables that are not its
//! own, and so have not its mistakes.
//! Panics at what a client would have to call a COMPRESSION_ERROR. For what it is to read there are
//! the parts of which header blocks are made.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

/// Names and values, in the order in which they came.
pub type Fields = Vec<(String, String)>;

/// What a reader of header blocks remembers from one to the next.
pub struct Decoder {
    table: VecDeque<(String, String)>,
    limit: usize,
    /// The largest limit that the reader has announced.
    largest: usize,
    /// The smallest of those since the last block, which has to be told (section 4.2).
    smallest: Option<usize>,
}

/// Section 4.1.
const OVERHEAD_BYTES: usize = 32;

/// Appendix A; names without a value have an empty one.
const STATIC: &[(&str, &str)] = &[
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// How many bits each byte takes, and the end (Appendix B). The code is canonical: shorter ones
/// come first, and those of one length in the order of their bytes.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6,
    7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22,
    22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22,
    23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27,
    27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25,
    24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The byte of each code, by its length and bits.
static CODES: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let mut bytes: Vec<usize> = (0..256).collect();
    bytes.sort_by_key(|&byte| (LENGTHS[byte], byte));
    let mut codes = HashMap::new();
    let (mut code, mut length) = (0, LENGTHS[bytes[0]]);
    for byte in bytes {
        code <<= LENGTHS[byte] - length;
        length = LENGTHS[byte];
        codes.insert((length, code), byte as u8);
        code += 1;
    }
    codes
});

// === impl Decoder ===

impl Decoder {
    pub fn new() -> Self {
        Self { table: VecDeque::new(), limit: 4096, largest: 4096, smallest: None }
    }

    /// The writer has acknowledged that the table may take `largest` bytes.
    pub fn allow(&mut self, largest: usize) {
        self.largest = largest;
        self.smallest = Some(self.smallest.map_or(largest, |smallest| smallest.min(largest)));
    }

    pub fn decode(&mut self, mut block: &[u8]) -> Fields {
        let mut fields = Fields::new();
        let mut told = self.smallest.take().unwrap_or(usize::MAX);
        while let Some(first) = block.first() {
            let is_size = first & 0xe0 == 0x20;
            assert!(is_size || self.limit <= told, "the table was to be made smaller first");
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7);
                fields.push(self.at(index));
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut block, 6);
                fields.push(field.clone());
                self.table.push_front(field);
                self.evict();
            } else if is_size {
                assert!(fields.is_empty(), "a new size of the table comes first");
                self.limit = integer(&mut block, 5);
                assert!(self.limit <= self.largest, "a table of {} bytes", self.limit);
                if self.limit <= told {
                    told = usize::MAX;
                }
                self.evict();
            } else {
                fields.push(self.literal(&mut block, 4));
            }
        }
        fields
    }

    fn at(&self, index: usize) -> (String, String) {
        let index = index.checked_sub(1).expect("an index is not 0");
        match STATIC.get(index) {
            Some((name, value)) => ((*name).to_owned(), (*value).to_owned()),
            None => self.table.get(index - STATIC.len()).expect("an index of the table").clone(),
        }
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> (String, String) {
        let index = integer(block, prefix);
        let name = if index == 0 { text(block) } else { self.at(index).0 };
        (name, text(block))
    }

    fn evict(&mut self) {
        let size = |(name, value): &(String, String)| name.len() + value.len() + OVERHEAD_BYTES;
        while self.table.iter().map(size).sum::<usize>() > self.limit {
            self.table.pop_back();
        }
    }
}

/// An integer whose first byte has `prefix` bits of it (section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> usize {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(take(block, 1)[0]) & most;
    if value < most {
        return value;
    }
    for shift in (0..28).step_by(7) {
        let byte = usize::from(take(block, 1)[0]);
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("an integer without an end");
}

fn text(block: &mut &[u8]) -> String {
    let is_coded = block.first().expect("a text") & 0x80 != 0;
    let length = integer(block, 7);
    let bytes = take(block, length);
    let bytes = if is_coded { decoded(bytes) } else { bytes.to_vec() };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn take<'a>(block: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = block.split_at_checked(count).expect("a block that is not cut");
    *block = rest;
    taken
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let (mut text, mut code, mut length) = (Vec::new(), 0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(byte) = CODES.get(&(length, code)) {
            text.push(*byte);
            (code, length) = (0, 0);
        }
    }
    assert!(length < 8 && code == (1 << length) - 1, "the padding is the start of the end's code");
    text
}

/// A number in the last `prefix` bits of `first` and the bytes behind it (section 5.1).
pub fn number(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], value - most);
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A field that the reader is to keep in its table (section 6.2.1).
pub fn kept(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40], &number(0, 7, name.len())[..], name, &number(0, 7, value.len()), value].concat()
}

/// A text in Huffman's code (section 5.2).
pub fn coded(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for byte in text {
        let ((length, code), _) = CODES.iter().find(|(_, coded)| *coded == byte).unwrap();
        bits.extend((0..*length).rev().map(|at| code >> at & 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(1);
    }
    let byte = |bits: &[u32]| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8);
    let bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
    [&number(0x80, 7, bytes.len())[..], &bytes].concat()
}

/// The examples of Appendix C.6: responses in Huffman's code, with a table of 256 bytes.
#[test]
fn reads_what_the_rfc_writes() {
    let bytes = |hex: &str| -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let digits = hex.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let mut decoder = Decoder::new();
    decoder.limit = 256;
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    for (block, status, date) in [
        (first, "302", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("4883 640e ffc1 c0bf", "307", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ] {
        let fields = decoder.decode(&bytes(block));
        let expected = [
            (":status", status),
            ("cache-control", "private"),
            ("date", date),
            ("location", "https://www.example.com"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, expected);
    }
}
