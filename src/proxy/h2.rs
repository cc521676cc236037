//! HTTP/2 with a client, by hyper.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::body::Body;
use super::connection::{Downstream, End};
use super::exchange::Incoming;
use super::roster::Slot;
use super::{Worker, pipeline};
use crate::clock;
use crate::http1::request::LONGEST_BYTES;
use crate::tls::stream::Stream;
use crate::upstream::Failure;

/// Requests that one connection may have under way (nginx's default).
const STREAMS: u32 = 128;

/// Windows: large enough that one stream fills a link, small enough that many fit.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// A client may take back so many of its requests before they are answered, and then as many as it
/// lets be answered; one that takes back more makes work and has no use for it (CVE-2023-44487).
const TAKEN_BACK: u32 = 128;

/// How long a client that was told to go may take to do so.
const PARTING: Duration = Duration::from_secs(2);

/// Serves the connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: Stream,
) -> Result<(), End> {
    let tally = Rc::<Tally>::default();
    let service = {
        let (worker, downstream, tally) = (worker.clone(), downstream.clone(), tally.clone());
        service_fn(move |request: Request<hyper::body::Incoming>| {
            let (parts, body) = request.into_parts();
            let incoming = Incoming::H2(body);
            let exchange = pipeline::run(worker.clone(), downstream.clone(), parts, incoming);
            let slot = downstream.slot.clone();
            let asked = Asked { tally: tally.clone(), is_answered: false };
            async move {
                let response = exchange.await;
                asked.answered();
                Ok::<_, Infallible>(response.map(|body| Watched::new(body, slot)))
            }
        })
    };
    let connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(LONGEST_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(Wire::new(stream, &downstream.slot), service);
    let mut connection = pin!(connection);
    let mut told: Option<Instant> = None;
    poll_fn(|cx| {
        let overdue = downstream.slot.is_overdue();
        if told.is_none() && (overdue || worker.roster.is_draining()) {
            told = Some(Instant::now());
            // GOAWAY; what is under way is finished.
            connection.as_mut().graceful_shutdown();
        } else if overdue && told.is_some_and(|at| at.elapsed() > PARTING) {
            return Poll::Ready(Err(End::Overdue));
        }
        if tally.is_too_much() {
            return Poll::Ready(Err(End::TakenBack));
        }
        connection.as_mut().poll(cx).map_err(End::from)
    })
    .await
}

/// What has become of a connection's requests.
#[derive(Default)]
struct Tally {
    answered: Cell<u32>,
    taken_back: Cell<u32>,
}

/// A request that is yet to be answered.
struct Asked {
    tally: Rc<Tally>,
    is_answered: bool,
}

/// A client's stream as hyper has it: notes what the client takes.
struct Wire {
    io: TokioIo<Stream>,
    slot: Rc<Slot>,
}

/// The body of a response: notes when the client lets it wait.
struct Watched {
    body: Body,
    slot: Rc<Slot>,
    /// Whether the client has yet to take what was handed out last.
    sending: bool,
}

// === impl Tally ===

impl Tally {
    fn is_too_much(&self) -> bool {
        self.taken_back.get() > TAKEN_BACK.saturating_add(self.answered.get())
    }
}

// === impl Asked ===

impl Asked {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let count = if self.is_answered { &self.tally.answered } else { &self.tally.taken_back };
        count.set(count.get().saturating_add(1));
    }
}

// === impl Wire ===

impl Wire {
    fn new(stream: Stream, slot: &Rc<Slot>) -> Self {
        Self { io: TokioIo::new(stream), slot: slot.clone() }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.slot.moved();
        }
        written
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.note(written)
    }
}

/// Runs tasks of HTTP/2 streams on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(clock::timed(task));
    }
}

// === impl Watched ===

impl Watched {
    fn new(body: Body, slot: Rc<Slot>) -> Self {
        Self { body, slot, sending: false }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let sending = matches!(polled, Poll::Ready(Some(Ok(_))));
        if sending != this.sending {
            this.sending = sending;
            this.slot.sends(sending);
        }
        if sending {
            this.slot.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.sending {
            self.slot.sends(false);
        }
    }
}
