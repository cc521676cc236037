//! What the fields of a block are to an exchange.
//!
//! Source: RFC 9113, sections 8.2.1 and 8.3; RFC 8441, section 4.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::names;

/// A field of a header block, as an exchange will use it: parsed once, when it enters the dynamic
/// table, and cloned from then on.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// `:method`.
    Method(Method),
    /// `:scheme`.
    Scheme(Scheme),
    /// `:authority`; no more is known of it than that it is a header's value, and not empty.
    Authority(HeaderValue),
    /// `:path`, as it came: any bytes, or none.
    Path(Bytes),
    /// `:protocol` of an extended CONNECT: any bytes, but not none.
    Protocol(Bytes),
    /// `:status`.
    Status(StatusCode),
    /// Any other. The value is marked as sensitive if the peer asked for it never to be indexed.
    Header(HeaderName, HeaderValue),
    /// What is no field of HTTP/2: a name with an upper-case letter or a byte that no token has;
    /// a value with a control character or with space around it; a pseudo-field that is unknown
    /// or empty; a method, a status that is none. The block goes on after it.
    Malformed,
}

/// The value of `:scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    /// Any other.
    Other,
}

/// A field's name, which a value may follow.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Header(HeaderName),
    /// What is no name; kept since it counts, and may be pointed at.
    Malformed(Box<[u8]>),
}

// === impl Field ===

impl Field {
    /// Notes that whoever hands the value on may not index it either (RFC 7541, section 6.2.3).
    pub(super) fn set_sensitive(&mut self) {
        if let Self::Header(_, value) | Self::Authority(value) = self {
            value.set_sensitive(true);
        }
    }
}

// === impl Name ===

impl Name {
    pub(super) fn parse(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return match name {
                b":method" => Self::Method,
                b":scheme" => Self::Scheme,
                b":authority" => Self::Authority,
                b":path" => Self::Path,
                b":protocol" => Self::Protocol,
                b":status" => Self::Status,
                _ => Self::Malformed(name.into()),
            };
        }
        if let Some(known) = names::get(name) {
            return Self::Header(known.clone());
        }
        // `HeaderName` takes a quotation mark, which no token has (RFC 9110, section 5.6.2).
        match HeaderName::from_lowercase(name) {
            Ok(other) if !name.contains(&b'"') => Self::Header(other),
            _ => Self::Malformed(name.into()),
        }
    }

    /// The name of a field that is not malformed.
    pub(super) fn of(field: &Field) -> Self {
        match field {
            Field::Method(_) => Self::Method,
            Field::Scheme(_) => Self::Scheme,
            Field::Authority(_) => Self::Authority,
            Field::Path(_) => Self::Path,
            Field::Protocol(_) => Self::Protocol,
            Field::Status(_) => Self::Status,
            Field::Header(name, _) => Self::Header(name.clone()),
            Field::Malformed => Self::Malformed(Box::default()),
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Method => ":method".len(),
            Self::Scheme => ":scheme".len(),
            Self::Authority => ":authority".len(),
            Self::Path => ":path".len(),
            Self::Protocol => ":protocol".len(),
            Self::Status => ":status".len(),
            Self::Header(name) => name.as_str().len(),
            Self::Malformed(name) => name.len(),
        }
    }

    /// The field of this name and of `value`, which is copied; the name if they make none.
    pub(super) fn field(self, value: &[u8]) -> Result<Field, Self> {
        let field = match &self {
            Self::Path => return Ok(Field::Path(Bytes::copy_from_slice(value))),
            Self::Header(_) => {
                let Some(value) = header_value(value) else { return Err(self) };
                let Self::Header(name) = self else { return Err(self) };
                return Ok(Field::Header(name, value));
            }
            _ if value.is_empty() => None,
            Self::Method => Method::from_bytes(value).ok().map(Field::Method),
            Self::Scheme => Some(Field::Scheme(Scheme::parse(value))),
            Self::Authority => header_value(value).map(Field::Authority),
            Self::Protocol => Some(Field::Protocol(Bytes::copy_from_slice(value))),
            Self::Status => StatusCode::from_bytes(value).ok().map(Field::Status),
            Self::Malformed(_) => None,
        };
        field.ok_or(self)
    }
}

// === impl Scheme ===

impl Scheme {
    /// Schemes are the same in any case (RFC 9110, section 4.2.3).
    fn parse(scheme: &[u8]) -> Self {
        if scheme.eq_ignore_ascii_case(b"https") {
            Self::Https
        } else if scheme.eq_ignore_ascii_case(b"http") {
            Self::Http
        } else {
            Self::Other
        }
    }
}

/// A copy of `value`; `None` if a byte in it is forbidden, or a space or tab stands at an end.
fn header_value(value: &[u8]) -> Option<HeaderValue> {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if space(value.first()) || space(value.last()) || !value.iter().fold(true, allowed) {
        return None;
    }
    // SAFETY: no byte of it is one that a `HeaderValue` may not have: a control character but for
    // the tab, or DEL.
    #[allow(unsafe_code)]
    Some(unsafe { HeaderValue::from_maybe_shared_unchecked(Bytes::copy_from_slice(value)) })
}

/// Whether all bytes so far were allowed, and `byte` is; without a branch, so that many are
/// looked at at once.
fn allowed(so_far: bool, byte: &u8) -> bool {
    so_far & ((*byte >= b' ') & (*byte != 0x7f) | (*byte == b'\t'))
}
