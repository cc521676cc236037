//! What a client asked: read from a request's head, refused where it is ambiguous.

use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use smallvec::SmallVec;

use super::{Settings, host};
use crate::context::Request;
use crate::http1::fields;
use crate::http1::request::is_continue;

/// A request's head as the exchange will use it.
pub(super) struct Asked {
    pub(super) request: Request,
    /// What the node is asked instead of the target as sent.
    pub(super) forwarded: Option<String>,
    /// Set when the request is to be refused.
    pub(super) refused: Option<StatusCode>,
    /// Bytes of the head as HTTP/1.1 writes it.
    pub(super) head_bytes: u64,
}

/// What one look over the fields tells, so that none is looked for that is not there.
#[derive(Default)]
struct Noted {
    /// Whether there is a `Connection`.
    names_options: bool,
    cookies: usize,
    /// Whether something else than a 100 is expected.
    expects_otherwise: bool,
    /// Bytes of the fields as HTTP/1.1 writes them.
    bytes: u64,
}

// === impl Noted ===

impl Noted {
    fn of(headers: &HeaderMap) -> Self {
        let mut noted = Self::default();
        for (name, value) in headers {
            noted.bytes += (name.as_str().len() + value.len() + 4) as u64;
            if *name == header::CONNECTION {
                noted.names_options = true;
            } else if *name == header::COOKIE {
                noted.cookies += 1;
            } else if *name == header::EXPECT {
                noted.expects_otherwise |= !is_continue(value);
            }
        }
        noted
    }
}

/// Reads a head. What is refused is read as far as it goes, so that the log can tell of it.
pub(super) fn read(mut parts: Parts, settings: &Settings) -> Asked {
    let mut refused = None;
    // A tunnel would pass by every route, and a trace tells what the gateway said to the node.
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        refused = Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let host = match host(&parts) {
        Ok(host) => host,
        Err(status) => {
            refused = refused.or(Some(status));
            None
        }
    };
    // HTTP/2, HTTP/3 and absolute targets say the host in the target, which goes before the field
    // (RFC 9112, section 3.2.2); nodes are asked in origin form.
    if let Some(authority) = parts.uri.authority()
        && parts.headers.get(header::HOST).is_none_or(|host| host != authority.as_str())
        && let Ok(value) = HeaderValue::try_from(authority.as_str())
    {
        parts.headers.insert(header::HOST, value);
    }
    if !is_target(&mut parts.uri, parts.version) {
        refused = refused.or(Some(StatusCode::BAD_REQUEST));
    }
    let noted = Noted::of(&parts.headers);
    if noted.names_options {
        drop_nominated(&mut parts.headers);
    }
    // What is expected of HTTP/1.0 is nothing (RFC 9110, section 10.1.1).
    if noted.expects_otherwise && parts.version > Version::HTTP_10 {
        refused = refused.or(Some(StatusCode::EXPECTATION_FAILED));
    }
    if noted.cookies > 1 {
        join_cookies(&mut parts.headers);
    }
    if !settings.underscores {
        drop_underscores(&mut parts.headers);
    }
    let read = match settings.paths.read(parts.uri.path()) {
        Ok(read) => read,
        Err(_) => {
            refused = refused.or(Some(StatusCode::BAD_REQUEST));
            super::path::Read::default()
        }
    };
    let query = parts.uri.query();
    let forwarded = read.forwarded.map(|path| match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    });
    let head_bytes = line_bytes(&parts) + noted.bytes;
    Asked {
        request: Request {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            normalized_path: read.path,
            matched_path: read.matched,
            host,
            unread: None,
        },
        forwarded,
        refused,
        head_bytes,
    }
}

/// Whether a target names a resource here: by its path, with or without this scheme and a host. A
/// query without a path, as an absolute target of HTTP/1 may have it, gets one.
fn is_target(uri: &mut Uri, version: Version) -> bool {
    let is_served = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    if !uri.scheme().is_none_or(is_served) || !uri.path().starts_with('/') {
        return false;
    }
    if let Some(target) = uri.path_and_query()
        && target.as_str().starts_with('?')
    {
        match PathAndQuery::try_from(format!("/{}", target.as_str())) {
            Ok(target) if version < Version::HTTP_2 => *uri = Uri::from(target),
            _ => return false,
        }
    }
    true
}

