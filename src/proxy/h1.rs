//! HTTP/1.1 with a client: heads in, responses out, one exchange after the other.
//!
//! Everything happens in the connection's own task. The bytes are on a [`Wire`] that the
//! exchange's request body shares, so that what the client sends is read when somebody asks for
//! it and at no other time. Between two requests a connection holds no buffer.
//!
//! Source: RFC 9112.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};

use super::body::Body;
use super::connection::{Downstream, End, close};
use super::dormant::Dormant;
use super::exchange::{Broken, Incoming};
use super::roster::Slot;
use super::upgrade::Tunnel;
use super::{Worker, pipeline};
use crate::clock;
use crate::http1::framing::{Framing, Next, Piece, READ_BYTES};
use crate::http1::output::Output;
use crate::http1::request::{self, Head, Refused};
use crate::http1::response::{self, Closing, Length};
use crate::tls::stream::Stream;

/// What is reserved for the rest of a head that did not come at once.
const REST_BYTES: usize = 4 * 1024;

/// So much is gathered of a response that comes in small pieces before it is written.
const GATHERED_BYTES: usize = 16 * 1024;

/// How long nothing is made of it that a client has ended its side of the connection: it may
/// have said all that it has to say, and still listen.
const HALF_CLOSED: Duration = Duration::from_secs(1);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The bytes of a connection, both ways.
pub(super) struct Wire {
    worker: Rc<Worker>,
    slot: Rc<Slot>,
    state: RefCell<State>,
}

struct State {
    stream: Stream,
    /// Read, but not yet taken.
    input: BytesMut,
    /// So much of it is known not to hold the end of a head.
    looked_at: usize,
    /// What is left of the body of the request under way.
    incoming: Framing,
    /// Whether the client waits for a 100 before it sends that body.
    owes_continue: bool,
    output: Output,
    /// Trailers of the response under way, for its end. Boxed: there are hardly ever any.
    trailers: Option<Box<HeaderMap>>,
    /// When the client was first seen to have ended its side of the connection.
    shut: Option<Instant>,
    /// Whether an interim response may be sent: the client knows what it is, and is not in the
    /// middle of another response.
    takes_interim: bool,
}

/// What of a request shapes the way that it is answered.
struct Asked {
    is_head: bool,
    version: Version,
    /// Whether the connection goes on, as far as the request and the node have it.
    stays: bool,
}

/// What comes of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "a head nearly always, and taken apart at once")]
enum Heard {
    Head(Head),
    Refused(Refused),
    /// Nothing, for so long that the connection goes dormant.
    Nothing,
    /// The connection is to end.
    End,
}

/// What follows an exchange.
enum After {
    Next,
    Close,
    Tunnel(Box<Tunnel>),
}

/// Serves the connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: Stream,
) -> Result<(), End> {
    // With TLS it would be asleep only in part: the most of it is the state of its cipher.
    if matches!(stream, Stream::Tcp(_)) {
        downstream.slot.may_go_dormant();
    }
    let wire = Rc::new(Wire::new(worker.clone(), downstream.slot.clone(), stream));
    loop {
        // Boxed apart, and before it is waited for: an idle connection keeps no room for an
        // exchange, nor for a head.
        let answering: Pin<Box<dyn Future<Output = _> + '_>> = match wire.heard().await? {
            Heard::Head(head) => Box::pin(exchange(worker, &downstream, &wire, head)),
            Heard::Refused(refused) => Box::pin(refuse(worker, &downstream, &wire, refused)),
            Heard::Nothing => {
                // Between two requests nobody shares the wire.
                let stream = Rc::into_inner(wire).map(|wire| wire.state.into_inner().stream);
                let Some(Stream::Tcp(stream)) = stream else {
                    return Ok(());
                };
                return Ok(Dormant::keep(worker, stream, downstream)?);
            }
            Heard::End => break,
        };
        match answering.await? {
            After::Next => {}
            After::Close => break,
            After::Tunnel(tunnel) => {
                // The exchange of an upgrade has no body, so nobody shares the wire.
                let Some(Wire { state, .. }) = Rc::into_inner(wire) else {
                    return Ok(());
                };
                let State { stream, input, .. } = state.into_inner();
                return Ok(Box::pin(tunnel.run(stream, input.freeze())).await?);
            }
        }
    }
    // Between two requests nobody shares the wire.
    let Some(Wire { state, .. }) = Rc::into_inner(wire) else {
        return Ok(());
    };
    let state = state.into_inner();
    let lingers = !state.is_read();
    Box::pin(close(worker, state.stream, lingers)).await
}

