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

    /// Takes back what [`Self::lines`] gave. What is still in it is of a connection that has broken
    /// off, and must not reach the next one's client.
    pub(super) fn give_back(&self, mut lines: BytesMut) {
        if lines.capacity() > 0 {
            lines.clear();
            self.lines.replace(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_client_did_not_take_is_not_for_the_next() {
        let buffers = Buffers::default();
        let mut lines = buffers.lines();
        lines.extend_from_slice(b"set-cookie: session=1");
        buffers.give_back(lines);
        let lines = buffers.lines();
        assert!(lines.is_empty() && lines.capacity() > 0, "{lines:?}");
    }
}
