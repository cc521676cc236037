//! The body of a response, on its way from the node to the client at the client's pace.
//!
//! It owns the exchange: when the last byte is taken, or the client goes away, the body is
//! dropped, and with it the exchange is logged.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::exchange::Exchange;
use super::filtered::Filtered;
use super::trailers::Trimmed;
use super::upgrade::Tunnel;
use crate::clock;
use crate::http1::framing::{Framing, Piece};
use crate::upstream::h1::{Connection, Sending};
use crate::upstream::{Failure, Keepalive};

/// The body of a response.
pub(super) struct Body {
    source: Source,
    /// `None` where a tunnel has taken it over.
    exchange: Option<Box<Exchange>>,
    /// Whether the connection ends with it.
    last: bool,
}

/// Where a body comes from.
pub(super) enum Source {
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
    Streaming(Box<Stream>),
    /// What plugins make of another.
    Filtered(Box<Filtered>),
    /// None: what follows the head is no HTTP any more.
    Tunnel(Box<Tunnel>),
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    #[error(transparent)]
    Node(#[from] Failure),
    #[error("a plugin that was to look at it failed")]
    Filter,
}

/// A body that comes from a node.
pub(super) struct Stream {
    from: Streaming,
    /// When the node last brought something.
    progress: Instant,
}

/// The connection that a body comes from.
pub(super) struct Streaming {
    pub(super) connection: Option<Box<Connection>>,
    pub(super) framing: Framing,
    /// The rest of the request's body, where the node answers before it has all of it.
    pub(super) sending: Sending,
    pub(super) read_timeout: Duration,
    /// Set when the connection may be used again.
    pub(super) keepalive: Option<Keepalive>,
}

/// A body that the gateway wrote itself.
pub(super) fn own(exchange: Box<Exchange>, bytes: Bytes) -> Body {
    let source = Source::Whole((!bytes.is_empty()).then_some(bytes));
    Body { source, exchange: Some(exchange), last: false }
}

/// A body that has come as a whole; its connection is kept already.
pub(super) fn whole(mut exchange: Box<Exchange>, mut from: Streaming, bytes: Bytes) -> Body {
    from.finish(&mut exchange);
    own(exchange, bytes)
}

/// A body that is still to come.
pub(super) fn stream(exchange: Box<Exchange>, from: Streaming) -> Body {
    let stream = Stream { from, progress: clock::now() };
    Body { source: Source::Streaming(Box::new(stream)), exchange: Some(exchange), last: false }
}

// === impl Streaming ===

impl Streaming {
    /// The body is over: the connection goes back to the pool, if it can.
    fn finish(&mut self, exchange: &mut Exchange) {
        let now = clock::now();
        if let Some(connection) = self.connection.take()
            && let Some(keepalive) = &self.keepalive
            && connection.has_sent(&self.sending)
        {
            exchange.worker.pool.put(connection, keepalive, now);
        }
        self.framing = Framing::None;
        if let Some(attempt) = exchange.ctx.attempts.last_mut() {
            attempt.response = Some(now.saturating_duration_since(attempt.began));
        }
    }
}

// === impl Body ===

impl Body {
    /// What follows a 101.
    pub(super) fn tunnel(tunnel: Tunnel) -> Self {
        Self { source: Source::Tunnel(Box::new(tunnel)), exchange: None, last: false }
    }

    /// What the plugins that filter bodies make of it.
    pub(super) fn filtered(mut self) -> Self {
        self.source = Source::Filtered(Box::new(Filtered::new(self.source)));
        self
    }

    /// Has the connection end with this response: what follows is not to be trusted.
    pub(super) fn make_last(&mut self) {
        self.last = true;
    }

    /// Whether the connection ends with it.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// The tunnel, where it is one.
    pub(super) fn into_tunnel(self) -> Option<Box<Tunnel>> {
        match self.source {
            Source::Tunnel(tunnel) => Some(tunnel),
            Source::Whole(_) | Source::Streaming(_) | Source::Filtered(_) => None,
        }
    }

    /// Whether all of it is there, so that nothing of the request is waited for any more.
    pub(super) fn is_whole(&self) -> bool {
        match &self.source {
            Source::Filtered(filtered) => matches!(filtered.source, Source::Whole(_)),
            source => matches!(source, Source::Whole(_)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let this = self.get_mut();
        let Some(exchange) = &mut this.exchange else {
            return Poll::Ready(None);
        };
        let polled = this.source.poll(exchange, cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            exchange.ctx.body_bytes_sent += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Streaming(stream) => match stream.from.framing {
                Framing::None => SizeHint::with_exact(0),
                Framing::Length(left) => SizeHint::with_exact(left),
                Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
            },
            Source::Filtered(_) => SizeHint::default(),
            Source::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

// === impl Source ===

impl Source {
    /// The next piece.
    pub(super) fn poll(
        &mut self,
        exchange: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(stream) => stream.poll(exchange, cx),
            Self::Filtered(filtered) => filtered.poll(exchange, cx),
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    /// Whether nothing follows, as far as is known without asking for it.
    pub(super) fn is_ended(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streaming(stream) => {
                matches!(stream.from.framing, Framing::None | Framing::Length(0))
            }
            Self::Filtered(filtered) => filtered.is_ended(),
            Self::Tunnel(_) => true,
        }
    }
}

// === impl Stream ===

impl Stream {
    fn poll(
        &mut self,
        exchange: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let from = &mut self.from;
        let Some(connection) = &mut from.connection else {
            return Poll::Ready(None);
        };
        // What the client still sends goes on its way.
        match connection.poll_send(&mut from.sending, &mut Trimmed::of(exchange), cx) {
            Ok(true) => self.progress = clock::now(),
            Ok(false) => {}
            Err(failure) => {
                // The node must not take a part for the whole: its connection ends here.
                from.connection = None;
                return Poll::Ready(Some(Err(failure.into())));
            }
        }
        let deadline = self.progress + from.read_timeout;
        match connection.poll_body(&mut from.framing, deadline, from.read_timeout, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                from.finish(exchange);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(piece))) => {
                self.progress = clock::now();
                let frame = match piece {
                    Piece::Data(data) => Frame::data(data),
                    Piece::Trailers(trailers) => Frame::trailers(trailers),
                };
                if matches!(from.framing, Framing::None | Framing::Length(0)) {
                    from.finish(exchange);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(failure))) => {
                from.connection = None;
                tracing::debug!(route = %exchange.ctx.route.id, %failure, "a response broke off");
                Poll::Ready(Some(Err(failure.into())))
            }
        }
    }
}
