//! What is still to be written of a message, gathered so that a head and the data behind it leave
//! in one write.

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind the head.
const COPIED_BYTES: usize = 2 * 1024;

/// Bytes on their way out: a head (or a chunk's size line), data, a static end.
#[derive(Default)]
pub struct Output {
    lines: BytesMut,
    data: Bytes,
    end: &'static [u8],
    /// Whether the stream may still hold some of what it took: TLS does.
    unflushed: bool,
}

// === impl Output ===

impl Output {
    /// Room for a head.
    pub fn lines(&mut self) -> &mut BytesMut {
        &mut self.lines
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.data.is_empty() && self.end.is_empty()
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.lines.len() + self.data.len() + self.end.len()
    }

    /// Whether everything has left, the stream's own buffers included.
    pub fn is_flushed(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    /// Whether data can be taken on: what is there has none yet that is not copied.
    pub fn takes_data(&self) -> bool {
        self.data.is_empty() && self.end.is_empty()
    }

    /// Data as it is; a little is copied to what stands before it, which costs less than a write
    /// of two parts.
    pub fn data(&mut self, data: Bytes) {
        if data.len() <= COPIED_BYTES {
            self.lines.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    /// Data as a chunk (RFC 9112, section 7.1); there has to be some.
    pub fn chunk(&mut self, data: Bytes) {
        // Writing to a buffer in memory cannot fail.
        let _ = write!(self.lines, "{:x}\r\n", data.len());
        self.data(data);
        if self.data.is_empty() {
            self.lines.extend_from_slice(b"\r\n");
        } else {
            self.end = b"\r\n";
        }
    }

    /// The end of a chunked body that has no trailers.
    pub fn last_chunk(&mut self) {
        self.end = if self.end.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
    }

    /// The end of a chunked body with its trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.lines.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            line(&mut self.lines, name.as_str(), value.as_bytes());
        }
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Writes and flushes everything.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let written = if self.takes_data() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.lines))?
            } else {
                let slices =
                    [IoSlice::new(&self.lines), IoSlice::new(&self.data), IoSlice::new(self.end)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(written);
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let lines = written.min(self.lines.len());
        if lines == self.lines.len() {
            self.lines.clear();
        } else {
            self.lines.advance(lines);
        }
        written -= lines;
        let data = written.min(self.data.len());
        if data == self.data.len() {
            // An empty rest would keep the buffer that it was a part of from being freed.
            self.data = Bytes::new();
        } else {
            self.data.advance(data);
        }
        written -= data;
        self.end = &self.end[written..];
    }
}

/// Writes a header line.
pub fn line(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::rig::Narrow;

    /// A buffer that is not this room's alone.
    struct Shared(std::sync::Arc<[u8; COPIED_BYTES + 1]>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }

    #[test]
    fn writes_everything_in_order_however_little_is_taken_at_once() {
        for step in 1..24 {
            let mut stream = Narrow { taken: Vec::new(), step };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut output = Output::default();
            output.lines().extend_from_slice(b"HEAD\r\n\r\n");
            output.chunk(Bytes::from_static(b"hello, you"));
            assert!(output.takes_data());
            output.chunk(Bytes::from(vec![b'x'; COPIED_BYTES + 1]));
            assert!(!output.takes_data());
            assert!(output.poll_write(&mut stream, &mut cx).is_ready());
            assert!(output.is_flushed());
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-sum"),
                http::HeaderValue::from_static("1"),
            )]);
            output.trailers(&trailers);
            assert!(!output.is_flushed());
            assert!(output.poll_write(&mut stream, &mut cx).is_ready());
            let text = String::from_utf8(stream.taken).unwrap();
            let large = "x".repeat(COPIED_BYTES + 1);
            let expected =
                format!("HEAD\r\n\r\na\r\nhello, you\r\n801\r\n{large}\r\n0\r\nx-sum: 1\r\n\r\n");
            assert_eq!(text, expected, "step {step}");
        }
    }

    #[test]
    fn what_is_written_is_not_held_on_to() {
        let (mut stream, mut output) =
            (Narrow { taken: Vec::new(), step: 1000 }, Output::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let buffer = std::sync::Arc::new([b'x'; COPIED_BYTES + 1]);
        output.data(Bytes::from_owner(Shared(buffer.clone())));
        assert_eq!(std::sync::Arc::strong_count(&buffer), 2);
        assert!(output.poll_write(&mut stream, &mut cx).is_ready());
        assert_eq!(std::sync::Arc::strong_count(&buffer), 1);
    }
}
