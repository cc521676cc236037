//! The body of a response as the plugins that filter it leave it.
//!
//! Pieces are shown as they come, one at a time; the end is always shown, if need be by an empty
//! piece. Nothing is gathered here: a plugin that wants all of a body keeps it by itself.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::body::{Source, Unfinished};
use super::exchange::Exchange;
use crate::context::Chunk;

/// A body on its way through the filters. How long it will be is not known before its end.
pub(super) struct Filtered {
    pub(super) source: Source,
    /// They wait for the filters to have seen the end.
    trailers: Option<HeaderMap>,
    ended: bool,
}

// === impl Filtered ===

impl Filtered {
    pub(super) fn new(source: Source) -> Self {
        Self { source, trailers: None, ended: false }
    }

    /// The next piece that the filters leave.
    pub(super) fn poll(
        &mut self,
        exchange: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        while !self.ended {
            let Some(mut chunk) = ready!(self.poll_chunk(exchange, cx)?) else {
                continue;
            };
            if !exchange.filter_body(&mut chunk) {
                self.end();
                self.trailers = None;
                return Poll::Ready(Some(Err(Unfinished::Filter)));
            }
            if chunk.is_last {
                self.end();
            }
            if !chunk.data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(chunk.data))));
            }
            if !self.ended {
                // One that keeps pieces back does not keep others waiting for all of them.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Whether nothing follows, as far as is known without asking for it.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.trailers.is_none()
    }

    /// What comes next of the body; nothing where those were its trailers.
    fn poll_chunk(
        &mut self,
        exchange: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Unfinished>> {
        let Some(frame) = ready!(self.source.poll(exchange, cx)?) else {
            return Poll::Ready(Ok(Some(Chunk { data: Bytes::new(), is_last: true })));
        };
        Poll::Ready(Ok(match frame.into_data() {
            Ok(data) => Some(Chunk { data, is_last: self.source.is_ended() }),
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                None
            }
        }))
    }

    /// A filter may end a body before its end: what the node still has is not waited for.
    fn end(&mut self) {
        self.ended = true;
        self.source = Source::Whole(None);
    }
}
