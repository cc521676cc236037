//! What connections of many requests have in common, HTTP/2's and HTTP/3's: their bounds, and how many
//! of its requests a client takes back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

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
