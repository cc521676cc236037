//! The body of a message, cut out of the bytes by its framing.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Malformed, fields};

/// A chunk's size line, extensions included, may be this long.
const LONGEST_LINE_BYTES: usize = 4096;

/// What is reserved for a read when nothing is known of what comes.
pub const READ_BYTES: usize = 16 * 1024;

/// What is reserved for a read in the middle of a large body.
const LARGE_READ_BYTES: u64 = 128 * 1024;

/// How a body ends, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, or it is over.
    None,
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// A piece of a body.
#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// What the bytes so far give.
#[derive(Debug)]
pub enum Next {
    Piece(Piece),
    /// The body is over.
    End,
    /// Nothing, until more bytes are read.
    More,
}

// === impl Framing ===

impl Framing {
    /// A chunked body at its first byte.
    pub const fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    /// What is worth reserving for the next read of the body.
    pub fn read_bytes(&self) -> usize {
        match *self {
            Self::Length(left) => (left.min(LARGE_READ_BYTES) as usize).max(READ_BYTES),
            _ => READ_BYTES,
        }
    }

    /// Takes the next piece off the front of `input`.
    ///
    /// # Errors
    /// [`Malformed`] when a chunk is not one.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Next, Malformed> {
        match self {
            Self::None | Self::Length(0) => Ok(Next::End),
            _ if input.is_empty() => Ok(Next::More),
            Self::UntilClose => Ok(Next::Piece(Piece::Data(input.split().freeze()))),
            Self::Length(left) => Ok(data(left, input)),
            Self::Chunked(chunk) => match chunk.next(input)? {
                Next::End => {
                    *self = Self::None;
                    Ok(Next::End)
                }
                Next::Piece(Piece::Trailers(trailers)) => {
                    *self = Self::None;
                    Ok(Next::Piece(Piece::Trailers(trailers)))
                }
                other => Ok(other),
            },
        }
    }
}

// === impl Chunk ===

impl Chunk {
    fn next(&mut self, input: &mut BytesMut) -> Result<Next, Malformed> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(input)? else {
                        return Ok(Next::More);
                    };
                    *self = match size(&line)? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    };
                }
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(_) if input.is_empty() => return Ok(Next::More),
                Self::Data(left) => return Ok(data(left, input)),
                Self::DataEnd => match line(input)? {
                    None => return Ok(Next::More),
                    Some(line) if line.is_empty() => *self = Self::Size,
                    Some(_) => return Err(Malformed("a chunk is longer than its size")),
                },
                Self::Trailers => return trailers(input),
            }
        }
    }
}

fn data(left: &mut u64, input: &mut BytesMut) -> Next {
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= size as u64;
    Next::Piece(Piece::Data(input.split_to(size).freeze()))
}

/// Takes a line off the front of `input`, without its end.
fn line(input: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        if input.len() > LONGEST_LINE_BYTES {
            return Err(Malformed("a chunk's size line is too long"));
        }
        return Ok(None);
    };
    if end == 0 || input[end - 1] != b'\r' {
        return Err(Malformed("a chunk's line end is not CR LF"));
    }
    let line = input.split_to(end - 1);
    input.advance(2);
    Ok(Some(line))
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    const WRONG: Malformed = Malformed("a chunk's size is not one");
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    // Extensions mean nothing here and go no further, but a control character among them may be a
    // line's end to somebody else.
    let mut rest = rest.iter().copied().skip_while(|byte| is_blank(*byte));
    let is_extended = rest.next().is_none_or(|byte| byte == b';');
    if !is_extended || !rest.all(|byte| is_blank(byte) || !byte.is_ascii_control()) {
        return Err(WRONG);
    }
    let text = std::str::from_utf8(digits).map_err(|_| WRONG)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| WRONG)?;
    if size > fields::LONGEST_BODY_BYTES { Err(WRONG) } else { Ok(size) }
}

fn trailers(input: &mut BytesMut) -> Result<Next, Malformed> {
    const WRONG: Malformed = Malformed("its trailers are not header lines");
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Next::End);
    }
    let mut room = [httparse::EMPTY_HEADER; 32];
    let (length, lines) = match httparse::parse_headers(input, &mut room) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if input.len() > LONGEST_LINE_BYTES * 4 => return Err(WRONG),
        Ok(httparse::Status::Partial) => return Ok(Next::More),
        Err(_) => return Err(WRONG),
    };
    let mut trailers = HeaderMap::new();
    for field in lines {
        let name = HeaderName::try_from(field.name).map_err(|_| WRONG)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| WRONG)?;
        if fields::may_trail(&name) {
            trailers.append(name, value);
        }
    }
    input.advance(length);
    Ok(Next::Piece(Piece::Trailers(trailers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes; returns the data and the trailers.
    fn check(
        mut framing: Framing,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize), Malformed> {
        let mut buffer = BytesMut::new();
        let mut data = Vec::new();
        let mut trailers = 0;
        for piece in input.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match framing.next(&mut buffer)? {
                    Next::Piece(Piece::Data(bytes)) => data.extend_from_slice(&bytes),
                    Next::Piece(Piece::Trailers(map)) => trailers += map.len(),
                    Next::More => break,
                    Next::End => return Ok((data, trailers)),
                }
            }
        }
        Err(Malformed("it is not over"))
    }

    #[test]
    fn cuts_by_length_at_every_split() {
        for step in 1..8 {
            let (data, _) = check(Framing::Length(5), b"hello", step).unwrap();
            assert_eq!(data, b"hello");
        }
        assert!(check(Framing::Length(6), b"hello", 2).is_err());
    }

    #[test]
    fn joins_chunks_at_every_split() {
        let input = b"5\r\nhello\r\n1;x=y\r\n,\r\nA \r\n0123456789\r\n0\r\n\r\n";
        for step in 1..input.len() {
            let (data, trailers) = check(Framing::chunked(), input, step).unwrap();
            assert_eq!(data, b"hello,0123456789", "step {step}");
            assert_eq!(trailers, 0);
        }
    }

    #[test]
    fn hands_over_trailers() {
        let input = b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\nContent_Length: 3\r\n\r\n";
        for step in 1..input.len() {
            assert_eq!(check(Framing::chunked(), input, step).unwrap().1, 2);
        }
    }

    #[test]
    fn refuses_chunks_that_are_none() {
        for input in [
            &b"-1\r\n"[..],
            b"0x5\r\nhello\r\n",
            b"\r\n",
            b"5\nhello\n",
            b"5\r\nhello!\r\n",
            b"ffffffffffffffffff\r\n",
            b"8000000000000000\r\n",
            b"5 x\r\nhello\r\n",
            b"5\r\r\nhello\r\n",
            b"5;a=\0\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
        ] {
            let refused = check(Framing::chunked(), input, 1);
            assert!(matches!(refused, Err(Malformed(_))), "{input:?}");
        }
    }
}
