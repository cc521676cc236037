//! What a request's head says: fields, arguments, cookies, credentials.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::context::urlencoded::{decoded, is_coded};

pub(super) fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    let first = text(headers.get(name)?);
    if !is_repeated(headers) {
        return Some(first);
    }
    // nginx joins repeated fields with a comma in `$http_name`.
    let further = headers.get_all(name).iter().skip(1);
    Some(further.fold(first, |all, one| Cow::Owned(format!("{all}, {}", text(one)))))
}

/// Whether any field is there more than once.
pub(super) fn is_repeated(headers: &HeaderMap) -> bool {
    headers.len() > headers.keys_len()
}

/// A value as text.
pub(super) fn text(value: &HeaderValue) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    // Far faster than the lossy reading where nothing is lost.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A header of the request by its variable's name, where `_` stands for `-` or, as in nginx, for
/// itself.
pub(super) fn request_field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    field(headers, name).or_else(|| field(headers, underscored(headers, name)?))
}

/// The name of a header that is sent under `name` with `_` for some `-`.
pub(super) fn underscored<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderName> {
    let name = name.as_str();
    let is_meant = |sent: &&HeaderName| {
        let sent = sent.as_str();
        let mut pairs = sent.bytes().zip(name.bytes());
        sent.len() == name.len() && pairs.all(|(s, n)| s == n || (s == b'_' && n == b'-'))
    };
    name.contains('-').then(|| headers.keys().find(is_meant))?
}

/// The value of an argument, decoded; empty for one without `=`. The first, where several have the
/// name.
pub(in crate::context) fn argument<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let (_, value) = written_argument(query, name)?;
    Some(decoded(value.unwrap_or_default().as_bytes()))
}

/// Whether the argument is there, but without `=`.
pub(super) fn is_bare_argument(query: &str, name: &str) -> bool {
    matches!(written_argument(query, name), Some((_, None)))
}

/// Name and value of an argument as they are written.
fn written_argument<'q>(query: &'q str, name: &str) -> Option<(&'q str, Option<&'q str>)> {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (pair, None),
    });
    let mut meant = pairs.filter(|(key, _)| {
        *key == name || (is_coded(key.as_bytes()) && decoded(key.as_bytes()) == name)
    });
    meant.next()
}

pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let texts = fields.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| Cow::Borrowed(value))
}

/// The name in the credentials of Basic authentication (RFC 7617).
pub(super) fn user(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) =
        headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = STANDARD.decode(credentials.trim()).ok()?;
    decoded.truncate(decoded.iter().position(|byte| *byte == b':')?);
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_headers_written_with_underscores() {
        let mut headers = HeaderMap::new();
        headers.insert("time_window", "2".parse().unwrap());
        headers.insert("x_a-b", "3".parse().unwrap());
        let get = |name: &'static str| request_field(&headers, &HeaderName::from_static(name));
        assert_eq!(get("time-window").unwrap(), "2");
        assert_eq!(get("x-a-b").unwrap(), "3");
        assert!(get("x-a").is_none() && get("time-windows").is_none());
        // Of the two spellings the usual one counts.
        headers.insert("time-window", "4".parse().unwrap());
        let name = HeaderName::from_static("time-window");
        assert_eq!(request_field(&headers, &name).unwrap(), "4");
    }

    #[test]
    fn takes_arguments_apart() {
        assert_eq!(argument("a=1&b=x%20y+z&c", "b").unwrap(), "x y z");
        assert_eq!(argument("a=1&c", "c").unwrap(), "");
        assert_eq!(argument("a=1&a=2", "a").unwrap(), "1");
        assert_eq!(argument("a%2Db=1", "a-b").unwrap(), "1");
        assert!(argument("ab=1", "a").is_none());
        assert!(is_bare_argument("a=1&c", "c") && !is_bare_argument("a=1&c=", "c"));
    }

    #[test]
    fn finds_the_user_of_basic_authentication() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            user(&headers)
        };
        assert_eq!(check("Basic Zm9vOmI6YXI=").as_deref(), Some("foo"));
        assert_eq!(check("basic  Zm9vOmI6YXI=").as_deref(), Some("foo"));
        for none in ["Basic", "Basic Zm9v", "Basic !", "Bearer Zm9vOmJhcg=="] {
            assert_eq!(check(none), None, "{none}");
        }
    }

    #[test]
    fn finds_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=1; b=x=y ;c; A=2".parse().unwrap());
        assert_eq!(cookie(&headers, "a").unwrap(), "1");
        assert_eq!(cookie(&headers, "A").unwrap(), "2");
        assert_eq!(cookie(&headers, "b").unwrap(), "x=y");
        assert!(cookie(&headers, "c").is_none());
    }
}
