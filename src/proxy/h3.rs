//! HTTP/3 with a client: QUIC by quinn, framing by `h3`, and between them what `h3` leaves unchecked.
//!
//! Every request is a task of its own on the worker's thread and runs the pipeline that HTTP/1.1 and
//! HTTP/2 run.

mod guard;
mod section;
mod transport;
mod upload;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use ::h3::error::{Code, ConnectionError, StreamError};
use ::h3::frame::FrameStream;
use ::h3::quic::{RecvStream as _, SendStream as _};
use ::h3::server::{Connection, RequestResolver, RequestStream};
use ::h3::stream::BufRecvStream;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use smallvec::SmallVec;
use tokio::task::JoinSet;

pub(super) use self::upload::Upload;

use self::transport::{Both, Fate, Send, Transport, number};
use self::upload::Awaited;
use super::connection::{Downstream, End, unless_overdue};
use super::streams::{Asked, PARTING, Tally};
use super::{Worker, pipeline};
use crate::clock;
use crate::http1::fields::is_of_connection;
use crate::http1::request::LONGEST_BYTES;
use crate::http1::response::is_without_body;

/// A connection and the requests that are under way on it. Letting it go ends them.
struct Serving {
    connection: Connection<Transport, Bytes>,
    requests: JoinSet<()>,
    tally: Rc<Tally>,
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    /// When the client was told to go.
    told: Option<Instant>,
}

/// A request whose head is yet to be read.
struct Begun {
    resolver: RequestResolver<Transport, Bytes>,
    fate: Rc<Fate>,
    asked: Asked,
}

/// Serves the connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    connection: quinn::Connection,
) -> Result<(), End> {
    let quic = connection.clone();
    let transport = Transport::new(connection, worker.settings.send_timeout);
    let mut builder = ::h3::server::builder();
    builder.max_field_section_size(LONGEST_BYTES as u64).send_grease(false);
    // Boxed apart: what it takes to begin is ten kilobytes, which are not kept.
    let building = Box::pin(builder.build(transport));
    let connection = unless_overdue(&downstream.slot, building).await??;
    let mut serving = Serving {
        connection,
        requests: JoinSet::new(),
        tally: Rc::default(),
        worker: worker.clone(),
        downstream,
        told: None,
    };
    let served = poll_fn(|cx| serving.poll(cx)).await;
    if matches!(served, Err(End::TakenBack)) {
        quic.close(number(Code::H3_EXCESSIVE_LOAD.value()), b"too many requests taken back");
    }
    drop(serving);
    // Closing is a task of quinn's: it has its turn before the worker may end.
    tokio::task::yield_now().await;
    served
}

// === impl Serving ===

