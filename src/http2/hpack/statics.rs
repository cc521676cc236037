//! The static table: what both sides know of from the start.
//!
//! Source: RFC 7541, appendix A.

use std::mem;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::OVERHEAD_BYTES;
use super::decode::Kept;
use super::field::{Field, Scheme};

/// How many entries there are; the dynamic table's follow.
pub(super) const COUNT: usize = FIRST_HEADER - 1 + HEADERS.len();

/// The index of the first entry of [`HEADERS`]; those before are pseudo-fields.
pub(super) const FIRST_HEADER: usize = 15;

/// The index of `:authority`. Its entry is empty and so no field, but gives others its name.
pub(super) const AUTHORITY: usize = 1;

/// The index of `:status`, with which the entries of usual status codes begin.
pub(super) const STATUS: usize = 8;

pub(super) const LOCATION: usize = 46;
pub(super) const AUTHORIZATION: usize = 23;
pub(super) const COOKIE: usize = 32;
pub(super) const PROXY_AUTHORIZATION: usize = 49;
pub(super) const SET_COOKIE: usize = 55;

/// The entries, each with its size; that of index 1 is the first.
static ENTRIES: [(usize, Kept); COUNT] = entries();

/// From index 15 on: names, with the value that one of them has.
pub(super) const HEADERS: [(&str, &str); 47] = [
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

/// The entry of `index`, which is at least 1; `None` if it is none of this table.
#[inline]
pub(super) fn get(index: usize) -> Option<&'static (usize, Kept)> {
    ENTRIES.get(index.wrapping_sub(1))
}

/// What `:status: code` is by itself, if it stands in the table.
#[inline]
pub(super) fn status(code: StatusCode) -> Option<usize> {
    const CODES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    CODES.iter().position(|known| *known == code.as_u16()).map(|nth| STATUS + nth)
}

const fn entries() -> [(usize, Kept); COUNT] {
    let mut entries = [const { (0, Kept::new(Field::Malformed)) }; COUNT];
    put(&mut entries, AUTHORITY, ":authority".len(), Kept::new(Field::Malformed));
    put(&mut entries, 2, ":methodGET".len(), Kept::new(Field::Method(Method::GET)));
    put(&mut entries, 3, ":methodPOST".len(), Kept::new(Field::Method(Method::POST)));
    let path = Field::Path(Bytes::from_static(b"/"));
    put(&mut entries, 4, ":path/".len(), Kept::new(path));
    let path = Field::Path(Bytes::from_static(b"/index.html"));
    put(&mut entries, 5, ":path/index.html".len(), Kept::new(path));
    put(&mut entries, 6, ":schemehttp".len(), Kept::new(Field::Scheme(Scheme::Http)));
    put(&mut entries, 7, ":schemehttps".len(), Kept::new(Field::Scheme(Scheme::Https)));
    put_status(&mut entries, 8, StatusCode::OK);
    put_status(&mut entries, 9, StatusCode::NO_CONTENT);
    put_status(&mut entries, 10, StatusCode::PARTIAL_CONTENT);
    put_status(&mut entries, 11, StatusCode::NOT_MODIFIED);
    put_status(&mut entries, 12, StatusCode::BAD_REQUEST);
    put_status(&mut entries, 13, StatusCode::NOT_FOUND);
    put_status(&mut entries, 14, StatusCode::INTERNAL_SERVER_ERROR);
    let mut nth = 0;
    while nth < HEADERS.len() {
        let (name, value) = HEADERS[nth];
        let field = Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value));
        put(&mut entries, FIRST_HEADER + nth, name.len() + value.len(), Kept::new(field));
        nth += 1;
    }
    entries
}

const fn put(entries: &mut [(usize, Kept); COUNT], index: usize, bytes: usize, kept: Kept) {
    // Forgotten, since nothing can be dropped here; there is nothing to it.
    mem::forget(mem::replace(&mut entries[index - 1], (bytes + OVERHEAD_BYTES, kept)));
}

const fn put_status(entries: &mut [(usize, Kept); COUNT], index: usize, code: StatusCode) {
    put(entries, index, ":status200".len(), Kept::new(Field::Status(code)));
}
