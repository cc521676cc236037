//! The head of a request: request line and header section, parsed from bytes.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

use super::Malformed;
use super::fields::{self, Line};
use super::framing::Framing;

/// A head longer than this is refused.
pub const LONGEST_BYTES: usize = 64 * 1024;

/// Room in a request's fields for what plugins tell the node of, so that it need not be made then.
const ADDED: usize = 2;

/// So much of the first line of what is refused is told.
const LONGEST_TOLD: usize = 1024;

/// A request's head and what it means for the connection.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    /// As received.
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the client will use the connection again, if the server lets it.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
}

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the request's target is too long")]
    TargetTooLong,
    #[error("the request's head is too long, or has too many fields")]
    HeadTooLong,
    #[error("the request's transfer coding is not chunked alone")]
    UnknownCoding,
    #[error("the request's version is not 1.0 or 1.1")]
    UnknownVersion,
}

/// Takes a head off the front of `input`; `None` when it is not complete. What is refused stays.
///
/// # Errors
/// [`Refused`]: what follows on the connection cannot be told from this request any more.
pub fn parse(input: &mut BytesMut) -> Result<Option<Head>, Refused> {
    let mut room = [const { MaybeUninit::uninit() }; fields::MOST];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(input, &mut room) {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST_BYTES => length,
        Ok(httparse::Status::Partial) if input.len() <= LONGEST_BYTES => return Ok(None),
        Ok(_) => {
            let is_in_first_line = memchr::memchr(b'\n', &input[..LONGEST_BYTES]).is_none();
            return Err(if is_in_first_line {
                Refused::TargetTooLong
            } else {
                Refused::HeadTooLong
            });
        }
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::HeadTooLong),
        Err(httparse::Error::Version) if names_version(input) => {
            return Err(Refused::UnknownVersion);
        }
        Err(error) => return Err(fields::malformed(error).into()),
    };
    let mut lines = fields::Lines::new();
    fields::note(input, request.headers, &mut lines);
    let method = request.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let method = method.ok_or(Malformed("its method is not one"))?;
    let target = fields::range(input, request.path.unwrap_or_default().as_bytes());
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let bytes = input.split_to(length).freeze();
    let uri = Uri::from_maybe_shared(bytes.slice(target.0..target.1));
    let built = match uri {
        Ok(uri) => build(method, uri, version, &bytes, &lines),
        Err(_) => Err(Malformed("its target is not one").into()),
    };
    if built.is_err() {
        *input = BytesMut::from(&*bytes);
    }
    built.map(Some)
}

/// Whether a value of `Expect` asks for a 100 before the body is sent (RFC 9110, section 10.1.1).
pub fn is_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// The first line of what [`parse`] refused, as it came, for a log; a long one is cut.
pub fn first_line(refused: &[u8]) -> Box<str> {
    let told = &refused[..refused.len().min(LONGEST_TOLD)];
    let end = memchr::memchr2(b'\r', b'\n', told).unwrap_or(told.len());
    String::from_utf8_lossy(&told[..end]).into()
}

