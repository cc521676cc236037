//! The task of one stream: runs the pipeline and writes what comes of it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use http_body::Body as _;

use super::stream::Stream;
use super::wire::Wire;
use crate::http1::response::is_without_body;
use crate::http2::Code;
use crate::proxy::body::Body;
use crate::proxy::patience::Patience;

/// Where a response goes.
pub(super) struct Answering {
    pub(super) wire: Rc<Wire>,
    pub(super) stream: Rc<Stream>,
    pub(super) is_head: bool,
}

// === impl Answering ===

impl Answering {
    /// Writes the response that comes of `running`; lets go of everything when the stream is over
    /// before that.
    pub(super) async fn run(self, running: impl Future<Output = Response<Body>>) {
        let mut answering = pin!(async {
            let response = running.await;
            self.stream.answered();
            self.respond(response).await;
        });
        poll_fn(|cx| {
            self.stream.woken_by(cx.waker());
            if self.stream.is_over() { Poll::Ready(()) } else { answering.as_mut().poll(cx) }
        })
        .await;
    }

    async fn respond(&self, response: Response<Body>) {
        let (parts, mut body) = response.into_parts();
        let length = body.size_hint().exact();
        let has_body = !self.is_head && !is_without_body(parts.status) && length != Some(0);
        // What a HEAD would have brought is told by the node, or not at all.
        let told = length.filter(|length| !self.is_head || *length > 0);
        self.wire.write_head(&self.stream, &parts, told, !has_body);
        drop(parts);
        if has_body && let Err(code) = self.send(&mut body).await {
            self.wire.reset(&self.stream, code);
            return;
        }
        // Logged, and its node let go, before the client has all of it.
        drop(body);
        self.wire.finish(&self.stream);
    }

    /// Writes the body, and with it the stream's end.
    ///
    /// # Errors
    /// The code to reset the stream with: the body breaks off, or the client does not take it.
    async fn send(&self, body: &mut Body) -> Result<(), Code> {
        let mut patience = self.wire.patience();
        loop {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
                return self.data(Bytes::new(), true, &mut patience).await;
            };
            match frame.map_err(|_| Code::INTERNAL_ERROR)?.into_data() {
                Ok(data) => {
                    let ends = body.is_end_stream();
                    self.data(data, ends, &mut patience).await?;
                    if ends {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.wire.write_trailers(&self.stream, &trailers);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Writes data at the client's pace.
    ///
    /// # Errors
    /// The code to reset the stream with: nothing of it was taken for too long, whatever else the
    /// client does on the connection meanwhile. Where it takes nothing at all, the connection ends.
    async fn data(&self, mut data: Bytes, ends: bool, patience: &mut Patience) -> Result<(), Code> {
        let mut seen = None;
        poll_fn(|cx| {
            if self.wire.poll_write_data(&self.stream, &mut data, ends).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // Progress is looked at only when the patience ends, so that it costs no timer.
            while seen.is_none() || patience.poll_end(cx).is_ready() {
                let moved = self.progress(&data);
                if seen.replace(moved) == Some(moved) && !self.wire.slot.is_stuck() {
                    return Poll::Ready(Err(Code::CANCEL));
                }
                patience.renew();
            }
            Poll::Pending
        })
        .await
    }

    /// Changes with what the client takes of the stream; or, while that waits only for others, of any.
    fn progress(&self, left: &Bytes) -> (usize, Option<u64>) {
        let is_shut = self.stream.window.get().bytes() == 0;
        (left.len(), (!is_shut).then(|| self.wire.sent()))
    }
}
