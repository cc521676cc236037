//! Header lines: what both kinds of head have in common.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::Malformed;

// Names, not texts: most names are of the kind that has a number, and then no text is looked at.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// More header lines than this are refused.
pub(super) const MOST: usize = 128;

/// Where a header line's name and value stand in the head: offsets, since the parser borrows the
/// bytes that the fields will share.
pub(super) struct Line {
    name: (u32, u32),
    value: (u32, u32),
}

/// The lines of a head.
pub(super) type Lines = SmallVec<[Line; 32]>;

/// Notes the lines of `headers`, which were parsed from `head`; to a place that is the caller's,
/// since moving so many costs more than noting the few that there are.
pub(super) fn note(head: &[u8], headers: &[httparse::Header<'_>], lines: &mut Lines) {
    // No head is as long as four gigabytes.
    let range = |part: &[u8]| {
        let (from, to) = range(head, part);
        (from as u32, to as u32)
    };
    for field in headers {
        lines.push(Line { name: range(field.name.as_bytes()), value: range(field.value) });
    }
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
        let name = HeaderName::from_bytes(&head[self.name.0 as usize..self.name.1 as usize])
            .map_err(|_| Malformed("a header's name is not one"))?;
        let value = head.slice(self.value.0 as usize..self.value.1 as usize);
        // SAFETY: the parser let no byte of the value pass that a `HeaderValue` may not have: both
        // refuse control characters but for the tab, and DEL (RFC 9110, section 5.5).
        #[allow(unsafe_code)]
        let value = unsafe { HeaderValue::from_maybe_shared_unchecked(value) };
        Ok((name, value))
    }
}

/// The largest length of a body or a chunk: where the other side counts with a sign, more would
/// be less than nothing.
pub(super) const LONGEST_BODY_BYTES: u64 = i64::MAX as u64;

/// What `Content-Length` says: a decimal number and nothing else, no sign, no space (RFC 9110,
/// section 8.6).
pub fn length(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.as_bytes().iter().map(|byte| u64::from(byte.wrapping_sub(b'0')));
    let length = digits.into_iter().try_fold(0_u64, |length, digit| {
        let length = length.checked_mul(10)?.checked_add(digit)?;
        (digit <= 9 && length <= LONGEST_BODY_BYTES).then_some(length)
    });
    length.filter(|_| !value.is_empty()).ok_or(Malformed("its length is not one"))
}

/// Whether a trailer of this name may go on. Those may not that frame a message, route it, log
/// its sender in, or say how its body is to be read: whoever joins trailers to the head, as some
/// do, would be told all that behind the gateway's back (RFC 9110, section 6.5.1).
pub fn may_trail(name: &HeaderName) -> bool {
    const FORBIDDEN: [&str; 25] = [
        "age",
        "authorization",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
    ];
    // What a CGI takes for a hyphen.
    let name = name.as_str().replace('_', "-");
    let kin = ["content-", "if-"];
    !FORBIDDEN.contains(&name.as_str()) && !kin.iter().any(|start| name.starts_with(start))
}

/// Whether a field is its connection's own and goes no further (RFC 9110, section 7.6.1). No message
/// of HTTP/2 or HTTP/3 has one (RFC 9113, section 8.2.2; RFC 9114, section 4.2).
pub fn is_of_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// The options of a `Connection` field.
pub fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
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
