//! Frames of a client's stream, before `h3` sees them.
//!
//! `h3` waits until it has the whole of a frame that is no DATA, however long it says that it is;
//! takes a DATA frame that breaks off for the end of the body, and an empty one too; and panics on
//! some of what follows. So a frame with a bound is held back until it is whole, frames that nobody
//! knows are dropped as they come, empty DATA frames are too, and a stream that ends within a frame
//! does not end well.

use ::h3::error::Code;
use bytes::{Buf as _, Bytes, BytesMut};

use super::section::{self, Part};
use crate::http1::request::LONGEST_BYTES;

/// The longest frame of a control stream.
const CONTROL_BYTES: u64 = 4096;

/// Types of frames (RFC 9114, section 7.2).
const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;

/// Looks over the frames of one stream.
pub(super) struct Guard {
    kind: Kind,
    state: State,
    /// What is held back: of the head of a frame, or the frame itself.
    held: BytesMut,
    /// What has come and is yet to be looked at. A piece at a time: frames of a byte each would
    /// else be held as pieces of many times their size.
    input: Bytes,
    /// What may go on.
    passed: Option<Bytes>,
    /// Whether the head of the message has been seen.
    has_head: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    /// A stream in one direction whose type is yet to come.
    Untold,
    Control,
    /// One without frames.
    Raw,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the head of a frame.
    Head,
    /// In a DATA frame, of which so much is to come.
    Passing(u64),
    /// In a frame that nobody knows.
    Skipping(u64),
    /// In a frame that goes on as a whole: its type, and the bytes that it has with its head.
    Holding(u64, usize),
}

// === impl Guard ===

impl Guard {
    /// Of a request's stream.
    pub(super) fn of_request() -> Self {
        Self::new(Kind::Request)
    }

