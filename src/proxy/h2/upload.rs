//! The body of a request over HTTP/2: as it comes, no faster than it is asked for.

use std::mem;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

use super::stream::{Next, Stream};
use super::wire::Wire;
use crate::proxy::exchange::Broken;

/// The body of a request. Read by the stream's own task, which is woken when more of it comes.
pub(in crate::proxy) struct Upload {
    wire: Rc<Wire>,
    stream: Rc<Stream>,
    /// Whether the client waits for a 100 before it sends the body (RFC 9110, section 10.1.1).
    owes_continue: bool,
}

// === impl Upload ===

impl Upload {
    pub(super) fn new(wire: Rc<Wire>, stream: Rc<Stream>, owes_continue: bool) -> Self {
        Self { wire, stream, owes_continue }
    }

    /// Whether all of it has been handed out.
    pub(in crate::proxy) fn is_read(&self) -> bool {
        self.stream.is_read()
    }

    /// The next piece.
    pub(in crate::proxy) fn poll_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // Nothing is owed for what has begun to come, nor once there is an answer.
        if mem::take(&mut self.owes_continue)
            && !self.stream.has_begun()
            && !self.stream.is_answered()
        {
            self.wire.write_continue(&self.stream);
        }
        match self.stream.next() {
            Next::Data(data) => {
                // No frame is as long as four gigabytes.
                self.wire.release_of(&self.stream, data.len() as u32);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Next::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Next::End => Poll::Ready(None),
            Next::Wait if self.stream.is_over() => Poll::Ready(Some(Err(Broken::Gone))),
            Next::Wait => Poll::Pending,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.wire.release(self.stream.leave_unread());
    }
}
