//! Header blocks made requests, or trailers, of.
//!
//! Source: RFC 9113, sections 8.1 to 8.3.

use bytes::Bytes;
use http::uri::{self, Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::hpack::{Field, Scheme};
use crate::http1::fields;
use crate::http1::request::{LONGEST_BYTES, is_continue};

/// So many fields more than it has come to a request on its way.
const MORE_FIELDS: usize = 3;

/// The fields of a header block, as they come.
pub struct Section {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<HeaderValue>,
    path: Option<Bytes>,
    fields: HeaderMap,
    length: Option<u64>,
    expects_continue: bool,
    /// By the reckoning of `MAX_HEADER_LIST_SIZE`.
    bytes: usize,
    is_malformed: bool,
}

/// A request's head.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    pub uri: Uri,
    /// With a `Host`, if the target names one.
    pub headers: HeaderMap,
    /// What `Content-Length` says.
    pub length: Option<u64>,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
}

/// Why a block is no request, nor trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Malformed,
    /// It has more than [`LONGEST_BYTES`].
    TooLarge,
}

/// The host that a connection's requests name: nearly always the one of the request before.
#[derive(Default)]
pub struct LastAuthority(Option<Authority>);

// === impl Section ===

impl Section {
    /// The fields of a block of `bytes` bytes, which are yet to come.
    pub fn of(bytes: usize) -> Self {
        // On a connection that has been used, a field takes a byte or two.
        let fields = bytes.min(20) + MORE_FIELDS;
        Self {
            method: None,
            scheme: None,
            authority: None,
            path: None,
            fields: HeaderMap::with_capacity(fields),
            length: None,
            expects_continue: false,
            bytes: 0,
            is_malformed: false,
        }
    }

    /// Adds a field that takes `bytes` in a header list.
    pub fn add(&mut self, field: Field, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > LONGEST_BYTES {
            return;
        }
        match field {
            Field::Header(name, value) => self.add_field(name, value),
            Field::Method(method) => {
                self.pseudo(|section| section.method.replace(method).is_some())
            }
            Field::Scheme(scheme) => {
                self.pseudo(|section| section.scheme.replace(scheme).is_some())
            }
            Field::Path(path) => self.pseudo(|section| section.path.replace(path).is_some()),
            Field::Authority(authority) => {
                self.pseudo(|section| section.authority.replace(authority).is_some());
            }
            // Of responses, of an extension that is not offered, and of nothing.
            Field::Status(_) | Field::Protocol(_) | Field::Malformed => self.is_malformed = true,
        }
    }

    /// Pseudo-fields come before others, and once.
    fn pseudo(&mut self, set: impl FnOnce(&mut Self) -> bool) {
        let was_set = set(self);
        self.is_malformed |= was_set || !self.fields.is_empty();
    }

    fn add_field(&mut self, name: HeaderName, value: HeaderValue) {
        if name == header::CONTENT_LENGTH {
            self.is_malformed |= self.length.is_some();
            match fields::length(&value) {
                Ok(length) => self.length = Some(length),
                Err(_) => self.is_malformed = true,
            }
        } else if name == header::TE {
            self.is_malformed |= !value.as_bytes().eq_ignore_ascii_case(b"trailers");
        } else if name == header::EXPECT {
            self.expects_continue |= is_continue(&value);
        } else if fields::is_of_connection(&name) {
            self.is_malformed = true;
        }
        // More than the map holds is more than the bytes allow.
        self.is_malformed |= self.fields.try_append(name, value).is_err();
    }

    /// The head that the fields are, of a request that `ends` with it or has a body.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn into_head(self, last: &mut LastAuthority, ends: bool) -> Result<Head, Refused> {
        const MALFORMED: Refused = Refused::Malformed;
        if self.is_malformed {
            return Err(MALFORMED);
        }
        if self.bytes > LONGEST_BYTES {
            return Err(Refused::TooLarge);
        }
        if ends && self.length.is_some_and(|length| length > 0) {
            return Err(MALFORMED);
        }
        let method = self.method.ok_or(MALFORMED)?;
        let authority = self.authority.as_ref().map(|value| last.read(value)).transpose()?;
        let mut parts = uri::Parts::default();
        if method == Method::CONNECT {
            // It names a host and nothing else.
            if self.scheme.is_some() || self.path.is_some() || authority.is_none() {
                return Err(MALFORMED);
            }
            parts.authority = authority;
        } else {
            let path = self.path.ok_or(MALFORMED)?;
            let path = PathAndQuery::from_maybe_shared(path).map_err(|_| MALFORMED)?;
            parts.path_and_query = Some(path);
            let scheme = self.scheme.ok_or(MALFORMED)?;
            if authority.is_some() {
                parts.authority = authority;
                parts.scheme = Some(match scheme {
                    Scheme::Http => uri::Scheme::HTTP,
                    Scheme::Https => uri::Scheme::HTTPS,
                    // Which one is of no use: none other is served.
                    Scheme::Other => uri::Scheme::try_from("other").map_err(|_| MALFORMED)?,
                });
            }
        }
        let uri = Uri::from_parts(parts).map_err(|_| MALFORMED)?;
        let (mut headers, length) = (self.fields, self.length);
        if let Some(authority) = self.authority
            && !headers.contains_key(header::HOST)
        {
            headers.insert(header::HOST, authority);
        }
        Ok(Head { method, uri, headers, length, expects_continue: self.expects_continue })
    }

    /// The trailers that the fields are.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn into_trailers(self) -> Result<HeaderMap, Refused> {
        let has_pseudo = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some();
        if self.is_malformed || has_pseudo {
            return Err(Refused::Malformed);
        }
        if self.bytes > LONGEST_BYTES {
            return Err(Refused::TooLarge);
        }
        Ok(self.fields)
    }
}