/// Answers one request.
async fn exchange(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    wire: &Rc<Wire>,
    head: Head,
) -> Result<After, End> {
    let Head { method, uri, version, headers, framing, keep_alive, expects_continue } = head;
    wire.begin(framing, expects_continue, version);
    let is_head = method == Method::HEAD;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    let incoming = match framing {
        Framing::None => Incoming::None,
        _ => Incoming::H1(wire.clone()),
    };
    // Pinned here: it is large, and each hand that it went through would be a copy.
    let run = pin!(pipeline::run(worker.clone(), downstream.clone(), parts, incoming));
    let response = wire.unless_gone(run).await?;
    let stays = keep_alive
        && worker.settings.keepalive_timeout > Duration::ZERO
        && !worker.roster.is_draining();
    wire.respond(response, Asked { is_head, version, stays }).await
}

/// Answers what is no request, after which nothing on the connection can be told apart.
async fn refuse(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    wire: &Wire,
    refused: Refused,
) -> Result<After, End> {
    tracing::debug!(reason = %refused, "a request was refused");
    let status = match refused {
        Refused::Malformed(_) => StatusCode::BAD_REQUEST,
        Refused::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
        Refused::UnknownVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        Refused::TargetTooLong => StatusCode::URI_TOO_LONG,
        Refused::HeadTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    };
    let line = request::first_line(&wire.state.borrow().input);
    let response = pipeline::refuse(worker.clone(), downstream.clone(), line, status);
    let asked = Asked { is_head: false, version: Version::HTTP_11, stays: false };
    wire.respond(response, asked).await
}

// === impl Wire ===

impl Wire {
    fn new(worker: Rc<Worker>, slot: Rc<Slot>, stream: Stream) -> Self {
        let state = State {
            stream,
            input: BytesMut::new(),
            looked_at: 0,
            incoming: Framing::None,
            owes_continue: false,
            output: Output::default(),
            trailers: None,
            shut: None,
            takes_interim: false,
        };
        Self { worker, slot, state: RefCell::new(state) }
    }

