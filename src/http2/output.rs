//! What is still to be written of a connection, in the order in which it is to leave.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind what stands before it.
const COPIED_BYTES: usize = 4 * 1024;

/// Pieces that leave in one write.
const PIECES: usize = 16;

/// Bytes on their way out.
#[derive(Default)]
pub struct Output {
    /// What leaves first: large pieces of data, and what stood before them.
    pieces: VecDeque<Bytes>,
    /// Bytes of `pieces`.
    length: usize,
    /// What leaves after them.
    lines: BytesMut,
    /// Whether the stream may still hold some of what it took: TLS does.
    unflushed: bool,
}

// === impl Output ===

impl Output {
    /// What was written last, to be added to.
    pub fn lines(&mut self) -> &mut BytesMut {
        &mut self.lines
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.length + self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds data.
    pub fn data(&mut self, data: Bytes) {
        if data.len() <= COPIED_BYTES {
            self.lines.extend_from_slice(&data);
            return;
        }
        for piece in [self.lines.split().freeze(), data] {
            if !piece.is_empty() {
                self.length += piece.len();
                self.pieces.push_back(piece);
            }
        }
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
        while !self.is_empty() {
            let written = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.lines))?
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let pieces = self.pieces.iter().map(|piece| &piece[..]);
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces.chain([&self.lines[..]])) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let taken = written.min(piece.len());
            self.length -= taken;
            written -= taken;
            if taken == piece.len() {
                self.pieces.pop_front();
            } else {
                piece.advance(taken);
            }
        }
        if written == self.lines.len() {
            self.lines.clear();
        } else {
            self.lines.advance(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::rig::Narrow;

    #[test]
    fn everything_leaves_in_order_however_little_is_taken_at_once() {
        for step in [1, 3, 1000, COPIED_BYTES + 7, 1 << 20] {
            let mut stream = Narrow { taken: Vec::new(), step };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let (mut output, mut expected) = (Output::default(), Vec::new());
            for round in 0..20_u8 {
                let size = if round % 3 == 0 { COPIED_BYTES + 1 } else { 5 };
                let data = vec![round; size];
                output.lines().extend_from_slice(b"head");
                output.data(data.clone().into());
                expected.extend(b"head");
                expected.extend(data);
            }
            assert_eq!(output.len(), expected.len());
            assert!(output.poll_write(&mut stream, &mut cx).is_ready());
            assert!(output.is_empty());
            assert!(stream.taken == expected, "step {step}");
        }
    }
}