    /// Of a stream in one direction.
    pub(super) fn of_other() -> Self {
        Self::new(Kind::Untold)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            state: State::Head,
            held: BytesMut::new(),
            input: Bytes::new(),
            passed: None,
            has_head: false,
        }
    }

    /// Takes what the client has sent, once [`Guard::next`] has nothing more.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    /// The next piece that may go on.
    ///
    /// # Errors
    /// The code to end the stream with.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Code> {
        loop {
            if let Some(piece) = self.passed.take() {
                return Ok(Some(piece));
            }
            if self.input.is_empty() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Looks at some of the input; passes at most one piece.
    fn step(&mut self) -> Result<(), Code> {
        let bytes = &mut self.input;
        if self.kind == Kind::Raw {
            self.passed = Some(std::mem::take(bytes));
            return Ok(());
        }
        match &mut self.state {
            State::Head => {
                // A head has at most sixteen bytes.
                self.held.extend_from_slice(&bytes.split_to(1));
                self.begin()?;
            }
            State::Passing(left) => self.passed = Some(take(bytes, left)),
            State::Skipping(left) => drop(take(bytes, left)),
            State::Holding(kind, whole) => {
                let (kind, missing) = (*kind, *whole - self.held.len());
                let piece = bytes.split_to(missing.min(bytes.len()));
                self.held.extend_from_slice(&piece);
                if piece.len() == missing {
                    self.release(kind)?;
                }
            }
        }
        if matches!(self.state, State::Passing(0) | State::Skipping(0)) {
            self.state = State::Head;
        }
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// The code to reset it with, where it ends within a frame.
    pub(super) fn end(&self) -> Result<(), Code> {
        let is_between = matches!(self.state, State::Head) && self.held.is_empty();
        if is_between || self.kind == Kind::Raw { Ok(()) } else { Err(Code::H3_FRAME_ERROR) }
    }

    /// Begins a frame, if its head is whole.
    fn begin(&mut self) -> Result<(), Code> {
        let mut head = &self.held[..];
        let Some(kind) = varint(&mut head) else {
            return Ok(());
        };
        if self.kind == Kind::Untold {
            self.kind = if kind == 0 { Kind::Control } else { Kind::Raw };
            self.passed = Some(self.held.split().freeze());
            return Ok(());
        }
        let Some(length) = varint(&mut head) else {
            return Ok(());
        };
        if kind == DATA && self.kind == Kind::Request {
            let head = self.held.split().freeze();
            if length > 0 {
                self.passed = Some(head);
            }
            self.state = State::Passing(length);
        } else if is_known(kind) {
            let longest = match self.kind {
                Kind::Request => LONGEST_BYTES as u64,
                _ => CONTROL_BYTES,
            };
            let length = usize::try_from(length).ok().filter(|length| *length as u64 <= longest);
            let length = length.ok_or(Code::H3_EXCESSIVE_LOAD)?;
            self.state = State::Holding(kind, self.held.len() + length);
            if length == 0 {
                self.release(kind)?;
            }
        } else {
            self.held.clear();
            self.state = State::Skipping(length);
        }
        Ok(())
    }

    /// Lets a whole frame go on, or not.
    fn release(&mut self, kind: u64) -> Result<(), Code> {
        let frame = self.held.split().freeze();
        self.state = State::Head;
        if kind == HEADERS && self.kind == Kind::Request {
            let mut section = &frame[..];
            varint(&mut section);
            varint(&mut section);
            let part = if self.has_head { Part::Trailers } else { Part::Head };
            self.has_head = true;
            section::check(section, part)?;
        }
        self.passed = Some(frame);
        Ok(())
    }
}

/// Whether a type of frame has a meaning, if only that of an error: `h3` judges those. The last one
/// is WebTransport's, which was not offered.
fn is_known(kind: u64) -> bool {
    kind <= 0x9 || kind == 0xd || kind == 0x41
}

/// Takes as much of a frame as has come.
fn take(bytes: &mut Bytes, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= length as u64;
    bytes.split_to(length)
}

/// An integer (RFC 9000, section 16); `None` where it is not whole.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    if bytes.len() < length {
        return None;
    }
    let mut value = u64::from(first & 0x3f);
    for byte in &bytes[1..length] {
        value = value << 8 | u64::from(*byte);
    }
    bytes.advance(length);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = &[1, 5, 0, 0, 0xd1, 0xd7, 0xc1];

    /// What of a stream goes on when it comes in pieces of `size` bytes, and how it ends.
    fn check(guard: Guard, stream: &[u8], size: usize) -> Result<Vec<u8>, u64> {
        let mut guard = guard;
        let mut passed = Vec::new();
        for piece in stream.chunks(size) {
            guard.push(Bytes::copy_from_slice(piece));
            while let Some(bytes) = guard.next().map_err(|code| code.value())? {
                assert!(!bytes.is_empty());
                passed.extend(bytes);
            }
        }
        guard.end().map_err(|code| code.value())?;
        Ok(passed)
    }

    fn request(frames: &[&[u8]], size: usize) -> Result<Vec<u8>, u64> {
        check(Guard::of_request(), &[&[HEAD], frames].concat().concat(), size)
    }

    #[test]
    fn frames_go_on_in_whatever_pieces_they_come() {
        let trailers = [1, 5, 0, 0, 0x21, b'a', 0];
        for size in 1..24 {
            let frames = [&[0, 0x40, 3, 1, 2, 3][..], &[0, 0], &[0x21, 2, 9, 9], &trailers];
            let passed = [HEAD, &[0, 0x40, 3, 1, 2, 3], &trailers].concat();
            assert_eq!(request(&frames, size), Ok(passed), "{size}");
        }
    }

    #[test]
    fn a_stream_ends_between_frames() {
        for cut in [&[0, 3, 1, 2][..], &[0], &[0, 0x40], &[1, 4, 0], &[0x21, 3, 1]] {
            assert_eq!(request(&[cut], 64), Err(0x106), "{cut:?}");
        }
    }

    #[test]
    fn frames_that_have_to_be_whole_have_a_bound() {
        let long = [1, 0x80, 1, 0, 1];
        assert_eq!(check(Guard::of_request(), &long, 64), Err(0x107));
        assert_eq!(check(Guard::of_other(), &[0, 4, 0x50, 1], 1), Err(0x107));
        // One that is dropped has none.
        let endless = [&[0x21, 0xc0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 65536]].concat();
        assert_eq!(request(&[&endless], 1000), Ok(HEAD.to_vec()));
    }

    #[test]
    fn other_streams_pass() {
        let control = [0, 4, 2, 1, 0];
        for size in 1..6 {
            assert_eq!(check(Guard::of_other(), &control, size), Ok(control.to_vec()));
            assert_eq!(check(Guard::of_other(), &[2, 9, 9, 9], size), Ok(vec![2, 9, 9, 9]));
        }
    }
}
