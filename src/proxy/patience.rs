//! How long a stream of HTTP/2 or HTTP/3 waits for its client. The roster looks after a socket that
//! takes nothing, which is all that there is to wait for over HTTP/1.1.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::clock;

/// The time that a client may take nothing of a stream (nginx's `send_timeout`).
///
/// Its timer is made for a stream that has to wait, and kept for when it has to again.
pub(super) struct Patience {
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl Patience ===

impl Patience {
    /// One that ends `timeout` after it was last renewed; with zero, never.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, timer: None }
    }

    /// Counts from now on.
    pub(super) fn renew(&mut self) {
        if self.timeout.is_zero() {
            return;
        }
        let end = (clock::now() + self.timeout).into();
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(end),
            None => self.timer = Some(Box::pin(sleep_until(end))),
        }
    }

    /// Whether it has ended since it was last renewed.
    pub(super) fn is_over(&self) -> bool {
        self.timer.as_ref().is_some_and(|timer| timer.is_elapsed())
    }

    /// Waits for its end. Never ready before it was renewed once.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}