/// The host that is asked for, without its port.
fn host(parts: &Parts) -> Result<Option<Box<str>>, StatusCode> {
    const REFUSED: StatusCode = StatusCode::BAD_REQUEST;
    let field = parts.headers.get(header::HOST);
    let may_repeat = parts.headers.len() > parts.headers.keys_len();
    if may_repeat && parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(REFUSED);
    }
    let whole = match (parts.uri.authority(), field) {
        (Some(authority), Some(field)) if parts.version >= Version::HTTP_2 => {
            // RFC 9113, section 8.3.1; RFC 9114, section 4.3.1. HTTP/1.1 has the field overridden.
            if !field.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) {
                return Err(REFUSED);
            }
            authority.as_str()
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(field)) => field.to_str().map_err(|_| REFUSED)?,
        // RFC 9112, section 3.2: every HTTP/1.1 request has the field.
        (None, None) if parts.version > Version::HTTP_10 => return Err(REFUSED),
        (None, None) => return Ok(None),
    };
    host::read(whole).map(|host| Some(host.into())).map_err(|_| REFUSED)
}

/// Drops the fields that `Connection` names (RFC 9110, section 7.6.1): before any plugin sets one,
/// so that a client cannot take away what the gateway says.
fn drop_nominated(headers: &mut HeaderMap) {
    /// These frame the message, or are the connection's and looked at later.
    const STAY: [&[u8]; 8] = [
        b"keep-alive",
        b"close",
        b"",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"connection",
    ];
    let lists = headers.get_all(header::CONNECTION).iter();
    let options = lists.flat_map(fields::options);
    let goes = |option: &&[u8]| !STAY.iter().any(|stays| stays.eq_ignore_ascii_case(option));
    let named: SmallVec<[HeaderName; 2]> =
        options.filter(goes).filter_map(|option| HeaderName::from_bytes(option).ok()).collect();
    for name in named {
        headers.remove(name);
    }
}

/// Joins the pieces of a cookie that HTTP/2 and HTTP/3 let clients send apart (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let joined = pieces.collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

fn drop_underscores(headers: &mut HeaderMap) {
    let odd: Vec<_> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in odd {
        headers.remove(name);
    }
}

/// What `Content-Length` says; the codec has checked that it is one number.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bytes of the request line, and of the empty line that ends the head.
fn line_bytes(parts: &Parts) -> u64 {
    let target = parts.uri.path_and_query().map_or(1, |target| PathAndQuery::as_str(target).len());
    (parts.method.as_str().len() + target + 14) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str]) -> (Option<String>, Option<u16>, Option<String>) {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let asked = read(parts, &Settings::default());
        let told = asked.request.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
        (asked.request.host.map(String::from), asked.refused.map(|status| status.as_u16()), told)
    }

    #[test]
    fn a_target_is_a_path() {
        for (uri, read) in [
            ("/x?y", Some("/x?y")),
            ("http://a", Some("/")),
            ("https://a/x", Some("/x")),
            ("http://a?x=/1", Some("/?x=/1")),
            ("ftp://a/x", None),
            ("a:80", None),
            ("*", None),
        ] {
            let mut target: Uri = uri.parse().unwrap();
            let is_one = is_target(&mut target, Version::HTTP_11);
            let found = target.path_and_query().map(PathAndQuery::as_str);
            assert_eq!(found.filter(|_| is_one), read, "{uri}");
        }
    }

    #[test]
    fn finds_the_host_and_refuses_what_is_none() {
        let host = |text: &str| Some(text.to_owned());
        assert_eq!(check("/", &["a.com:81"]), (host("a.com"), None, host("a.com:81")));
        assert_eq!(check("/", &["A.com."]).0, host("A.com"));
        assert_eq!(check("/", &["[::1]:80"]).0, host("[::1]"));
        assert_eq!(check("http://b.com:1/x", &["a.com"]), (host("b.com"), None, host("b.com:1")));
        for hosts in [&[][..], &[""], &["a", "b"], &["a", "a"], &["a/b"], &["a@b"], &["a:b"]] {
            assert_eq!(check("/", hosts).1, Some(400), "{hosts:?}");
        }
    }
}
