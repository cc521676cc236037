//! What connections of many requests have in common, HTTP/2's and HTTP/3's: how many of its requests
//! a client takes back, and whether it takes the responses.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::body::{Body, Unfinished};
use super::roster::Slot;

/// Requests that one connection may have under way (nginx's default).
pub(super) const STREAMS: u32 = 128;

/// Windows: large enough that one stream fills a link, small enough that many fit.
pub(super) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long a client that was told to go may take to do so.
pub(super) const PARTING: Duration = Duration::from_secs(2);

/// A client may take back so many of its requests before they are answered, and then as many as it
/// lets be answered; one that takes back more makes work and has no use for it (CVE-2023-44487).
const TAKEN_BACK: u32 = 128;

/// What has become of a connection's requests.
#[derive(Default)]
pub(super) struct Tally {
    answered: Cell<u32>,
    taken_back: Cell<u32>,
}

/// A request that is yet to be answered.
pub(super) struct Asked {
    tally: Rc<Tally>,
    is_answered: bool,
}

/// The body of a response: notes when the client lets it wait.
pub(super) struct Watched {
    body: Body,
    slot: Rc<Slot>,
    /// Whether the client has yet to take what was handed out last.
    sending: bool,
}

// === impl Tally ===

impl Tally {
    /// A request has come.
    pub(super) fn asked(self: &Rc<Self>) -> Asked {
        Asked { tally: self.clone(), is_answered: false }
    }

    /// Whether the client took back more than it may.
    pub(super) fn is_too_much(&self) -> bool {
        self.taken_back.get() > TAKEN_BACK.saturating_add(self.answered.get())
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let count = if self.is_answered { &self.tally.answered } else { &self.tally.taken_back };
        count.set(count.get().saturating_add(1));
    }
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
