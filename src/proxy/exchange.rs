//! One exchange on its way: what the phases run over, and the log that runs on every exit.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::time::Sleep;
use yoke::Yoke;

use super::ahead::Ahead;
use super::connection::Downstream;
use super::h1::Wire;
use super::{Held, Worker, h2, h3, request, respond};
use crate::context::{Chunk, Ctx, Reply, admits};
use crate::expr::{Need, Wants};
use crate::plugin::Phase;
use crate::plugin::chain::{Chain, Overlay, Step};
use crate::snapshot::Route;

/// An exchange and everything that it holds on to. Dropping it writes the log: whatever way it
/// ends, it is logged once.
pub(super) struct Exchange {
    pub(super) ctx: Ctx,
    pub(super) body: RequestBody,
    /// Set when the request is to be refused before anything else.
    pub(super) refused: Option<StatusCode>,
    pub(super) held: Rc<Held>,
    /// In the keeping of `held`: a count of its own would be a write to memory that all workers
    /// share.
    pub(super) route: Option<Yoke<&'static Route, Rc<Held>>>,
    /// The route's chain with the consumer's plugins laid over it, where the consumer has some.
    overlaid: Option<Rc<Overlay>>,
    pub(super) worker: Rc<Worker>,
    pub(super) downstream: Rc<Downstream>,
}

/// Where a request's body comes from.
pub(super) enum Incoming {
    None,
    H1(Rc<Wire>),
    H2(h2::Upload),
    H3(Box<h3::Upload>),
}

/// The body of a request: bounded in size and in pauses.
pub(super) struct RequestBody {
    inner: Incoming,
    /// 0 is no limit.
    max_bytes: u64,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    received: u64,
    /// What was read before it was to be sent on, and has not been taken.
    ahead: Option<Box<Ahead>>,
    /// Whether anything has been taken.
    taken: bool,
    broken: Option<Broken>,
}

/// Why a request's body did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the request's body is larger than the limit")]
    TooLarge,
    #[error("nothing came of the request's body for too long")]
    TooSlow,
    #[error("the client broke the request off")]
    Gone,
    #[error("the request's body is not framed as it has to be")]
    Malformed,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(
        ctx: Ctx,
        body: Incoming,
        refused: Option<StatusCode>,
        held: Rc<Held>,
        worker: Rc<Worker>,
        downstream: Rc<Downstream>,
    ) -> Box<Self> {
        let settings = &worker.settings;
        Box::new(Self {
            body: RequestBody {
                inner: body,
                max_bytes: settings.max_body_bytes,
                pause: settings.body_timeout,
                timer: None,
                received: 0,
                ahead: None,
                taken: false,
                broken: None,
            },
            ctx,
            refused,
            held,
            route: None,
            overlaid: None,
            worker,
            downstream,
        })
    }

    /// What the plugins that run for it, and the access log, ask for.
    pub(super) fn wants(&self) -> Wants {
        let overlaid = self.overlaid.as_ref().map(|overlay| &overlay.chain);
        let chain = overlaid.or(self.route.as_ref().map(|route| &route.get().chain));
        let line = &self.worker.settings.access_line;
        let line = line.as_ref().map(|line| line.wants).unwrap_or_default();
        let route = chain.map(Chain::wants).unwrap_or_default();
        self.held.snapshot.globals.wants().and(route).and(line)
    }

    /// Reads the request's body as far as `need` has it and the limits let. `Some` when the client
    /// does not bring it to its end.
    pub(super) async fn read_body(&mut self, need: Need) -> Option<Box<Reply>> {
        if self.ctx.payload.serves(need) {
            return None;
        }
        // Boxed apart: most exchanges pass their body on as it comes.
        Box::pin(self.read_ahead(need)).await
    }

    async fn read_ahead(&mut self, need: Need) -> Option<Box<Reply>> {
        let limits = self.worker.settings.payload;
        let limit = limits.of(need);
        let length = request::content_length(&self.ctx.request.headers);
        let is_too_large = length.is_some_and(|length| !limits.admits(need, length));
        let read = if is_too_large { Ok(None) } else { self.body.read_ahead(limit).await };
        match read {
            Ok(bytes) => {
                self.ctx.payload.fill(need, limits, bytes);
                None
            }
            Err(broken) => Some(Box::new(Reply::status(respond::status_of_broken(broken)))),
        }
    }

    /// Runs `phase` of the global rules.
    pub(super) async fn run_globals(&mut self, phase: Phase) -> Option<Box<Reply>> {
        let overlaid = self.overlaid.as_ref().map(|overlay| &overlay.chain);
        let route = overlaid.or(self.route.as_ref().map(|route| &route.get().chain));
        for step in self.held.snapshot.globals.phase(phase) {
            if step.yields_to(route) {
                continue;
            }
            if let Some(reply) = step.run(phase, &mut self.ctx).await {
                return Some(reply);
            }
        }
        None
    }

    /// Runs `phase` of the route, and of the consumer where there is one.
    pub(super) async fn run_route(&mut self, phase: Phase) -> Option<Box<Reply>> {
        let Self { ctx, route, overlaid, .. } = self;
        let overlaid = overlaid.as_ref().map(|overlay| &overlay.chain);
        let chain = overlaid.or(route.as_ref().map(|route| &route.get().chain))?;
        for step in chain.phase(phase) {
            if let Some(reply) = step.run(phase, ctx).await {
                return Some(reply);
            }
        }
        None
    }

    /// Lays the plugins of the consumer that authenticated over those of the route, and runs the
    /// rewrite phase of what came with the consumer.
    pub(super) async fn overlay_consumer(&mut self) -> Option<Box<Reply>> {
        let consumer = self.ctx.consumer.as_ref()?;
        let own = self.held.snapshot.consumer_chains.get(&consumer.name)?;
        let chain = &self.route.as_ref()?.get().chain;
        let overlay = self.held.overlays.get(chain, &consumer.name, own);
        self.overlaid = Some(overlay.clone());
        if let Some(need) = overlay.chain.wants().body
            && let Some(reply) = self.read_body(need).await
        {
            return Some(reply);
        }
        for step in &overlay.late {
            if let Some(reply) = step.run(Phase::Rewrite, &mut self.ctx).await {
                return Some(reply);
            }
        }
        None
    }

    /// Lets the plugins look at the response head.
    pub(super) fn filter_head(&mut self) {
        self.tell(Phase::HeaderFilter, Step::header_filter);
    }

    /// Lets the plugins look at a piece of the response's body. Whether it may go on its way.
    pub(super) fn filter_body(&mut self, chunk: &mut Chunk) -> bool {
        self.tell(Phase::BodyFilter, |step, ctx| step.body_filter(ctx, chunk));
        !self.ctx.response.withheld
    }

    /// Tells every plugin of `phase`, one that may not answer: of the global rules, then of the
    /// route and the consumer.
    fn tell(&mut self, phase: Phase, mut tell: impl FnMut(&Step, &mut Ctx)) {
        let Self { ctx, held, route, overlaid, .. } = self;
        let overlaid = overlaid.as_ref().map(|overlay| &overlay.chain);
        let own = overlaid.or(route.as_ref().map(|route| &route.get().chain));
        for step in held.snapshot.globals.phase(phase) {
            if !step.yields_to(own) {
                tell(step, ctx);
            }
        }
        if let Some(chain) = own {
            for step in chain.phase(phase) {
                tell(step, ctx);
            }
        }
    }

    fn log(&mut self) {
        self.ctx.bytes_received += self.body.received;
        if self.ctx.response.head_bytes == 0 {
            // The client went away before there was an answer; nginx's word for it.
            self.ctx.response.status = respond::client_closed();
            self.ctx.response.join();
        }
        self.tell(Phase::Log, |step, ctx| step.log(ctx));
        let Self { ctx, worker, .. } = self;
        if let (Some(log), Some(line)) = (&worker.access_log, &worker.settings.access_line) {
            log.line(|out| line.write(ctx, out));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.log();
        self.downstream.slot.end();
    }
}

