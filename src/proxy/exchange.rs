//! One exchange on its way: what the phases run over, and the log that runs on every exit.

use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use super::connection::Downstream;
use super::h1::Wire;
use super::{Held, Worker, respond};
use crate::context::{Ctx, Reply};
use crate::plugin::Phase;
use crate::plugin::chain::{Overlay, Step};
use crate::snapshot::Route;

/// An exchange and everything that it holds on to. Dropping it writes the log: whatever way it
/// ends, it is logged once.
pub(super) struct Exchange {
    pub(super) ctx: Ctx,
    pub(super) body: RequestBody,
    /// Set when the request is to be refused before anything else.
    pub(super) refused: Option<StatusCode>,
    pub(super) held: Rc<Held>,
    pub(super) route: Option<Arc<Route>>,
    /// The route's chain with the consumer's plugins laid over it, where the consumer has some.
    overlaid: Option<Rc<Overlay>>,
    pub(super) worker: Rc<Worker>,
    pub(super) downstream: Rc<Downstream>,
}

/// Where a request's body comes from.
pub(super) enum Incoming {
    None,
    H1(Rc<Wire>),
    H2(hyper::body::Incoming),
}

/// The body of a request: bounded in size and in pauses.
pub(super) struct RequestBody {
    inner: Incoming,
    /// 0 is no limit.
    max_bytes: u64,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    received: u64,
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

    /// Runs `phase` of the global rules.
    pub(super) async fn run_globals(&mut self, phase: Phase) -> Option<Box<Reply>> {
        let overlaid = self.overlaid.as_ref().map(|overlay| &overlay.chain);
        let route = overlaid.or(self.route.as_ref().map(|route| &route.chain));
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
        let chain = overlaid.or(route.as_ref().map(|route| &route.chain))?;
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
        let chain = &self.route.as_ref()?.chain;
        let overlay = self.held.overlays.get(chain, &consumer.name, own);
        self.overlaid = Some(overlay.clone());
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

    /// Tells every plugin of `phase`, one that may not answer: of the global rules, then of the
    /// route and the consumer.
    fn tell(&mut self, phase: Phase, tell: impl Fn(&Step, &mut Ctx)) {
        let Self { ctx, held, route, overlaid, .. } = self;
        let overlaid = overlaid.as_ref().map(|overlay| &overlay.chain);
        let own = overlaid.or(route.as_ref().map(|route| &route.chain));
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
            Self::H2(body) => {
                Pin::new(body).poll_frame(cx).map(|next| Some(next?.map_err(|_| Broken::Gone)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::H1(wire) => wire.is_read(),
            Self::H2(body) => body.is_end_stream(),
        }
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// Whether nothing has been taken from it, so that it can be sent as if for the first time.
    pub(super) fn is_untouched(&self) -> bool {
        self.received == 0 && self.broken.is_none()
    }

    /// Whether a body of `length` bytes is within the limit.
    pub(super) fn admits(&self, length: u64) -> bool {
        self.max_bytes == 0 || length <= self.max_bytes
    }

    /// Why it broke off, if it did.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken
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
        // For ever: what comes after a break must not pass for the body's end.
        if let Some(why) = this.broken {
            return Poll::Ready(Some(Err(why)));
        }
        match this.inner.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.timer = None;
                if let Some(data) = frame.data_ref() {
                    this.received += data.len() as u64;
                    if !this.admits(this.received) {
                        return this.fail(Broken::TooLarge);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(why))) => this.fail(why),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let pause = this.pause;
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
                ready!(timer.as_mut().poll(cx));
                this.fail(Broken::TooSlow)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
