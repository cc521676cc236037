//! DER, as far as OCSP is written in it: one byte of tag, definite lengths.

/// What is left to read.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

// === impl Der ===

impl<'a> Der<'a> {
    /// The next element's tag and content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, content, rest) = split(self.0)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, if its tag is `tag`; else nothing is read.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content, rest) = split(self.0)?;
        if found != tag {
            return None;
        }
        self.0 = rest;
        Some(content)
    }

    /// The same, for what may be absent.
    pub(super) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.take(tag)
    }

    /// The next element with its tag and length, if its tag is `tag`.
    pub(super) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.take(tag)?;
        before.get(..before.len() - self.0.len())
    }
}

/// Tag and content of the first element, and what follows it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    // A number of its own for a tag, and lengths that are told at the end, come in no OCSP.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// An element of `tag` that holds `parts`.
pub(super) fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    match content.len() {
        short @ 0..=0x7f => bytes.push(short.to_le_bytes()[0]),
        _ => {
            let digits = length.iter().position(|digit| *digit != 0).unwrap_or_default();
            let digits = &length[digits..];
            bytes.push(0x80 | digits.len().to_le_bytes()[0]);
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend(content);
    bytes
}

/// A GeneralizedTime (`20261124221000Z`) in seconds since 1970.
pub(super) fn moment(text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != 14 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        digits[from..to].iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    // Years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_that_is_cut() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = wrap(0x30, &[&content]);
            let mut der = Der(&bytes);
            assert!(der.take(0x04).is_none(), "of another tag");
            assert_eq!(der.take(0x30).unwrap(), content);
            assert!(der.next().is_none());
            assert!(Der(&bytes[..bytes.len() - 1]).next().is_none());
        }
        assert!(Der(&[0x30, 0x80, 0, 0]).next().is_none(), "no length");
        assert!(Der(&[0x30, 0x84, 0, 0, 0, 1, 0]).next().is_none(), "too long a length");
    }

    #[test]
    fn reads_times() {
        for (text, seconds) in [
            ("19700101000000Z", Some(0)),
            ("20000229235959Z", Some(951_868_799)),
            ("20261124221000Z", Some(1_795_558_200)),
            ("20261324221000Z", None),
            ("2026112422100Z", None),
            ("20261124221000", None),
        ] {
            assert_eq!(moment(text.as_bytes()), seconds, "{text}");
        }
    }
}
