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

/// How long a connection has to be idle before it is let go dormant, and how many of them are in one
/// second: each takes a few microseconds, which requests wait for.
const DORMANT_AFTER: Duration = Duration::from_secs(5);
const DORMANT_AT_ONCE: usize = 1000;

/// Fewer connections than this take no memory worth giving back.
const FEW: usize = 64;

/// Every connection of a worker that has a task.
#[derive(Default)]
pub struct Roster {
    members: RefCell<HashMap<u64, Member>>,
    next: Cell<u64>,
    /// The most that there were since [`Roster::has_emptied`] last said so.
    most: Cell<usize>,
    draining: Cell<bool>,
    emptied: Notify,
}

struct Member {
    slot: Rc<Slot>,
    waker: Waker,
}

/// One connection's place in the roster; gone when the connection drops its [`Membership`].
pub(super) struct Slot {
    phase: Cell<Phase>,
    /// Exchanges under way.
    active: Cell<u32>,
    /// Whether there is something to write that the socket does not take. Of QUIC, where connections
    /// share one, each stream looks after that by itself.
    stuck: Cell<bool>,
    /// When the client last took something, or its last exchange ended, or it came; to the second.
    since: Cell<Instant>,
    /// Whether that was since the roster last looked: a flag costs less than a look at the clock.
    moved: Cell<bool>,
    overdue: Cell<bool>,
    /// Whether the client has ended its side: the connection's task looks after that.
    half_closed: Cell<bool>,
    /// Whether the connection's task knows how to let it go dormant, and whether it is to do so.
    may_go_dormant: Cell<bool>,
    goes_dormant: Cell<bool>,
    metrics: metrics::Connection,
}

/// What a connection without an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its first request, or the handshake before it.
    Opening,
    /// The next request.
    Idle,
    /// The rest of a head that has begun to come.
    Head,
}

/// A connection's entry in the roster.
pub(super) struct Membership {
    roster: Rc<Roster>,
    id: u64,
}

/// While there is one, the connection is not idle.
pub(super) struct Finishing(Rc<Slot>);

// === impl Roster ===

impl Roster {
    /// Enters a connection; `waker` is its task's.
    pub(super) fn enter(self: &Rc<Self>, slot: Rc<Slot>, waker: Waker) -> Membership {
        let id = self.next.get();
        self.next.set(id + 1);
        let mut members = self.members.borrow_mut();
        members.insert(id, Member { slot, waker });
        self.most.set(self.most.get().max(members.len()));
        drop(members);
        Membership { roster: self.clone(), id }
    }

