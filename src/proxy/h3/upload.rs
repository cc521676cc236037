//! The body of a request over HTTP/3: as it comes, no faster than it is asked for.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::h3::error::{Code, StreamError};
use ::h3::server::RequestStream;
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, header};
use http_body::Frame;
use tokio::sync::oneshot;

use super::transport::{Fate, Receive};
use crate::http1::request::is_continue;
use crate::proxy::exchange::{Broken, Incoming};
use crate::proxy::request;

/// The body of a request.
pub(in crate::proxy) struct Upload {
    stream: RequestStream<Receive, Bytes>,
    fate: Rc<Fate>,
    /// What came with the head.
    first: Option<Bytes>,
    phase: Phase,
    /// What `Content-Length` says that is still to come.
    left: Option<u64>,
    /// Told when the body is first asked for, where the client waits for that.
    awaited: Option<oneshot::Sender<()>>,
}

/// Ready when a body is asked for that the client sends after a 100 only (RFC 9110, section
/// 10.1.1).
pub(super) type Awaited = oneshot::Receiver<()>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Over,
}

// === impl Upload ===

impl Upload {
    /// What follows a head: nothing, if that is known by now. A request without a body ends with
    /// its head, and its node is then not told of one. No 100 is owed for what has begun to come.
    pub(super) async fn open(
        stream: RequestStream<Receive, Bytes>,
        fate: Rc<Fate>,
        head: &HeaderMap,
    ) -> (Incoming, Option<Awaited>) {
        let left = request::content_length(head);
        let mut upload =
            Self { stream, fate, first: None, phase: Phase::Data, left, awaited: None };
        let first = poll_fn(|cx| Poll::Ready(upload.poll_frame(cx))).await;
        let mut awaited = None;
        match first {
            Poll::Ready(None) => return (Incoming::None, None),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => upload.first = Some(data),
                // Trailers without a body say nothing to anyone.
                Err(_) => return (Incoming::None, None),
            },
            // What broke stays broken.
            Poll::Ready(Some(Err(_))) => {}
            Poll::Pending if head.get(header::EXPECT).is_some_and(is_continue) => {
                let (ask, asked) = oneshot::channel();
                (upload.awaited, awaited) = (Some(ask), Some(asked));
            }
            Poll::Pending => {}
        }
        (Incoming::H3(Box::new(upload)), awaited)
    }

    /// Whether all of it has been handed out.
    pub(in crate::proxy) fn is_read(&self) -> bool {
        self.phase == Phase::Over && self.first.is_none()
    }

    /// The next piece.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(awaited) = self.awaited.take() {
            // Nobody listens any more once a final response is there.
            let _ = awaited.send(());
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.phase == Phase::Data {
            match ready!(self.stream.poll_recv_data(cx)) {
                Err(error) => return self.broken(&error),
                Ok(Some(mut data)) => {
                    let data = data.copy_to_bytes(data.remaining());
                    if let Some(left) = &mut self.left {
                        let Some(rest) = left.checked_sub(data.len() as u64) else {
                            return self.malformed();
                        };
                        *left = rest;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(None) => self.phase = Phase::Trailers,
            }
        }
        if self.phase == Phase::Trailers {
            let trailers = match ready!(self.stream.poll_recv_trailers(cx)) {
                Err(error) => return self.broken(&error),
                Ok(trailers) => trailers,
            };
            self.phase = Phase::Over;
            // RFC 9114, section 4.1.2.
            if self.left.is_some_and(|left| left > 0) {
                return self.malformed();
            }
            if let Some(trailers) = trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        if self.fate.has_failed() {
            return Poll::Ready(Some(Err(Broken::Malformed)));
        }
        Poll::Ready(None)
    }

    fn malformed(&mut self) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.fate.fail(Code::H3_MESSAGE_ERROR);
        self.phase = Phase::Over;
        Poll::Ready(Some(Err(Broken::Malformed)))
    }

    fn broken(&mut self, error: &StreamError) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if matches!(error, StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. }) {
            self.fate.fail(Code::H3_MESSAGE_ERROR);
        }
        self.phase = Phase::Over;
        let is_fault = self.fate.has_failed();
        self.fate.fail(Code::H3_REQUEST_CANCELLED);
        Poll::Ready(Some(Err(if is_fault { Broken::Malformed } else { Broken::Gone })))
    }
}
