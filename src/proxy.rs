//! The request road: from an accepted connection to the last byte of the response.
//!
//! A worker is one thread. It accepts ([`listener`], [`quic`]), shakes hands ([`connection`]), speaks
//! HTTP with the client ([`h1`], [`h2`], [`h3`]) for as long as it says something ([`dormant`]),
//! checks what was asked ([`request`], [`host`], [`path`]), runs the
//! phases ([`pipeline`]), which may need the body before it is sent on ([`ahead`]), asks a node
//! ([`forward`], [`head`]) and streams the answer back ([`body`], [`upgrade`]). Only
//! [`respond`] knows which status a failure is. Nothing here touches the store, a secret or JSON
//! config: a request sees the snapshot that was current when it came.

pub mod listener;
mod quic;
mod connection;
mod buffers;
mod h1;
mod h2;
mod h3;
mod streams;
mod roster;
mod patience;
mod dormant;
mod request;
mod host;
mod path;
mod forwarded;
mod overlays;
mod pipeline;
mod exchange;
pub mod explain;
mod ahead;
mod forward;
mod head;
mod trailers;
mod body;
mod filtered;
mod upgrade;
mod respond;

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::Cache;
use http::HeaderValue;

pub use self::forwarded::{RealIp, Trust};
pub use self::path::PathRules;
pub use self::roster::Roster;
use crate::context::{Consumers, Ctx, Labels, Limits};
use crate::expr::{Escape, Template, Wants};
use crate::log::access;
use crate::metrics;
use crate::snapshot::{Published, Snapshot};
use crate::upstream::pool::Pool;
use crate::upstream::{Endpoint, Failure, Upstream};

/// What is the same for every request of every worker.
pub struct Settings {
    /// The value of `Server`.
    pub server: HeaderValue,
    /// Largest request body, in bytes; 0 is no limit.
    pub max_body_bytes: u64,
    /// How long a client may take from one request's end to the next one's head; zero closes.
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to its first request.
    pub header_timeout: Duration,
    /// The longest pause in a request's body.
    pub body_timeout: Duration,
    /// The longest pause of a client that does not read its response.
    pub send_timeout: Duration,
    /// Whether header names with an underscore are passed on.
    pub underscores: bool,
    /// How large a request body may be for its variables to have values.
    pub payload: Limits,
    pub real_ip: RealIp,
    pub trust: Trust,
    pub paths: PathRules,
    /// Whether `X-APISIX-Upstream-Status` is told always, not only for 5xx.
    pub show_upstream_status: bool,
    /// A line of the access log.
    pub access_line: Option<AccessLine>,
}

/// How an exchange is written down.
pub struct AccessLine {
    template: Template,
    escape: Escape,
    wants: Wants,
}

/// One worker: what its connections share. Bound to its thread.
pub struct Worker {
    settings: Arc<Settings>,
    current: RefCell<Current>,
    pool: Pool,
    buffers: buffers::Buffers,
    /// The value of `Date`, to the second.
    date: RefCell<HeaderValue>,
    metrics: Rc<metrics::Worker>,
    access_log: Option<access::Writer>,
    roster: Rc<Roster>,
    dormant: dormant::Dormant,
    /// What exchanges that match no route are told by.
    unmatched: Labels,
    warned: Cell<Option<Instant>>,
    /// Warnings since the last one that was written.
    unwritten: Cell<u32>,
}

struct Current {
    published: Cache<Published, Arc<Snapshot>>,
    held: Rc<Held>,
}

/// A snapshot as a worker's requests hold it: by a count that only this thread touches.
struct Held {
    snapshot: Arc<Snapshot>,
    consumers: Rc<Consumers>,
    overlays: overlays::Overlays,
}

// === impl AccessLine ===

impl AccessLine {
    pub fn new(format: &str, escape: Escape) -> Self {
        Self { template: Template::of_log(format), escape, wants: Wants::of_text(format) }
    }

