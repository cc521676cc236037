//! Header lines: what both kinds of head have in common.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::Malformed;

/// More header lines than this are refused.
pub(super) const MOST: usize = 128;

/// Where a header line's name and value stand in the head: offsets, since the parser borrows the
/// bytes that the fields will share.
pub(super) struct Line {
    name: (usize, usize),
    value: (usize, usize),
}

/// The lines of `headers`, which were parsed from `head`.
pub(super) fn lines(head: &[u8], headers: &[httparse::Header<'_>]) -> SmallVec<[Line; 32]> {
    let range = |part: &[u8]| range(head, part);
    headers
        .iter()
        .map(|field| Line { name: range(field.name.as_bytes()), value: range(field.value) })
        .collect()
}

/// Where `part` stands in `head`, which it is a part of.
pub(super) fn range(head: &[u8], part: &[u8]) -> (usize, usize) {
    let from = part.as_ptr() as usize - head.as_ptr() as usize;
    (from, from + part.len())
}

// === impl Line ===

impl Line {
    /// The field, sharing `head`'s bytes.
    pub(super) fn field(&self, head: &Bytes) -> Result<(HeaderName, HeaderValue), Malformed> {
        let name = HeaderName::from_bytes(&head[self.name.0..self.name.1])
            .map_err(|_| Malformed("a header's name is not one"))?;
        let value = HeaderValue::from_maybe_shared(head.slice(self.value.0..self.value.1))
            .map_err(|_| Malformed("a header's value is not one"))?;
        Ok((name, value))
    }
}

/// What `Content-Length` says: a decimal number and nothing else, no sign, no space (RFC 9110,
/// section 8.6).
pub(super) fn length(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or(Malformed("its length is not one"))
}

/// The options of a `Connection` field.
pub(super) fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

pub(super) fn malformed(error: httparse::Error) -> Malformed {
    Malformed(match error {
        httparse::Error::HeaderName => "a header's name is not one",
        httparse::Error::HeaderValue => "a header's value is not one",
        httparse::Error::NewLine => "a line end is missing",
        httparse::Error::Status => "its status is not one",
        httparse::Error::Token => "its first line is not one",
        httparse::Error::TooManyHeaders => "it has too many headers",
        httparse::Error::Version => "its version is not 1.0 or 1.1",
    })
}
