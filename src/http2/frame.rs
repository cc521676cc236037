//! Frames: taken off the front of what was read, and written.
//!
//! What a frame says by itself is checked here: its length, its padding, the stream 0. What it
//! means for a stream is the connection's business.
//!
//! Source: RFC 9113, sections 4 and 6.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Code, Fault};

/// The largest payload that is taken: the smallest that may be announced, which every peer keeps to
/// that is told nothing else.
pub const LARGEST_BYTES: usize = 16 * 1024;

/// Length, type, flags and stream.
pub const HEAD_BYTES: usize = 9;

/// Streams have 31 bits.
pub const LAST_STREAM: u32 = 0x7fff_ffff;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

/// A frame that a client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        data: Bytes,
        /// Bytes that flow control counts: the data and what pads it.
        counted: u32,
        ends: bool,
    },
    Headers {
        stream: u32,
        block: Bytes,
        /// Whether the stream ends with it.
        ends: bool,
        /// Whether no [`Frame::Continuation`] follows.
        is_whole: bool,
    },
    Continuation {
        stream: u32,
        block: Bytes,
        is_whole: bool,
    },
    Reset {
        stream: u32,
    },
    /// For [`super::settings::read`].
    Settings(Bytes),
    SettingsAck,
    Ping([u8; 8]),
    Pong([u8; 8]),
    /// The increment may be 0, which is an error of the stream, or of the connection for stream 0.
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    /// One that says nothing to a server: a priority, a farewell, an unknown kind.
    Other,
}

/// Takes a frame off the front of `input`, and says how long it was; `None` while it is not there as
/// a whole.
///
/// # Errors
/// A [`Fault`] for what no frame is.
pub fn take(input: &mut BytesMut) -> Result<Option<(Frame, usize)>, Fault> {
    let Some((head, _)) = input.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [a, b, c, kind, flags, stream @ ..] = *head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let stream = u32::from_be_bytes(stream) & LAST_STREAM;
    if length > LARGEST_BYTES {
        return Err(Code::FRAME_SIZE_ERROR.because("a frame is longer than it may be"));
    }
    if input.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    input.advance(HEAD_BYTES);
    let frame = match kind {
        DATA => {
            let data = unpad(input.split_to(length).freeze(), flags, 0)?;
            let ends = flags & END_STREAM != 0;
            on_a_stream(stream)?;
            // No frame is as long as four gigabytes.
            Frame::Data { stream, data, counted: length as u32, ends }
        }
        HEADERS => {
            let priority = if flags & WITH_PRIORITY != 0 { 5 } else { 0 };
            let block = unpad(input.split_to(length).freeze(), flags, priority)?;
            let (ends, is_whole) = (flags & END_STREAM != 0, flags & END_HEADERS != 0);
            on_a_stream(stream)?;
            Frame::Headers { stream, block, ends, is_whole }
        }
        CONTINUATION => {
            let block = input.split_to(length).freeze();
            on_a_stream(stream)?;
            Frame::Continuation { stream, block, is_whole: flags & END_HEADERS != 0 }
        }
        _ => {
            let frame = short(kind, flags, stream, &input[..length])?;
            input.advance(length);
            frame
        }
    };
    Ok(Some((frame, HEAD_BYTES + length)))
}

/// Whether the frame that begins with `head` is settings, and not the acknowledgement of some.
pub fn announces_settings(head: &[u8; HEAD_BYTES]) -> bool {
    let [.., kind, flags, _, _, _, _] = *head;
    kind == SETTINGS && flags & ACK == 0
}

