//! The head of a response: status line and header section, parsed from bytes and written to them.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};
use smallvec::SmallVec;

use super::Malformed;
use super::fields::{self, Line};
use super::framing::Framing;
use super::output;

/// A head longer than this is refused.
const LONGEST_BYTES: usize = 256 * 1024;

/// A response's head and what it means for the connection.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    /// As received, but without the fields of the connection (RFC 9110, section 7.6.1); a 101 has
    /// them all.
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection may carry another exchange after this one.
    pub keep_alive: bool,
}

/// What a head that is written says besides its fields.
pub struct Told<'a> {
    pub length: Length,
    pub closing: Closing,
    /// The value of `Date`, where the fields have none.
    pub date: &'a [u8],
}

/// How the end of the body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// There is no body, and nothing is told.
    Absent,
    Known(u64),
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What is told about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing, which means that it stays (HTTP/1.1), or that the fields say it.
    Untold,
    /// That it ends.
    Told,
    /// That it stays, to a client of HTTP/1.0.
    StaysTold,
}

// === impl Head ===

impl Head {
    /// Whether another head follows: 1xx but for 101.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Takes a head off the front of `input`; `None` when it is not complete.
///
/// `no_body` is set when the request was HEAD, whose response has none.
///
/// # Errors
/// [`Malformed`], naming what is wrong.
pub fn parse(input: &mut BytesMut, no_body: bool) -> Result<Option<Head>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut room = [const { MaybeUninit::uninit() }; fields::MOST];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        input,
        &mut room,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST_BYTES => length,
        Ok(httparse::Status::Partial) if input.len() <= LONGEST_BYTES => return Ok(None),
        Ok(_) => return Err(Malformed("its head is too long")),
        Err(error) => return Err(fields::malformed(error)),
    };
    let mut lines = fields::Lines::new();
    fields::note(input, response.headers, &mut lines);
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Malformed("its status is not one"))?;
    let is_1_1 = response.version == Some(1);
    let bytes = input.split_to(length).freeze();
    build(status, is_1_1, &bytes, &lines, no_body).map(Some)
}

fn build(
    status: StatusCode,
    is_1_1: bool,
    bytes: &Bytes,
    lines: &[Line],
    no_body: bool,
) -> Result<Head, Malformed> {
    let mut headers = HeaderMap::with_capacity(lines.len() + 4);
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut keep_alive = is_1_1;
    let mut nominated: SmallVec<[HeaderName; 2]> = SmallVec::new();
    let upgrades = status == StatusCode::SWITCHING_PROTOCOLS;
    for line in lines {
        let (name, value) = line.field(bytes)?;
        if name == header::CONTENT_LENGTH {
            let said = fields::length(&value)?;
            if length.is_some_and(|other| other != said) {
                return Err(Malformed("it has two lengths"));
            }
            if length.replace(said).is_some() {
                continue;
            }
        } else if name == header::TRANSFER_ENCODING {
            // The only coding that the gateway can undo, and once.
            if chunked || !is_1_1 || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed("its transfer coding is not chunked alone"));
            }
            chunked = true;
        } else if name == header::CONNECTION {
            for option in fields::options(&value) {
                if option.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    keep_alive = true;
                } else {
                    nominated.extend(HeaderName::from_bytes(option));
                }
            }
        }
        if upgrades || !(name == header::TE || fields::is_of_connection(&name)) {
            headers.append(name, value);
        }
    }
    for name in nominated.iter().filter(|name| !upgrades && *name != header::CONTENT_LENGTH) {
        headers.remove(name);
    }
    let bodiless = no_body || is_without_body(status);
    // Both framings at once is how responses are smuggled (RFC 9112, section 6.3).
    if chunked && length.is_some() {
        return Err(Malformed("it has a length and is chunked"));
    }
    let framing = match (bodiless, chunked, length) {
        (true, ..) => Framing::None,
        (_, true, _) => Framing::chunked(),
        (_, _, Some(length)) => Framing::Length(length),
        (_, _, None) => Framing::UntilClose,
    };
    if matches!(framing, Framing::UntilClose) {
        keep_alive = false;
    }
    Ok(Head { status, headers, framing, keep_alive })
}