    /// Waits for the next request's head.
    async fn heard(&self) -> Result<Heard, End> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Heard, End>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            match state.take_head() {
                Ok(Some(head)) => return Poll::Ready(Ok(Heard::Head(head))),
                Err(refused) => return Poll::Ready(Ok(Heard::Refused(refused))),
                Ok(None) => {}
            }
            if self.slot.is_overdue() {
                return Poll::Ready(Err(End::Overdue));
            }
            let read = if state.input.is_empty() {
                // A connection whose first request is on its way is let have its answer.
                if self.worker.roster.is_draining() && !self.slot.is_opening() {
                    return Poll::Ready(Ok(Heard::End));
                }
                match self.worker.buffers.poll_fill(&mut state.stream, &mut state.input, cx) {
                    Poll::Pending if self.slot.goes_dormant() => {
                        return Poll::Ready(Ok(Heard::Nothing));
                    }
                    read => ready!(read)?,
                }
            } else {
                self.slot.reads_head();
                ready!(state.stream.poll_fill(&mut state.input, REST_BYTES, cx))?
            };
            if read == 0 {
                return Poll::Ready(Ok(Heard::End));
            }
        }
    }

    fn begin(&self, framing: Framing, expects_continue: bool, version: Version) {
        let mut state = self.state.borrow_mut();
        state.incoming = framing;
        state.takes_interim = version == Version::HTTP_11;
        state.owes_continue = expects_continue && framing != Framing::None;
    }

    /// The next piece of the request's body.
    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let state = &mut *self.state.borrow_mut();
        if mem::take(&mut state.owes_continue) && state.takes_interim {
            state.output.lines().extend_from_slice(CONTINUE);
        }
        // What is wrong with the stream is told by reading it.
        let _ = self.poll_write(state, cx);
        loop {
            match state.incoming.next(&mut state.input) {
                Ok(Next::Piece(Piece::Data(data))) => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Next::Piece(Piece::Trailers(trailers))) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Next::End) => return Poll::Ready(None),
                Err(_) => return Poll::Ready(Some(Err(Broken::Malformed))),
                Ok(Next::More) => {}
            }
            let size = state.incoming.read_bytes();
            let read = if state.input.is_empty() && size == READ_BYTES {
                self.worker.buffers.poll_fill(&mut state.stream, &mut state.input, cx)
            } else {
                state.stream.poll_fill(&mut state.input, size, cx)
            };
            match ready!(read) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Broken::Gone))),
            }
        }
    }

    /// Whether the request's body has been read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.state.borrow().is_read()
    }

    /// Polls `run` for as long as the client is there.
    async fn unless_gone<F: Future>(&self, run: F) -> Result<F::Output, End> {
        let mut run = pin!(run);
        poll_fn(|cx| match run.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.is_gone(cx) => Poll::Ready(Err(End::Gone)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the client has closed the connection, as far as can be told: what it sends ahead
    /// hides it.
    fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        let state = &mut *self.state.borrow_mut();
        if !state.is_read() || !state.input.is_empty() {
            return false;
        }
        match self.worker.buffers.poll_fill(&mut state.stream, &mut state.input, cx) {
            Poll::Ready(Ok(0)) => self.has_left(state, cx),
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) | Poll::Pending => false,
        }
    }

    /// Whether the client that has ended its side of the connection has ended the other too.
    ///
    /// TCP tells one from the other only to who sends something: what reaches nobody comes back as
    /// a reset. An interim response is all that can be said before there is an answer; it is not
    /// said at once, so that most who only half close never see it. The roster wakes the task.
    fn has_left(&self, state: &mut State, cx: &mut Context<'_>) -> bool {
        let now = clock::now();
        let Some(since) = state.shut else {
            state.shut = Some(now);
            self.slot.half_closes();
            return false;
        };
        if state.stream.is_broken() {
            return true;
        }
        if state.takes_interim && now.saturating_duration_since(since) >= HALF_CLOSED {
            state.takes_interim = false;
            state.output.lines().extend_from_slice(CONTINUE);
            return matches!(self.poll_write(state, cx), Poll::Ready(Err(_)));
        }
        false
    }

    /// Writes `response`.
    async fn respond(&self, response: Response<Body>, asked: Asked) -> Result<After, End> {
        let (parts, mut body) = response.into_parts();
        let (length, has_body) = length(&parts, &body, &asked);
        let upgrades = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut stays = asked.stays && length != Length::UntilClose && !body.is_last();
        if body.is_whole() {
            // Nobody will read the rest of the request's body.
            stays &= self.state.borrow_mut().skip_body();
        }
        {
            let state = &mut *self.state.borrow_mut();
            state.takes_interim = false;
            if body.is_last() {
                // Whatever follows, it is not read any more.
                state.incoming = Framing::UntilClose;
            }
            if state.output.is_empty() {
                *state.output.lines() = self.worker.buffers.lines();
            }
            let closing = match (stays, asked.version) {
                _ if upgrades => Closing::Untold,
                (false, _) => Closing::Told,
                (true, Version::HTTP_10) => Closing::StaysTold,
                (true, _) => Closing::Untold,
            };
            let date = self.worker.date();
            let told = response::Told { length, closing, date: date.as_bytes() };
            response::write(parts.status, &parts.headers, &told, state.output.lines());
        }
        drop(parts);
        let mut ended = !has_body;
        let responded = poll_fn(|cx| self.poll_respond(&mut body, length, &mut ended, cx)).await;
        if matches!(responded, Err(End::Cut)) {
            // A client that got nothing at all would ask again, and not know that this broke off.
            poll_fn(|cx| self.poll_flush(cx)).await?;
            if length == Length::UntilClose {
                self.state.borrow().stream.break_off();
            }
        }
        responded?;
        let state = &mut *self.state.borrow_mut();
        self.worker.buffers.give_back(mem::take(state.output.lines()));
        if let Some(tunnel) = body.into_tunnel() {
            return Ok(After::Tunnel(tunnel));
        }
        if !stays || !state.skip_body() {
            return Ok(After::Close);
        }
        if state.input.is_empty() {
            state.input = BytesMut::new();
        }
        Ok(After::Next)
    }

    /// Moves `body` to the client.
    fn poll_respond(
        &self,
        body: &mut Body,
        length: Length,
        ended: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        loop {
            let mut waits = false;
            while !*ended && !waits && self.takes_more() {
                // The body may read the request's, which is on this wire too: nothing of it is
                // borrowed here.
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.gather(frame, length),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(End::Cut)),
                    Poll::Ready(None) => *ended = true,
                    Poll::Pending => waits = true,
                }
                *ended |= body.is_end_stream();
                if *ended {
                    self.gather_end(length);
                }
            }
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                flushed?;
                if *ended {
                    return Poll::Ready(Ok(()));
                }
                if waits {
                    return if self.is_gone(cx) {
                        Poll::Ready(Err(End::Gone))
                    } else {
                        Poll::Pending
                    };
                }
            } else {
                return Poll::Pending;
            }
        }
    }

    fn takes_more(&self) -> bool {
        let output = &self.state.borrow().output;
        output.takes_data() && output.len() < GATHERED_BYTES
    }

    fn gather(&self, frame: Frame<Bytes>, length: Length) {
        let state = &mut *self.state.borrow_mut();
        match (frame.into_data(), length) {
            (Ok(data), Length::Chunked) if !data.is_empty() => state.output.chunk(data),
            (Ok(data), _) => state.output.data(data),
            // Nothing follows them, so they wait for the body's end.
            (Err(frame), _) => state.trailers = frame.into_trailers().ok().map(Box::new),
        }
    }

    /// Writes what ends the body. Without chunks that is nothing, and no place for trailers.
    fn gather_end(&self, length: Length) {
        let state = &mut *self.state.borrow_mut();
        match (length, state.trailers.take()) {
            (Length::Chunked, Some(trailers)) => state.output.trailers(&trailers),
            (Length::Chunked, None) => state.output.last_chunk(),
            _ => {}
        }
    }

    /// Writes everything that is to be written; the roster is told when the client lets it wait.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let state = &mut *self.state.borrow_mut();
        let written = self.poll_write(state, cx);
        if written.is_pending() && self.slot.is_overdue() {
            return Poll::Ready(Err(End::Overdue));
        }
        self.slot.set_stuck(written.is_pending());
        written.map_err(End::from)
    }

    fn poll_write(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = state.output.len();
        let written = state.output.poll_write(&mut state.stream, cx);
        if state.output.len() < before {
            self.slot.moved();
        }
        written
    }
}