impl Serving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let overdue = self.downstream.slot.is_overdue();
        match self.told {
            None if overdue || self.worker.roster.is_draining() => {
                self.told = Some(Instant::now());
                // GOAWAY; what is under way is finished. Written at once: the stream is young.
                let _ = pin!(self.connection.shutdown(1)).poll(cx)?;
            }
            Some(at) if overdue && at.elapsed() > PARTING => {
                return Poll::Ready(Err(End::Overdue));
            }
            _ => {}
        }
        while let Poll::Ready(Some(_)) = self.requests.poll_join_next(cx) {}
        if self.tally.is_too_much() {
            return Poll::Ready(Err(End::TakenBack));
        }
        loop {
            match self.connection.poll_accept_request_stream(cx) {
                Poll::Ready(Ok(Some(stream))) => self.begin(stream),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if is_goodbye(&error) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        // Registered for what has begun above.
        while let Poll::Ready(Some(_)) = self.requests.poll_join_next(cx) {}
        if self.told.is_some() && self.requests.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn begin(&mut self, mut stream: Both) {
        if self.told.is_some() {
            // As the GOAWAY says; the client may ask elsewhere.
            stream.stop_sending(Code::H3_REQUEST_REJECTED.value());
            stream.reset(Code::H3_REQUEST_REJECTED.value());
            return;
        }
        let (fate, gone) = (stream.fate(), stream.gone());
        let frames = FrameStream::new(BufRecvStream::new(stream));
        let resolver = self.connection.create_resolver(frames);
        let begun = Begun { resolver, fate, asked: self.tally.asked() };
        let (worker, downstream) = (self.worker.clone(), self.downstream.clone());
        self.requests.spawn_local(clock::timed(async move {
            let fate = begun.fate.clone();
            let answering = Box::pin(begun.answer(worker, downstream));
            tokio::select! {
                // The client wants it no more: what was under way for it is let go.
                is_left = gone => if is_left { fate.fail(Code::H3_REQUEST_CANCELLED) },
                _ = answering => {}
            }
        }));
    }
}

/// Whether a connection has ended as it should.
fn is_goodbye(error: &ConnectionError) -> bool {
    error.is_h3_no_error()
}

// === impl Begun ===

impl Begun {
    /// # Errors
    /// What `h3` says; the stream ends as its fate has it.
    async fn answer(
        self,
        worker: Rc<Worker>,
        downstream: Rc<Downstream>,
    ) -> Result<(), StreamError> {
        let Self { resolver, fate, asked } = self;
        let head = tokio::time::timeout(worker.settings.header_timeout, resolver.resolve_request());
        let Ok(head) = head.await else {
            fate.fail(Code::H3_REQUEST_REJECTED);
            return Ok(());
        };
        let (request, stream) = match head {
            Ok(whole) => whole,
            Err(error) => {
                if matches!(error, StreamError::HeaderTooBig { .. }) {
                    // `h3` has answered already, and keeps to itself what was asked: what is left
                    // to do is to count and log it, which the end of the response does.
                    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                    drop(pipeline::refuse(worker, downstream, Box::default(), status));
                    asked.answered();
                }
                return Err(error);
            }
        };
        let (parts, ()) = request.into_parts();
        if is_malformed(&parts) {
            fate.fail(Code::H3_MESSAGE_ERROR);
            return Ok(());
        }
        fate.asked();
        let is_head = parts.method == Method::HEAD;
        let date = worker.date().clone();
        let (mut stream, receive) = stream.split();
        let (incoming, awaited) = Upload::open(receive, fate.clone(), &parts.headers).await;
        let slot = downstream.slot.clone();
        let running = pipeline::run(worker, downstream, parts, incoming);
        let response = match awaited {
            None => running.await,
            Some(awaited) => after_continue(&mut stream, awaited, running).await?,
        };
        asked.answered();
        if fate.has_failed() {
            return Ok(());
        }
        let (mut head, mut body) = response.into_parts();
        let length = body.size_hint().exact();
        finish_head(&mut head.headers, head.status, length.filter(|_| !is_head), date);
        stream.send_response(Response::from_parts(head, ())).await?;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else {
                fate.fail(Code::H3_INTERNAL_ERROR);
                return Ok(());
            };
            send(&mut stream, frame, is_head).await?;
            if fate.has_failed() {
                return Ok(());
            }
        }
        // Logged, and its node let go, before the client has confirmed the last of it; the connection
        // is not idle until then.
        let finishing = slot.finishing();
        drop(body);
        let finished = stream.finish().await;
        drop(finishing);
        finished
    }
}

/// Waits for the response; should the body be asked for before, the client is told to send it.
async fn after_continue<B>(
    stream: &mut RequestStream<Send, Bytes>,
    awaited: Awaited,
    running: impl Future<Output = Response<B>>,
) -> Result<Response<B>, StreamError> {
    let mut running = pin!(running);
    tokio::select! {
        biased;
        response = &mut running => Ok(response),
        Ok(()) = awaited => {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            // A client that does not take even that is not served on.
            let running = async { Ok(running.await) };
            let ((), response) = tokio::try_join!(stream.send_response(interim), running)?;
            Ok(response)
        }
    }
}

async fn send(
    stream: &mut RequestStream<Send, Bytes>,
    frame: http_body::Frame<Bytes>,
    is_head: bool,
) -> Result<(), StreamError> {
    if is_head {
        return Ok(());
    }
    match frame.into_data() {
        Ok(data) if data.is_empty() => Ok(()),
        Ok(data) => stream.send_data(data).await,
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => stream.send_trailers(trailers).await,
            Err(_) => Ok(()),
        },
    }
}

/// Whether a request is one that no client may send (RFC 9114, sections 4.2 and 4.3.1), as far as
/// `h3` has not said so. `CONNECT` has no target, and is refused later.
fn is_malformed(parts: &Parts) -> bool {
    let has_target = parts.uri.scheme().is_some() && parts.uri.path_and_query().is_some();
    let mut codings = parts.headers.get_all(header::TE).iter();
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        !value.is_empty() && value.len() < 20 && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    let length = lengths.next();
    (!has_target && parts.method != Method::CONNECT)
        || parts.headers.keys().any(is_of_connection)
        || codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"trailers"))
        || length.is_some_and(|length| !is_number(length))
        || lengths.next().is_some()
}

/// Makes a head of HTTP/3 of one that any protocol could have.
fn finish_head(
    headers: &mut HeaderMap,
    status: StatusCode,
    length: Option<u64>,
    date: HeaderValue,
) {
    let names = headers.keys().filter(|name| is_of_connection(name)).cloned();
    for name in names.collect::<SmallVec<[HeaderName; 1]>>() {
        headers.remove(name);
    }
    headers.entry(header::DATE).or_insert(date);
    if let Some(length) = length.filter(|_| !is_without_body(status)) {
        // Whatever the node said: it may have answered another method.
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}
