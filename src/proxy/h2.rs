//! HTTP/2 with a client, by hyper.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::Request;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{Downstream, End};
use super::exchange::Incoming;
use super::roster::Slot;
use super::streams::{
    CONNECTION_WINDOW_BYTES, PARTING, STREAM_WINDOW_BYTES, STREAMS, Tally, Watched,
};
use super::{Worker, pipeline};
use crate::clock;
use crate::http1::request::LONGEST_BYTES;
use crate::tls::stream::Stream;

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
            let asked = tally.asked();
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

/// A client's stream as hyper has it: notes what the client takes.
struct Wire {
    io: TokioIo<Stream>,
    slot: Rc<Slot>,
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
