//! The connections of one worker: who is idle, who is stuck, and who must go when the node stops.
//!
//! Timeouts of connections are looked after once a second here instead of by a timer each: a busy
//! connection then costs a store of a time, not a timer's lock, on every request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Settings;
use crate::metrics;

/// How long a connection without a request may stay when the node stops: its request may be on
/// its way.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Every connection of a worker.
#[derive(Default)]
pub struct Roster {
    members: RefCell<HashMap<u64, Member>>,
    next: Cell<u64>,
    draining: Cell<bool>,
    emptied: Notify,
}

struct Member {
    slot: Rc<Slot>,
    waker: Waker,
}

/// One connection's place in the roster; gone when the connection drops its [`Membership`].
pub(super) struct Slot {
    doing: Cell<Doing>,
    since: Cell<Instant>,
    /// Exchanges under way.
    active: Cell<u32>,
    overdue: Cell<bool>,
    metrics: metrics::Connection,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The first request, or the TLS handshake.
    Opening,
    /// The next request.
    Idle,
    /// A node, a plugin, the request's body: each has a timeout of its own.
    Working,
    /// The client to take what was written.
    Sending,
}

/// A connection's entry in the roster.
pub(super) struct Membership {
    roster: Rc<Roster>,
    id: u64,
    pub(super) slot: Rc<Slot>,
}

// === impl Roster ===

impl Roster {
    /// Enters a connection; `waker` is its task's.
    pub(super) fn enter(self: &Rc<Self>, metrics: metrics::Connection, waker: Waker) -> Membership {
        let id = self.next.get();
        self.next.set(id + 1);
        let slot = Rc::new(Slot {
            doing: Cell::new(Doing::Opening),
            since: Cell::new(Instant::now()),
            active: Cell::new(0),
            overdue: Cell::new(false),
            metrics,
        });
        let member = Member { slot: slot.clone(), waker };
        self.members.borrow_mut().insert(id, member);
        Membership { roster: self.clone(), id, slot }
    }

    /// Whether connections are to end with the exchange that they are at.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Lets every connection end after what it is at.
    pub fn drain(&self) {
        self.draining.set(true);
        for member in self.members.borrow().values() {
            member.waker.wake_by_ref();
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.members.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    /// Waits until the last connection has gone.
    pub async fn emptied(&self) {
        while !self.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Marks the connections that have waited for too long, and wakes them so that they close.
    pub(super) fn expire(&self, now: Instant, settings: &Settings) {
        for member in self.members.borrow().values() {
            let slot = &member.slot;
            let limit = match slot.doing.get() {
                Doing::Opening if self.draining.get() => LAST_CHANCE,
                Doing::Opening => settings.header_timeout,
                Doing::Idle => settings.keepalive_timeout,
                Doing::Sending => settings.send_timeout,
                Doing::Working => continue,
            };
            if limit > Duration::ZERO && now.duration_since(slot.since.get()) > limit {
                slot.overdue.set(true);
                member.waker.wake_by_ref();
            }
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Whether the connection is to be closed for having waited too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// An exchange begins.
    pub(super) fn begin(&self) {
        self.active.set(self.active.get() + 1);
        self.doing.set(Doing::Working);
        self.metrics.writing();
    }

    /// An exchange is over.
    pub(super) fn end(&self, now: Instant) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if active == 0 {
            self.note(Doing::Idle, now);
            self.metrics.waiting();
        }
    }

    /// The connection waits for something else now.
    pub(super) fn note(&self, doing: Doing, now: Instant) {
        self.doing.set(doing);
        self.since.set(now);
    }

    /// The connection is Working, whatever it was; costs no look at the clock.
    pub(super) fn works(&self) {
        self.doing.set(Doing::Working);
    }

    /// Whether no more than one exchange is under way.
    pub(super) fn is_alone(&self) -> bool {
        self.active.get() <= 1
    }
}

// === impl Membership ===

impl Drop for Membership {
    fn drop(&mut self) {
        let empty = {
            let mut members = self.roster.members.borrow_mut();
            members.remove(&self.id);
            members.is_empty()
        };
        if empty {
            self.roster.emptied.notify_waiters();
        }
    }
}