/// Frames that have no payload to keep.
fn short(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, Fault> {
    const LENGTH: Fault = Code::FRAME_SIZE_ERROR.because("a frame has not the length of its kind");
    let number = |payload: &[u8]| payload.try_into().map(u32::from_be_bytes).map_err(|_| LENGTH);
    Ok(match kind {
        RST_STREAM => {
            on_a_stream(stream)?;
            number(payload)?;
            Frame::Reset { stream }
        }
        WINDOW_UPDATE => Frame::WindowUpdate { stream, increment: number(payload)? & LAST_STREAM },
        SETTINGS => {
            on_the_connection(stream)?;
            match (flags & ACK != 0, payload.len()) {
                (true, 0) => Frame::SettingsAck,
                (false, length) if length % 6 == 0 => {
                    Frame::Settings(Bytes::copy_from_slice(payload))
                }
                _ => return Err(LENGTH),
            }
        }
        PING => {
            on_the_connection(stream)?;
            let payload = payload.try_into().map_err(|_| LENGTH)?;
            if flags & ACK != 0 { Frame::Pong(payload) } else { Frame::Ping(payload) }
        }
        PRIORITY => {
            on_a_stream(stream)?;
            if payload.len() != 5 {
                return Err(LENGTH);
            }
            Frame::Other
        }
        GOAWAY => {
            on_the_connection(stream)?;
            if payload.len() < 8 {
                return Err(LENGTH);
            }
            Frame::Other
        }
        PUSH_PROMISE => return Err(Code::PROTOCOL_ERROR.because("a client promises a push")),
        _ => Frame::Other,
    })
}

/// Cuts off padding, and `skipped` bytes at the front.
fn unpad(mut payload: Bytes, flags: u8, skipped: usize) -> Result<Bytes, Fault> {
    let mut padding = 0;
    if flags & PADDED != 0 {
        if payload.is_empty() {
            return Err(Code::FRAME_SIZE_ERROR.because("a padded frame has no padding"));
        }
        padding = usize::from(payload.get_u8());
    }
    if payload.len() < skipped {
        return Err(Code::FRAME_SIZE_ERROR.because("a frame has not the length of its kind"));
    }
    payload.advance(skipped);
    let Some(length) = payload.len().checked_sub(padding) else {
        return Err(Code::PROTOCOL_ERROR.because("a frame's padding is longer than the frame"));
    };
    payload.truncate(length);
    Ok(payload)
}

fn on_a_stream(stream: u32) -> Result<(), Fault> {
    let fault = Code::PROTOCOL_ERROR.because("a frame of streams is on none");
    if stream == 0 { Err(fault) } else { Ok(()) }
}

fn on_the_connection(stream: u32) -> Result<(), Fault> {
    let fault = Code::PROTOCOL_ERROR.because("a frame of connections is on a stream");
    if stream == 0 { Ok(()) } else { Err(fault) }
}

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

fn write_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head(length, kind, flags, stream));
}

/// Writes the head of a frame of `length` bytes of data, at most [`LARGEST_BYTES`]; they are to
/// follow.
pub fn write_data_head(out: &mut BytesMut, stream: u32, length: usize, ends: bool) {
    write_head(out, length, DATA, if ends { END_STREAM } else { 0 }, stream);
}

/// Writes a header block, which `write` makes.
pub fn write_headers(
    out: &mut BytesMut,
    stream: u32,
    ends: bool,
    write: impl FnOnce(&mut BytesMut),
) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    write(out);
    let length = out.len() - begin - HEAD_BYTES;
    let ends = if ends { END_STREAM } else { 0 };
    if length <= LARGEST_BYTES {
        let head = head(length, HEADERS, ends | END_HEADERS, stream);
        out[begin..begin + HEAD_BYTES].copy_from_slice(&head);
        return;
    }
    let block = out.split_off(begin + HEAD_BYTES);
    out.truncate(begin);
    let pieces = block.chunks(LARGEST_BYTES);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        let (kind, flags) = if index == 0 { (HEADERS, ends) } else { (CONTINUATION, 0) };
        let flags = flags | if index == last { END_HEADERS } else { 0 };
        write_head(out, piece.len(), kind, flags, stream);
        out.extend_from_slice(piece);
    }
}

pub fn write_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    write_head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (name, value) in settings {
        out.put_u16(*name);
        out.put_u32(*value);
    }
}

pub fn write_settings_ack(out: &mut BytesMut) {
    write_head(out, 0, SETTINGS, ACK, 0);
}

pub fn write_ping(out: &mut BytesMut, payload: [u8; 8]) {
    write_head(out, payload.len(), PING, 0, 0);
    out.put_slice(&payload);
}

pub fn write_pong(out: &mut BytesMut, payload: [u8; 8]) {
    write_head(out, payload.len(), PING, ACK, 0);
    out.put_slice(&payload);
}

pub fn write_reset(out: &mut BytesMut, stream: u32, code: Code) {
    write_head(out, 4, RST_STREAM, 0, stream);
    out.put_u32(code.0);
}

/// `last` is the last stream that is answered.
pub fn write_go_away(out: &mut BytesMut, last: u32, code: Code) {
    write_head(out, 8, GOAWAY, 0, 0);
    out.put_u32(last);
    out.put_u32(code.0);
}

