//! What the process can be told: QUIT ends gracefully, TERM and INT end soon, HUP and USR1 open
//! the logs again. The same signals as nginx takes.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// One signal's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Open the logs again.
    Reopen,
    /// End soon.
    Stop,
    /// End when everything in flight has.
    Quit,
}

/// The signals that are listened to.
pub(super) struct Signals {
    hangup: Stream,
    user1: Stream,
    terminate: Stream,
    interrupt: Stream,
    quit: Stream,
}

// === impl Signals ===

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reopen,
            _ = self.user1.recv() => Signal::Reopen,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.quit.recv() => Signal::Quit,
        }
    }

    /// Waits for one that ends the process soon.
    pub(super) async fn next_stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