// === impl LastAuthority ===

impl LastAuthority {
    fn read(&mut self, value: &HeaderValue) -> Result<Authority, Refused> {
        if let Some(last) = self.0.as_ref().filter(|last| last.as_str().as_bytes() == value) {
            return Ok(last.clone());
        }
        let read = Authority::try_from(value.as_bytes()).map_err(|_| Refused::Malformed)?;
        self.0 = Some(read.clone());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &str) -> Section {
        let mut section = Section::of(lines.len());
        for line in lines.split_whitespace() {
            let (name, value) = line.rsplit_once('=').unwrap();
            let text = HeaderValue::from_str(value).unwrap();
            let field = match name {
                ":method" => Field::Method(value.parse().unwrap()),
                ":scheme" if value == "http" => Field::Scheme(Scheme::Http),
                ":scheme" if value == "https" => Field::Scheme(Scheme::Https),
                ":scheme" => Field::Scheme(Scheme::Other),
                ":authority" => Field::Authority(text),
                ":path" => Field::Path(Bytes::copy_from_slice(value.as_bytes())),
                ":protocol" => Field::Protocol(Bytes::copy_from_slice(value.as_bytes())),
                "BAD" => Field::Malformed,
                name => Field::Header(name.parse().unwrap(), text),
            };
            section.add(field, name.len() + value.len() + 32);
        }
        section
    }

    fn check(lines: &str) -> Result<String, Refused> {
        let head = fields(lines).into_head(&mut LastAuthority::default(), false)?;
        Ok(format!("{} {} {:?}", head.method, head.uri, head.length))
    }

    #[test]
    fn reads_requests() {
        let get = ":method=GET :scheme=https :authority=a.b:1 :path=/x?y";
        assert_eq!(check(get), Ok("GET https://a.b:1/x?y None".into()));
        assert_eq!(
            check(&format!("{get} a=1 content-length=7")).unwrap().rsplit_once(' ').unwrap().1,
            "Some(7)"
        );
        assert_eq!(check(":method=GET :scheme=http :path=/x host=a"), Ok("GET /x None".into()));
        assert_eq!(
            check(":path=/ :scheme=ftp :authority=a :method=GET"),
            Ok("GET other://a/ None".into())
        );
        assert_eq!(check(":method=CONNECT :authority=a:1"), Ok("CONNECT a:1 None".into()));
        assert_eq!(
            check(":method=OPTIONS :scheme=http :path=* host=a"),
            Ok("OPTIONS * None".into())
        );
        assert!(check(&format!("{get} te=trailers")).is_ok());
    }

    #[test]
    fn refuses_what_is_no_request() {
        let get = ":method=GET :scheme=https :authority=a :path=/";
        for bad in [
            ":scheme=https :authority=a :path=/",
            ":method=GET :authority=a :path=/",
            ":method=GET :scheme=https :authority=a",
            ":method=GET :scheme=https :authority=a :path=",
            ":method=GET :scheme=https :authority= :path=/",
            ":method=GET :scheme=https :authority=a/b :path=/",
            ":method=GET :method=GET :scheme=https :authority=a :path=/",
            ":method=GET :scheme=https :path=/ x=1 :authority=a",
            ":method=CONNECT :authority=a :scheme=https :path=/",
            ":method=CONNECT",
        ] {
            assert_eq!(check(bad), Err(Refused::Malformed), "{bad}");
        }
        for more in [
            "BAD=1",
            ":protocol=websocket",
            "connection=close",
            "keep-alive=5",
            "upgrade=h2c",
            "proxy-connection=close",
            "transfer-encoding=chunked",
            "te=gzip",
            "content-length=x",
            "content-length=-1",
            "content-length=1 content-length=1",
        ] {
            assert_eq!(check(&format!("{get} {more}")), Err(Refused::Malformed), "{more}");
        }
        let large = format!("{get} x={}", "x".repeat(LONGEST_BYTES));
        assert_eq!(check(&large), Err(Refused::TooLarge));
    }

    #[test]
    fn a_request_that_ends_with_its_head_has_no_length() {
        let get = ":method=GET :scheme=https :authority=a :path=/ content-length=";
        for (length, is_one) in [("0", true), ("1", false)] {
            let section = fields(&format!("{get}{length}"));
            let head = section.into_head(&mut LastAuthority::default(), true);
            assert_eq!(head.is_ok(), is_one, "{length}");
        }
    }

    #[test]
    fn trailers_have_no_pseudo_fields() {
        assert_eq!(fields("x-sum=1").into_trailers().unwrap().len(), 1);
        for bad in [":path=/", ":method=GET", "connection=close", "BAD=1"] {
            assert_eq!(fields(bad).into_trailers().unwrap_err(), Refused::Malformed, "{bad}");
        }
    }

    #[test]
    fn the_host_of_the_request_before_is_not_read_again_unless_it_differs() {
        let mut last = LastAuthority::default();
        for name in ["a:1", "a:1", "b", "a:1"] {
            let value = HeaderValue::from_static(name);
            assert_eq!(last.read(&value).unwrap(), name);
        }
        assert_eq!(last.read(&HeaderValue::from_static("a b")), Err(Refused::Malformed));
    }
}