/// Whether the request line ends with a version of HTTP that is not spoken here.
fn names_version(input: &[u8]) -> bool {
    let line = input.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let last = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(last, [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9']
        if !matches!((major, minor), (b'1', b'0' | b'1')))
}

fn build(
    method: Method,
    uri: Uri,
    version: Version,
    bytes: &Bytes,
    lines: &[Line],
) -> Result<Head, Refused> {
    let is_1_1 = version == Version::HTTP_11;
    let mut headers = HeaderMap::with_capacity(lines.len() + ADDED);
    let mut length = None;
    let mut chunked = false;
    let mut keep_alive = is_1_1;
    let mut expects_continue = false;
    for line in lines {
        let (name, value) = line.field(bytes)?;
        if name == header::CONTENT_LENGTH {
            if length.replace(fields::length(&value)?).is_some() {
                return Err(Malformed("it has two lengths").into());
            }
        } else if name == header::TRANSFER_ENCODING {
            // The only coding that the gateway can undo, and once: what else is there would reach
            // the node under another reading (RFC 9112, section 6.1).
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::UnknownCoding);
            }
            if chunked || !is_1_1 {
                return Err(Malformed("it is chunked twice, or in HTTP/1.0").into());
            }
            chunked = true;
        } else if name == header::CONNECTION {
            for option in fields::options(&value) {
                if option.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") && !is_1_1 {
                    keep_alive = true;
                }
            }
        } else if name == header::EXPECT {
            expects_continue = is_1_1 && is_continue(&value);
        }
        headers.append(name, value);
    }
    // Both framings at once is how requests are smuggled (RFC 9112, section 6.3).
    if chunked && length.is_some() {
        return Err(Malformed("it has a length and is chunked").into());
    }
    let framing = match length {
        _ if chunked => Framing::chunked(),
        Some(length @ 1..) => Framing::Length(length),
        _ => Framing::None,
    };
    Ok(Head { method, uri, version, headers, framing, keep_alive, expects_continue })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str) -> Result<Option<Head>, Refused> {
        parse(&mut BytesMut::from(input))
    }

    fn head(fields: &str) -> Head {
        check(&format!("POST /a?b HTTP/1.1\r\n{fields}\r\n")).unwrap().unwrap()
    }

    #[test]
    fn takes_the_head_and_leaves_the_body() {
        let mut input = BytesMut::from("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        let head = parse(&mut input).unwrap().unwrap();
        assert_eq!((head.method, head.uri.path()), (Method::PUT, "/x"));
        assert_eq!(head.headers["host"], "a");
        assert_eq!(head.framing, Framing::Length(2));
        assert!(head.keep_alive && !head.expects_continue);
        assert_eq!(&input[..], b"hi");
    }

    #[test]
    fn asks_for_more_at_every_split_before_the_end() {
        let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for at in 0..whole.len() {
            assert!(check(&whole[..at]).unwrap().is_none(), "split at {at}");
        }
        assert_eq!(check(whole).unwrap().unwrap().framing, Framing::None);
    }

    #[test]
    fn tells_how_the_body_ends() {
        assert_eq!(head("").framing, Framing::None);
        assert_eq!(head("Content-Length: 0\r\n").framing, Framing::None);
        assert_eq!(head("Transfer-Encoding: Chunked\r\n").framing, Framing::chunked());
        assert!(head("Expect: 100-continue\r\nContent-Length: 1\r\n").expects_continue);
    }

    #[test]
    fn keeps_the_connection_by_version_and_option() {
        let of = |version: &str, connection: &str| {
            check(&format!("GET / HTTP/{version}\r\n{connection}\r\n")).unwrap().unwrap().keep_alive
        };
        assert!(of("1.1", ""));
        assert!(!of("1.1", "Connection: x, Close\r\n"));
        assert!(!of("1.1", "Connection: close, keep-alive\r\n"));
        assert!(!of("1.0", ""));
        assert!(of("1.0", "Connection: Keep-Alive\r\n"));
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "X-A: b\r\n c\r\n",
            "X-A : b\r\n",
        ] {
            let refused = check(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{fields}");
        }
        for coding in ["gzip, chunked", "xchunked", "chunked,", "identity", ""] {
            let refused = check(&format!("GET / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n"));
            assert_eq!(refused.unwrap_err(), Refused::UnknownCoding, "{coding}");
        }
        for line in ["GET /", "GET / HTTP/1.12", "GET  / HTTP/1.1", "G(T / HTTP/1.1", ""] {
            let refused = check(&format!("{line}\r\nX: y\r\n\r\n"));
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{line}");
        }
        for line in ["GET / HTTP/2.0", "GET / HTTP/1.2"] {
            let refused = check(&format!("{line}\r\nX: y\r\n\r\n"));
            assert_eq!(refused.unwrap_err(), Refused::UnknownVersion, "{line}");
        }
    }

    #[test]
    fn says_the_same_of_a_head_wherever_it_is_split() {
        for whole in [
            "GET / HTTP/1.1\r\nHost: a\r\nX-A:  b c \r\n\r\n",
            "\r\nGET / HTTP/1.0\nA: b\n\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
            "GET / HTTP/1.1\r\n X-A: b\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\rX: y\r\n\r\n",
        ] {
            let told = |input: &mut BytesMut| match parse(input) {
                Ok(head) => head.map(|head| Ok(format!("{head:?}"))),
                Err(refused) => Some(Err(refused)),
            };
            let expected = told(&mut BytesMut::from(whole)).unwrap();
            for at in 0..whole.len() {
                let mut input = BytesMut::from(&whole[..at]);
                // What is refused may be so before all of it is there.
                let early = told(&mut input);
                input.extend_from_slice(&whole.as_bytes()[at..]);
                let found = early.unwrap_or_else(|| told(&mut input).unwrap());
                match (&found, &expected) {
                    (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{whole:?} at {at}"),
                    (found, expected) => {
                        assert!(
                            found.is_err() && expected.is_err(),
                            "{whole:?} at {at}: {found:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn tells_a_long_target_from_a_long_head() {
        let target = check(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_BYTES)));
        assert_eq!(target.unwrap_err(), Refused::TargetTooLong);
        let endless = check(&format!("GET /{}", "x".repeat(LONGEST_BYTES)));
        assert_eq!(endless.unwrap_err(), Refused::TargetTooLong);
        let field = check(&format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(LONGEST_BYTES)));
        assert_eq!(field.unwrap_err(), Refused::HeadTooLong);
        let many = "X: y\r\n".repeat(fields::MOST + 1);
        let many = check(&format!("GET / HTTP/1.1\r\n{many}\r\n"));
        assert_eq!(many.unwrap_err(), Refused::HeadTooLong);
    }
}