// === impl Incoming ===

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::H1(wire) => wire.poll_frame(cx),
            Self::H2(upload) => upload.poll_frame(),
            Self::H3(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::H1(wire) => wire.is_read(),
            Self::H2(upload) => upload.is_read(),
            Self::H3(upload) => upload.is_read(),
        }
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// Whether nothing has been taken from it, so that it can be sent as if for the first time.
    pub(super) fn is_untouched(&self) -> bool {
        !self.taken && self.broken.is_none()
    }

    /// Reads the body; what is read is handed out later, before the rest of it. `None` where it is
    /// longer than `limit` bytes (0 is no limit): no more of it is read then.
    ///
    /// # Errors
    /// Why it did not come to its end.
    async fn read_ahead(&mut self, limit: u64) -> Result<Option<Bytes>, Broken> {
        let mut ahead = self.ahead.take().unwrap_or_default();
        while !ahead.ended && admits(limit, ahead.len() as u64) {
            match poll_fn(|cx| self.poll_inner(cx)).await {
                Some(frame) => ahead.push(frame?),
                None => ahead.ended = true,
            }
        }
        let whole = ahead.join();
        let is_within = ahead.ended && admits(limit, whole.len() as u64);
        if !ahead.is_empty() {
            self.ahead = Some(ahead);
        }
        Ok(is_within.then_some(whole))
    }

    /// Whether a body of `length` bytes is within the limit.
    pub(super) fn admits(&self, length: u64) -> bool {
        admits(self.max_bytes, length)
    }

    /// Why it broke off, if it did.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The next piece that the client brings.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // For ever: what comes after a break must not pass for the body's end.
        if let Some(why) = self.broken {
            return Poll::Ready(Some(Err(why)));
        }
        match self.inner.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                if let Some(data) = frame.data_ref() {
                    self.received += data.len() as u64;
                    if !self.admits(self.received) {
                        return self.fail(Broken::TooLarge);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(why))) => self.fail(why),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let pause = self.pause;
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
                ready!(timer.as_mut().poll(cx));
                self.fail(Broken::TooSlow)
            }
        }
    }

    fn fail(&mut self, why: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.broken = Some(why);
        Poll::Ready(Some(Err(why)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some(ahead) = &mut this.ahead {
            let frame = ahead.take();
            if ahead.is_empty() {
                this.ahead = None;
            }
            this.taken = true;
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = this.poll_inner(cx);
        this.taken |= matches!(polled, Poll::Ready(Some(_)));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.inner.is_end_stream()
    }
}