/// How the body of a response is framed, and whether there is one.
///
/// Source: RFC 9112, section 6.3.
fn length(parts: &http::response::Parts, body: &Body, asked: &Asked) -> (Length, bool) {
    let status = parts.status;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return (Length::Absent, false);
    }
    let exact = body.size_hint().exact();
    if asked.is_head || status == StatusCode::NOT_MODIFIED {
        // What a GET would have brought: the node knows best, then the gateway's own page.
        let said = super::request::content_length(&parts.headers);
        let known = said.or(exact.filter(|length| *length > 0));
        return (known.map_or(Length::Absent, Length::Known), false);
    }
    match exact {
        Some(length) => (Length::Known(length), length > 0),
        None if asked.version == Version::HTTP_10 => (Length::UntilClose, true),
        None => (Length::Chunked, true),
    }
}

// === impl State ===

impl State {
    fn is_read(&self) -> bool {
        matches!(self.incoming, Framing::None | Framing::Length(0))
    }

    /// Takes a head off what was read, where a whole one is there.
    fn take_head(&mut self) -> Result<Option<Head>, Refused> {
        let fresh = &self.input[self.looked_at..];
        // A head ends with a line's end: without one there is no need to read it all again.
        if !fresh.contains(&b'\n') && self.input.len() <= request::LONGEST_BYTES {
            self.looked_at = self.input.len();
            return Ok(None);
        }
        let head = request::parse(&mut self.input)?;
        self.looked_at = if head.is_some() { 0 } else { self.input.len() };
        Ok(head)
    }

    /// Passes over what is left of the request's body, if all of it is there; whether it was.
    fn skip_body(&mut self) -> bool {
        loop {
            match self.incoming.next(&mut self.input) {
                Ok(Next::Piece(_)) => {}
                Ok(Next::End) => return true,
                Ok(Next::More) | Err(_) => return false,
            }
        }
    }
}
