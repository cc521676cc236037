//! The trailers of a request: what of them a node is told.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};

use super::exchange::{Broken, Exchange, RequestBody};
use crate::http1::fields;

/// A request's body without the trailers that could be taken for more than that: whoever joins
/// them to the head would believe them.
pub(super) struct Trimmed<'a> {
    body: &'a mut RequestBody,
    /// What the head says, as plugins have left it, which no trailer may say otherwise.
    head: &'a HeaderMap,
}

// === impl Trimmed ===

impl<'a> Trimmed<'a> {
    pub(super) fn of(exchange: &'a mut Exchange) -> Self {
        Self { body: &mut exchange.body, head: &exchange.ctx.request.headers }
    }

    fn keep(&self, trailers: HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in trailers.keys() {
            if may_go_on(name) && !self.head.contains_key(name) {
                for value in trailers.get_all(name) {
                    kept.append(name, value.clone());
                }
            }
        }
        kept
    }
}

impl Body for Trimmed<'_> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else {
            return polled;
        };
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(this.keep(trailers)),
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a trailer is not what the gateway alone tells nodes: who the client is.
fn may_go_on(name: &HeaderName) -> bool {
    let plain = name.as_str().replace('_', "-");
    let is_told = |name: &str| {
        matches!(name, "x-real-ip" | "x-credential-identifier")
            || ["x-forwarded-", "x-consumer-"].iter().any(|start| name.starts_with(start))
    };
    fields::may_trail(name) && !is_told(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_not_taken_for_what_the_gateway_says() {
        for name in ["x-sum", "grpc-status", "server-timing", "x-api-engine"] {
            assert!(may_go_on(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["x-real-ip", "x_real_ip", "x-consumer-username", "x_forwarded_for", "host"] {
            assert!(!may_go_on(&HeaderName::from_static(name)), "{name}");
        }
    }
}