    fn write(&self, ctx: &Ctx, out: &mut String) {
        self.template.render_line(ctx, self.escape, out);
    }
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: HeaderValue::from_static("Sluice"),
            max_body_bytes: 0,
            keepalive_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(10),
            underscores: true,
            payload: Limits::default(),
            real_ip: RealIp::default(),
            trust: Trust::default(),
            paths: PathRules::default(),
            show_upstream_status: false,
            access_line: None,
        }
    }
}

// === impl Worker ===

impl Worker {
    /// A worker; to be made on the thread that will run it.
    pub fn new(
        settings: Arc<Settings>,
        published: Published,
        metrics: metrics::Worker,
        access_log: Option<access::Writer>,
    ) -> Rc<Self> {
        let mut published = Cache::new(published);
        let held = Held::new(published.load().clone());
        Rc::new(Self {
            settings,
            current: RefCell::new(Current { published, held }),
            pool: Pool::default(),
            buffers: buffers::Buffers::default(),
            date: RefCell::new(date()),
            metrics: Rc::new(metrics),
            access_log,
            roster: Rc::default(),
            dormant: dormant::Dormant::default(),
            unmatched: Labels::default(),
            warned: Cell::new(None),
            unwritten: Cell::new(0),
        })
    }

    /// The newest snapshot. Costs one load of the published pointer when there is no newer one.
    fn snapshot(&self) -> Rc<Held> {
        let mut current = self.current.borrow_mut();
        let Current { published, held } = &mut *current;
        let newest = published.load();
        if !Arc::ptr_eq(newest, &held.snapshot) {
            *held = Held::new(newest.clone());
        }
        held.clone()
    }

    /// The worker's connections, but for the dormant ones.
    pub fn roster(&self) -> &Rc<Roster> {
        &self.roster
    }

    /// Lets every connection end after what it is at.
    pub fn drain(&self) {
        self.roster.drain();
        self.dormant.close();
    }

    /// What is to be done about once a second: close what is idle for too long, hand log lines on.
    pub fn tick(&self) {
        let now = Instant::now();
        // Refreshed here too, so that an idle worker does not hold an old snapshot for ever.
        drop(self.snapshot());
        self.date.replace(date());
        self.pool.sweep(now);
        self.roster.expire(now, &self.settings);
        self.dormant.expire(now, self.settings.keepalive_timeout);
        if let Some(log) = &self.access_log {
            log.flush();
        }
    }

    /// The value of `Date`.
    fn date(&self) -> Ref<'_, HeaderValue> {
        self.date.borrow()
    }

    /// Says that a node did not answer and another is asked.
    fn warn_of(&self, upstream: &Upstream, endpoint: &Endpoint, failure: &Failure) {
        if let Some(unwritten) = self.may_warn() {
            tracing::warn!(
                upstream = %upstream.source, node = %endpoint.addr, %failure, unwritten,
                "a node did not answer; asking the next"
            );
        }
    }

    /// Says that a request got no answer from any node.
    fn warn_unanswered(&self, ctx: &Ctx, failure: &Failure) {
        if let Some(unwritten) = self.may_warn() {
            let node = ctx.attempts.last().map(|attempt| attempt.addr);
            tracing::warn!(
                route = %ctx.route.id, ?node, tries = ctx.attempts.len(), %failure, unwritten,
                "no node answered"
            );
        }
    }

    /// Whether a warning about requests may be written now: one a second, so that a dead node
    /// does not bury the log. Gives how many were not since the last one.
    fn may_warn(&self) -> Option<u32> {
        let now = Instant::now();
        let recent = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
        if self.warned.get().is_some_and(recent) {
            self.unwritten.set(self.unwritten.get().saturating_add(1));
            return None;
        }
        self.warned.set(Some(now));
        Some(self.unwritten.take())
    }
}

/// The time as HTTP writes it (RFC 9110, section 5.6.7).
fn date() -> HeaderValue {
    let text = httpdate::fmt_http_date(SystemTime::now());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

// === impl Held ===

impl Held {
    fn new(snapshot: Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Self {
            consumers: Rc::new(snapshot.consumers.clone()),
            overlays: overlays::Overlays::default(),
            snapshot,
        })
    }
}
