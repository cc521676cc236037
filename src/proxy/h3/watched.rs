//! The body of a response, watched for whether the client takes it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::proxy::body::{Body, Unfinished};
use crate::proxy::roster::Slot;

/// The body of a response: notes when the client lets it wait.
pub(super) struct Watched {
    body: Body,
    slot: Rc<Slot>,
    /// Whether the client has yet to take what was handed out last.
    sending: bool,
}

// === impl Watched ===

impl Watched {
    pub(super) fn new(body: Body, slot: Rc<Slot>) -> Self {
        Self { body, slot, sending: false }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let sending = matches!(polled, Poll::Ready(Some(Ok(_))));
        if sending != this.sending {
            this.sending = sending;
            this.slot.sends(sending);
        }
        if sending {
            this.slot.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.sending {
            self.slot.sends(false);
        }
    }
}