    /// Whether connections are to end with the exchange that they are at.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Lets every connection end after what it is at.
    pub(super) fn drain(&self) {
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

    /// Whether more than half of the connections have gone, or gone dormant, since this last said
    /// so: what they took is free memory.
    pub fn has_emptied(&self) -> bool {
        let (now, most) = (self.len(), self.most.get());
        let has_emptied = most > FEW && now < most / 2;
        if has_emptied {
            self.most.set(now);
        }
        has_emptied
    }

    /// Waits until the last connection has gone.
    pub async fn emptied(&self) {
        while !self.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Marks the connections that have waited for too long, and wakes them so that they close; and
    /// those whose client may be gone, so that they look; and those that are to go dormant.
    pub(super) fn expire(&self, now: Instant, settings: &Settings) {
        let mut members = self.members.borrow_mut();
        if members.len() < members.capacity() / 4 {
            members.shrink_to_fit();
        }
        let mut dormant = 0;
        for member in members.values() {
            let slot = &member.slot;
            if slot.half_closed.get() {
                member.waker.wake_by_ref();
            }
            if slot.moved.take() {
                slot.since.set(now);
                continue;
            }
            let limit = match (slot.active.get(), slot.phase.get()) {
                _ if slot.stuck.get() => settings.send_timeout,
                (0, Phase::Opening) if self.draining.get() => LAST_CHANCE,
                (0, Phase::Opening | Phase::Head) => settings.header_timeout,
                // The end of the last response may still be on its way to a slow client.
                (0, Phase::Idle) if settings.keepalive_timeout.is_zero() || self.draining.get() => {
                    settings.send_timeout
                }
                (0, Phase::Idle) => {
                    let is_due = slot.may_go_dormant.get() && slot.idle_for(now) >= DORMANT_AFTER;
                    if is_due && dormant < DORMANT_AT_ONCE {
                        dormant += 1;
                        slot.goes_dormant.set(true);
                        member.waker.wake_by_ref();
                    }
                    settings.keepalive_timeout
                }
                // A node, a plugin, the request's body, a stream's window: each has a timeout of its
                // own.
                (1.., _) => continue,
            };
            if limit > Duration::ZERO && slot.idle_for(now) > limit {
                slot.overdue.set(true);
                member.waker.wake_by_ref();
            }
        }
    }
}

// === impl Slot ===

impl Slot {
    /// A new connection's.
    pub(super) fn new(metrics: metrics::Connection) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Opening),
            active: Cell::new(0),
            stuck: Cell::new(false),
            since: Cell::new(Instant::now()),
            moved: Cell::new(false),
            overdue: Cell::new(false),
            half_closed: Cell::new(false),
            may_go_dormant: Cell::new(false),
            goes_dormant: Cell::new(false),
            metrics,
        })
    }

    /// For how long nothing has happened on the connection.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since.get())
    }

    /// Whether the socket does not take what there is to write; it has its time from when that
    /// becomes so.
    pub(super) fn set_stuck(&self, stuck: bool) {
        if stuck && !self.stuck.get() {
            self.moved();
        }
        self.stuck.set(stuck);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.get()
    }

    /// The connection's task asks [`Slot::goes_dormant`] from now on.
    pub(super) fn may_go_dormant(&self) {
        self.may_go_dormant.set(true);
    }

    /// Whether the connection is to go dormant where it has nothing to do; said once.
    pub(super) fn goes_dormant(&self) -> bool {
        self.goes_dormant.take()
    }

    /// The roster no longer looks at it: from now on it has been idle since it last moved, or since
    /// now where the roster has not noted that yet.
    pub(super) fn leaves(&self) {
        if self.moved.take() {
            self.since.set(Instant::now());
        }
    }

    /// Whether the connection is to be closed for having waited too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// Whether no request has come yet.
    pub(super) fn is_opening(&self) -> bool {
        self.phase.get() == Phase::Opening
    }

    /// A part of a head has come: the rest of it has a time of its own.
    pub(super) fn reads_head(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.moved();
        }
    }

    /// What has come so far is whole: there may have been no head in it.
    pub(super) fn has_read(&self) {
        if self.phase.get() == Phase::Head {
            self.phase.set(Phase::Idle);
        }
    }

    /// The client has ended its side: from now on the connection's task is woken once a second.
    pub(super) fn half_closes(&self) {
        self.half_closed.set(true);
    }

    /// An exchange begins.
    pub(super) fn begin(&self) {
        self.phase.set(Phase::Idle);
        self.active.set(self.active.get() + 1);
        // Said before the request came.
        self.goes_dormant.set(false);
        self.overdue.set(false);
        self.metrics.writing();
    }

    /// An exchange is about to be over, but for what the client has yet to take of it.
    pub(super) fn finishing(self: &Rc<Self>) -> Finishing {
        self.active.set(self.active.get() + 1);
        Finishing(self.clone())
    }

    /// An exchange is over.
    pub(super) fn end(&self) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if active == 0 {
            self.moved();
            self.metrics.waiting();
        }
    }

    /// The client took something.
    pub(super) fn moved(&self) {
        self.moved.set(true);
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.0.end();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_asked_something_has_to_be_idle_anew() {
        let slot = Slot::new(metrics::Worker::apart().handled());
        slot.goes_dormant.set(true);
        slot.overdue.set(true);
        slot.begin();
        assert!(!slot.goes_dormant(), "it was said before the request came");
        assert!(!slot.is_overdue(), "that too");
        let hour = Duration::from_secs(60 * 60);
        let now = Instant::now() + hour;
        slot.since.set(now - hour);
        slot.end();
        slot.leaves();
        assert!(slot.idle_for(now) <= hour, "from its answer on, which the roster has not seen");
        slot.since.set(now - hour);
        slot.leaves();
        assert_eq!(slot.idle_for(now), hour);
    }

    #[test]
    fn a_socket_that_takes_nothing_has_its_time_from_when_that_began() {
        let roster = Rc::<Roster>::default();
        let slot = Slot::new(metrics::Worker::apart().handled());
        let _member = roster.enter(slot.clone(), Waker::noop().clone());
        slot.begin();
        let settings = Settings { send_timeout: Duration::from_secs(2), ..Settings::default() };
        // The node has taken its time.
        let hour = Instant::now() + Duration::from_secs(60 * 60);
        let is_overdue_at = |seconds| {
            roster.expire(hour + Duration::from_secs(seconds), &settings);
            slot.is_overdue()
        };
        assert!(!is_overdue_at(0));
        slot.set_stuck(true);
        assert!(!is_overdue_at(1) && !is_overdue_at(3));
        assert!(is_overdue_at(4));
    }

    #[test]
    fn says_once_that_half_of_the_connections_have_gone() {
        let roster = Rc::<Roster>::default();
        let enter = || {
            let slot = Slot::new(metrics::Worker::apart().handled());
            roster.enter(slot, Waker::noop().clone())
        };
        let mut members: Vec<Membership> = (0..2 * FEW).map(|_| enter()).collect();
        members.truncate(FEW);
        assert!(!roster.has_emptied());
        members.truncate(FEW - 1);
        assert!(roster.has_emptied());
        assert!(!roster.has_emptied());
        drop(members);
        assert!(!roster.has_emptied(), "too few to be worth it");
    }
}
