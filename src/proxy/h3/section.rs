//! Field sections as QPACK encodes them: what of HTTP/3's rules about pseudo-header fields can be
//! seen before they are decoded, since `h3` keeps the last of several and does not look at the order.
//!
//! Source: RFC 9204, section 4.5; RFC 9114, sections 4.3 and 4.1.2.

use ::h3::error::Code;

/// Which section of a message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Trailers,
}

/// The pseudo-header fields of a request, as bits.
const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;

/// Their names, as they are and in Huffman's code: a name that begins with a colon and is none of
/// these is not a request's.
const NAMES: [(u8, &[u8], &[u8]); 4] = [
    (METHOD, b":method", &[185, 73, 83, 57, 228]),
    (SCHEME, b":scheme", &[184, 130, 78, 90, 75]),
    (AUTHORITY, b":authority", &[184, 59, 83, 57, 236, 50, 125, 127]),
    (PATH, b":path", &[185, 88, 211, 63]),
];

/// The colon in Huffman's code, which is 7 bits long.
const COLON: u8 = 0x5c;

/// What a line of a section is.
enum Line {
    Field,
    Pseudo(u8),
    /// One that no request has.
    Foreign,
}

/// Reads an encoded section.
struct Reader<'a>(&'a [u8]);

/// Checks that pseudo-header fields come before others and once each, and that trailers have none.
///
/// # Errors
/// The code to reset the stream with: of a malformed message, or of a section that cannot be read
/// without a dynamic table, which was not offered.
pub(super) fn check(section: &[u8], part: Part) -> Result<(), Code> {
    const MALFORMED: Code = Code::H3_MESSAGE_ERROR;
    let mut reader = Reader(section);
    let unreadable = || Code::QPACK_DECOMPRESSION_FAILED;
    reader.prefix().ok_or_else(unreadable)?;
    let mut seen = 0;
    let mut fields = false;
    while !reader.0.is_empty() {
        match reader.line().ok_or_else(unreadable)? {
            Line::Field => fields = true,
            Line::Pseudo(name) if part == Part::Head && !fields && seen & name == 0 => seen |= name,
            Line::Pseudo(_) | Line::Foreign => return Err(MALFORMED),
        }
    }
    if part == Part::Head && seen & METHOD == 0 { Err(MALFORMED) } else { Ok(()) }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Required insert count and base.
    fn prefix(&mut self) -> Option<()> {
        self.integer(8)?;
        self.integer(7)?;
        Some(())
    }

    fn line(&mut self) -> Option<Line> {
        let first = *self.0.first()?;
        // Lines that refer to the dynamic table are given up.
        if first & 0xc0 == 0xc0 {
            return Some(of_static(self.integer(6)?));
        }
        let line = if first & 0xd0 == 0x50 {
            of_static(self.integer(4)?)
        } else if first & 0xe0 == 0x20 {
            let is_coded = first & 0x08 != 0;
            let length = self.integer(3)?;
            of_name(self.take(length)?, is_coded)
        } else {
            return None;
        };
        let length = self.integer(7)?;
        self.take(length)?;
        Some(line)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// An integer whose first byte has `bits` bits of it (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(self.take(1)?[0]) & mask;
        if value < mask {
            return Some(value);
        }
        // Sections are far shorter than what three bytes can say.
        for shift in [0, 7, 14] {
            let byte = usize::from(self.take(1)?[0]);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// What an entry of the static table is (RFC 9204, appendix A).
fn of_static(index: usize) -> Line {
    match index {
        0 => Line::Pseudo(AUTHORITY),
        1 => Line::Pseudo(PATH),
        15..=21 => Line::Pseudo(METHOD),
        22 | 23 => Line::Pseudo(SCHEME),
        24..=28 | 63..=71 => Line::Foreign,
        _ => Line::Field,
    }
}

fn of_name(name: &[u8], is_coded: bool) -> Line {
    let first = name.first().copied().unwrap_or_default();
    let is_pseudo = if is_coded { first >> 1 == COLON } else { first == b':' };
    if !is_pseudo {
        return Line::Field;
    }
    let known =
        NAMES.iter().find(|(_, plain, coded)| name == if is_coded { *coded } else { *plain });
    known.map_or(Line::Foreign, |(name, ..)| Line::Pseudo(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of literals.
    fn section(names: &[&str]) -> Vec<u8> {
        let mut section = vec![0, 0];
        for name in names {
            let length = name.len();
            if length < 7 {
                section.push(0x20 | length as u8);
            } else {
                section.extend([0x27, (length - 7) as u8]);
            }
            section.extend(name.as_bytes());
            section.extend([1, b'x']);
        }
        section
    }

    fn check(names: &[&str], part: Part) -> Result<(), u64> {
        super::check(&section(names), part).map_err(|code| code.value())
    }

    #[test]
    fn pseudo_header_fields_come_first_and_once() {
        const MALFORMED: Result<(), u64> = Err(0x10e);
        let good = [":method", ":scheme", ":authority", ":path", "accept"];
        assert_eq!(check(&good, Part::Head), Ok(()));
        for bad in [
            &[":method", "accept", ":path"][..],
            &[":method", ":path", ":path"],
            &[":method", ":status"],
            &[":method", ":protocol"],
            &[":method", ":"],
            &[":path"],
            &[],
        ] {
            assert_eq!(check(bad, Part::Head), MALFORMED, "{bad:?}");
        }
        assert_eq!(check(&["x-sum"], Part::Trailers), Ok(()));
        assert_eq!(check(&[":path"], Part::Trailers), MALFORMED);
    }

    #[test]
    fn names_are_known_in_every_form() {
        let head = |rest: &[u8]| [&[0, 0][..], rest].concat();
        let check = |rest: &[u8]| super::check(&head(rest), Part::Head).map_err(|c| c.value());
        // GET, https and / of the static table.
        assert_eq!(check(&[0xd1, 0xd7, 0xc1]), Ok(()));
        assert_eq!(check(&[0xd1, 0xd1]), Err(0x10e));
        // :method by its place in the table, then in Huffman's code.
        let coded = [0x2d, 185, 73, 83, 57, 228, 1, b'x'];
        assert_eq!(check(&[&[0x5f, 0, 1, b'x'][..], &coded].concat()), Err(0x10e));
        assert_eq!(check(&coded), Ok(()));
        // The dynamic table, and lines that end too early.
        for bad in [&[0x80][..], &[0x40, 1, b'x'], &[0x10], &[0x00], &[0xd1, 0x5f], &[0x27, 255]] {
            assert_eq!(check(bad), Err(0x200), "{bad:?}");
        }
    }
}
