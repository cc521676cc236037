//! HTTP/2 by hand: frames out, frames in, nothing checked on the way.
//!
//! Header blocks are written as literals without indexing, so that any bytes can be sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Settings, by number.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection by prior knowledge.
pub struct Connection {
    socket: TcpStream,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was ended, with this code.
    GoAway(u32),
    /// The connection was ended without a word.
    Closed,
}

pub type Field<'a> = (&'a [u8], &'a [u8]);

// === impl Connection ===

impl Connection {
    pub async fn open(port: u16) -> Self {
        Self::with(port, &[]).await
    }

    /// A connection whose client announces `settings`.
    pub async fn with(port: u16, settings: &[(u16, u32)]) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut connection = Self { socket };
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        assert!(connection.send(SETTINGS, 0, 0, &payload).await);
        connection
    }

    /// Sends a frame; whether the gateway still took it.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let sent = tokio::time::timeout(PATIENCE, self.socket.write_all(&frame)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Sends a whole header block.
    pub async fn headers(&mut self, stream: u32, fields: &[Field<'_>], ends: bool) -> bool {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields)).await
    }

    /// Asks for `path` of host `a`.
    pub async fn get(&mut self, stream: u32, path: &str) -> bool {
        self.headers(stream, &request("GET", path), true).await
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) -> bool {
        self.send(DATA, if ends { END_STREAM } else { 0 }, stream, bytes).await
    }

    /// The next frame; `None` at the connection's end. Answers pings, as every client has to.
    pub async fn next(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(PATIENCE, self.read()).await;
        let next = next.expect("a frame, or the connection's end");
        if let Some(ping) = next.as_ref().filter(|frame| frame.kind == PING && frame.flags == 0) {
            self.send(PING, ACK, 0, &ping.payload).await;
        }
        next
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until `wanted` says that a frame is the one; `None` when the connection ends before.
    pub async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads until it is clear what becomes of the request on `stream`. Only the first response
    /// of a connection can be read: the dynamic table is not kept.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let decides = |frame: &Frame| {
            frame.kind == GOAWAY
                || frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)
        };
        match self.find(decides).await {
            None => Outcome::Closed,
            Some(frame) if frame.kind == HEADERS => Outcome::Status(status(&frame.payload)),
            Some(frame) if frame.kind == GOAWAY => Outcome::GoAway(code(&frame.payload[4..])),
            Some(frame) => Outcome::Reset(code(&frame.payload)),
        }
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// The fields of a request to host `a`.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<Field<'a>> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"a"),
        (b":path", path.as_bytes()),
    ]
}

/// A header block (RFC 7541, section 6.2.2).
pub fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(*text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The status that begins a header block: one of the static table, or digits in Huffman's code.
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // The encoder may begin with a new size of its table.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    if block[0] & 0x80 != 0 {
        return INDEXED[usize::from((block[0] & 0x7f) - 8)];
    }
    assert_eq!(block[0] & 0x3f, 8, "the first field is the status");
    let value = &block[2..2 + usize::from(block[1] & 0x7f)];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(value).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> =
        value.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut at = 0;
    let mut status = 0;
    for _ in 0..3 {
        let take = |count: usize| bits[at..at + count].iter().fold(0, |all, bit| all * 2 + bit);
        // 0 to 2 have five bits, 3 to 9 six.
        let (digit, size) = match take(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        status = status * 10 + u16::from(digit);
        at += size;
    }
    status
}
