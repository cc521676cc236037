//! Buffers that the connections of a worker use in turn: one that has nothing to read or to write
//! holds none.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use crate::http1::framing::READ_BYTES;
use crate::tls::stream::Stream;

/// The buffers of a worker.
#[derive(Default)]
pub(super) struct Buffers {
    /// Where heads are read to; what was read is split off, and shared by what is made of it.
    input: RefCell<BytesMut>,
    /// Where what is written is gathered.
    lines: RefCell<BytesMut>,
}

// === impl Buffers ===

impl Buffers {
    /// Reads what there is into `input`, in which there has to be nothing; 0 is the end.
    ///
    /// # Errors
    /// What the stream says.
    pub(super) fn poll_fill(
        &self,
        stream: &mut Stream,
        input: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.input.borrow_mut();
        let read = ready!(stream.poll_fill(shared, READ_BYTES, cx))?;
        *input = shared.split();
        Poll::Ready(Ok(read))
    }

    /// The buffer to write to, until it is given back.
    pub(super) fn lines(&self) -> BytesMut {
        self.lines.take()
    }

    /// Takes back what [`Self::lines`] gave; everything in it has been written.
    pub(super) fn give_back(&self, lines: BytesMut) {
        if lines.capacity() > 0 {
            self.lines.replace(lines);
        }
    }
}