pub fn write_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    write_head(out, 4, WINDOW_UPDATE, 0, stream);
    out.put_u32(increment);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        write_head(&mut out, payload.len(), kind, flags, stream);
        out.extend_from_slice(payload);
        out.to_vec()
    }

    fn check(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, Code> {
        let bytes = frame(kind, flags, stream, payload);
        let mut input = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            input.put_u8(*byte);
            // What is too long is known of the head.
            match take(&mut input) {
                Ok(None) => {}
                Ok(Some(early)) => panic!("{early:?} of a part"),
                Err(fault) => return Err(fault.code),
            }
        }
        input.put_u8(bytes[bytes.len() - 1]);
        input.put_slice(b"next");
        let (frame, length) = take(&mut input).map_err(|fault| fault.code)?.unwrap();
        assert_eq!((&input[..], length), (&b"next"[..], bytes.len()));
        Ok(frame)
    }

    #[test]
    fn takes_frames_apart() {
        let data = |data: &'static [u8], counted, ends| {
            Ok(Frame::Data { stream: 1, data: Bytes::from_static(data), counted, ends })
        };
        assert_eq!(check(DATA, 0, 1, b"abc"), data(b"abc", 3, false));
        assert_eq!(check(DATA, END_STREAM, 0x8000_0001, b""), data(b"", 0, true));
        assert_eq!(check(DATA, PADDED, 1, b"\x02abc\0\0"), data(b"abc", 6, false));
        assert_eq!(check(DATA, PADDED, 1, b"\x02\0\0"), data(b"", 3, false));
        assert_eq!(check(DATA, PADDED, 1, b"\x03\0\0"), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(DATA, PADDED, 1, b""), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(DATA, 0, 0, b"abc"), Err(Code::PROTOCOL_ERROR));
        let flags = END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY;
        let block = Bytes::from_static(b"block");
        let headers =
            Frame::Headers { stream: 3, block: block.clone(), ends: true, is_whole: true };
        assert_eq!(check(HEADERS, flags, 3, b"\x01\0\0\0\0\x10block\0"), Ok(headers));
        assert_eq!(check(HEADERS, flags, 3, b"\x01\0\0\0"), Err(Code::FRAME_SIZE_ERROR));
        let whole = Frame::Continuation { stream: 3, block, is_whole: true };
        assert_eq!(check(CONTINUATION, END_HEADERS, 3, b"block"), Ok(whole));
        assert_eq!(check(RST_STREAM, 0, 3, &[0; 4]), Ok(Frame::Reset { stream: 3 }));
        assert_eq!(check(RST_STREAM, 0, 0, &[0; 4]), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(RST_STREAM, 0, 3, &[0; 5]), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(SETTINGS, ACK, 0, b""), Ok(Frame::SettingsAck));
        assert_eq!(check(SETTINGS, ACK, 0, &[0; 6]), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(SETTINGS, 0, 0, &[0; 7]), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(SETTINGS, 0, 1, &[0; 6]), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(PING, 0, 0, &[7; 8]), Ok(Frame::Ping([7; 8])));
        assert_eq!(check(PING, ACK, 0, &[7; 8]), Ok(Frame::Pong([7; 8])));
        assert_eq!(check(PING, 0, 0, &[7; 7]), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(PING, 0, 1, &[7; 8]), Err(Code::PROTOCOL_ERROR));
        assert_eq!(
            check(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1]),
            Ok(Frame::WindowUpdate { stream: 0, increment: 1 })
        );
        assert_eq!(check(PRIORITY, 0, 1, &[0; 5]), Ok(Frame::Other));
        assert_eq!(check(PRIORITY, 0, 1, &[0; 4]), Err(Code::FRAME_SIZE_ERROR));
        assert_eq!(check(GOAWAY, 0, 0, &[0; 8]), Ok(Frame::Other));
        assert_eq!(check(PUSH_PROMISE, 0, 1, &[0; 8]), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(0xbe, 0xff, 7, &[0; 8]), Ok(Frame::Other));
    }

    #[test]
    fn what_is_too_long_is_not_waited_for() {
        let mut input = BytesMut::from(&[0, 0x40, 1, DATA, 0, 0, 0, 0, 1][..]);
        assert_eq!(take(&mut input).unwrap_err().code, Code::FRAME_SIZE_ERROR);
    }

    #[test]
    fn a_long_header_block_goes_on_in_frames_of_its_own() {
        for length in [0, LARGEST_BYTES, LARGEST_BYTES + 1, 3 * LARGEST_BYTES] {
            let mut out = BytesMut::from(&b"before"[..]);
            write_headers(&mut out, 5, true, |out| out.put_bytes(b'x', length));
            out.advance(6);
            let Some((Frame::Headers { stream: 5, block, ends: true, mut is_whole }, _)) =
                take(&mut out).unwrap()
            else {
                panic!("no head");
            };
            let mut found = block.len();
            while !is_whole {
                let Some((Frame::Continuation { stream: 5, block, is_whole: last }, _)) =
                    take(&mut out).unwrap()
                else {
                    panic!("no end");
                };
                found += block.len();
                is_whole = last;
            }
            assert_eq!((found, out.len()), (length, 0));
        }
    }
}