/// Whether no response with this status has a body, whatever was asked (RFC 9112, section 6.3).
pub fn is_without_body(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Writes a head. `fields` may have a length, which is not written: `told` has the one that is true.
pub fn write(status: StatusCode, fields: &HeaderMap, told: &Told<'_>, out: &mut BytesMut) {
    out.reserve(512);
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let mut is_dated = false;
    for (name, value) in fields {
        if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING {
            continue;
        }
        is_dated |= *name == header::DATE;
        output::line(out, name.as_str(), value.as_bytes());
    }
    match told.length {
        Length::Absent | Length::UntilClose => {}
        Length::Known(length) => {
            let mut digits = itoa::Buffer::new();
            output::line(out, "content-length", digits.format(length).as_bytes());
        }
        Length::Chunked => output::line(out, "transfer-encoding", b"chunked"),
    }
    match told.closing {
        Closing::Untold => {}
        Closing::Told => output::line(out, "connection", b"close"),
        Closing::StaysTold => output::line(out, "connection", b"keep-alive"),
    }
    if !is_dated {
        output::line(out, "date", told.date);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str) -> Result<Option<Head>, Malformed> {
        parse(&mut BytesMut::from(input), false)
    }

    fn head(input: &str) -> Head {
        check(input).unwrap().unwrap()
    }

    #[test]
    fn takes_the_head_and_leaves_the_body() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi");
        let head = parse(&mut input, false).unwrap().unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["x-a"], "b");
        assert!(head.keep_alive);
        assert_eq!(head.framing, Framing::Length(2));
        assert_eq!(&input[..], b"hi");
    }

    #[test]
    fn asks_for_more_at_every_split_before_the_end() {
        let whole = "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
        for at in 0..whole.len() {
            assert!(check(&whole[..at]).unwrap().is_none(), "split at {at}");
        }
        assert_eq!(head(whole).framing, Framing::None);
    }

    #[test]
    fn tells_how_the_body_ends() {
        let of = |fields: &str| head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        assert_eq!(of("").framing, Framing::UntilClose);
        assert!(!of("").keep_alive);
        assert_eq!(of("Transfer-Encoding: Chunked\r\n").framing, Framing::chunked());
        let twice = of("Content-Length: 3\r\nContent-Length: 3\r\n");
        assert_eq!(twice.framing, Framing::Length(3));
        assert_eq!(twice.headers.get_all("content-length").iter().count(), 1);
    }

    #[test]
    fn leaves_the_fields_of_the_connection_behind() {
        let fields = "Connection: X-Mine, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n\
                      Transfer-Encoding: chunked\r\nX-Theirs: 2\r\n";
        let names = |head: Head| head.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))), ["x-theirs"]);
        let upgrade = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        assert_eq!(names(head(upgrade)), ["connection", "upgrade"]);
    }

    #[test]
    fn keeps_the_connection_by_version_and_option() {
        let of = |version: &str, connection: &str| {
            head(&format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{connection}\r\n"))
                .keep_alive
        };
        assert!(of("1.1", ""));
        assert!(!of("1.1", "Connection: Close\r\n"));
        assert!(!of("1.0", ""));
        assert!(of("1.0", "Connection: Keep-Alive\r\n"));
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
        ] {
            let refused = check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            assert!(matches!(refused, Err(Malformed(_))), "{fields}");
        }
        assert!(check("SSH-2.0-OpenSSH\r\n").is_err());
        assert!(check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        let long = "x".repeat(LONGEST_BYTES);
        assert!(check(&format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n")).is_err());
    }

    #[test]
    fn writes_what_it_reads() {
        let told = |length, closing| Told { length, closing, date: b"Now" };
        let text = |status: u16, fields: &HeaderMap, told: Told<'_>| {
            let mut out = BytesMut::new();
            write(StatusCode::from_u16(status).unwrap(), fields, &told, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let mut fields = HeaderMap::new();
        fields.insert("x-a", "b".parse().unwrap());
        fields.insert("content-length", "7".parse().unwrap());
        assert_eq!(
            text(200, &fields, told(Length::Known(3), Closing::Untold)),
            "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 3\r\ndate: Now\r\n\r\n"
        );
        fields.insert("date", "Then".parse().unwrap());
        assert_eq!(
            text(404, &fields, told(Length::Chunked, Closing::Told)),
            "HTTP/1.1 404 Not Found\r\nx-a: b\r\ndate: Then\r\ntransfer-encoding: chunked\r\n\
             connection: close\r\n\r\n"
        );
        let none = HeaderMap::new();
        assert_eq!(
            text(599, &none, told(Length::Absent, Closing::StaysTold)),
            "HTTP/1.1 599 Unknown\r\nconnection: keep-alive\r\ndate: Now\r\n\r\n"
        );
    }
}
