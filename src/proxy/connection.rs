//! A client's connection: handshake, HTTP/1.1 or HTTP/2, and its end.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::body::Body;
use super::listener::Protocols;
use super::roster::Slot;
use super::upgrade::Tunnel;
use super::{Worker, pipeline};
use crate::context::Client;
use crate::tls;

/// What HTTP/2 by prior knowledge begins with (RFC 9113, section 3.4); no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI";

/// Longest request head, in bytes.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have under way (nginx's default).
const STREAMS: u32 = 128;

/// Windows of HTTP/2: large enough that one stream fills a link, small enough that many fit.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long, and for how many bytes, a client that still sends is listened to after the last
/// response, so that a reset does not take that response away from it (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// The client's side of an exchange.
pub(super) struct Downstream {
    pub(super) client: Rc<Client>,
    pub(super) slot: Rc<Slot>,
    /// Set by an exchange that ends in an upgrade; taken when its response is written.
    pub(super) tunnel: Cell<Option<Box<Tunnel>>>,
    /// Whether a request's body was left unread.
    pub(super) lingers: Cell<bool>,
}

/// Why a connection ended otherwise than by its proper end.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] tls::accept::HandshakeError),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the client was silent for too long")]
    Overdue,
}

/// Serves a connection in a task of its own on this thread.
pub(super) fn spawn(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, protocols: Protocols) {
    tokio::task::spawn_local(async move {
        let handled = worker.metrics.handled();
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let member = worker.roster.enter(handled, waker);
        let served = serve(&worker, &member.slot, stream, peer, protocols).await;
        if let Err(end) = served {
            tracing::debug!(%peer, reason = %end, "connection ended");
        }
    });
}

async fn serve(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    stream: TcpStream,
    peer: SocketAddr,
    protocols: Protocols,
) -> Result<(), End> {
    stream.set_nodelay(true)?;
    let client = Client {
        peer,
        peer_ip: peer.ip().to_canonical().to_string().into(),
        local: stream.local_addr()?,
        scheme: if protocols.tls { "https" } else { "http" },
        sni: None,
        tls_protocol: None,
    };
    if !protocols.tls {
        let is_h2 = protocols.http2 && unless_overdue(slot, has_preface(&stream)).await??;
        return speak(worker, slot, stream, client, is_h2).await;
    }
    let held = worker.snapshot();
    let handshake = tls::accept::accept(stream, |name| held.snapshot.certificate(name));
    let (stream, handshake) = unless_overdue(slot, handshake).await??;
    drop(held);
    let client = Client { sni: handshake.sni, tls_protocol: Some(handshake.protocol), ..client };
    speak(worker, slot, stream, client, handshake.is_h2).await
}

async fn speak<IO>(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    io: IO,
    client: Client,
    is_h2: bool,
) -> Result<(), End>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let downstream = Rc::new(Downstream {
        client: Rc::new(client),
        slot: slot.clone(),
        tunnel: Cell::new(None),
        lingers: Cell::new(false),
    });
    // Boxed apart, so that a task is no larger than what its connection speaks.
    if is_h2 {
        Box::pin(speak_h2(worker, downstream, io)).await
    } else {
        Box::pin(speak_h1(worker, downstream, io)).await
    }
}

/// What hyper calls for each request of a connection.
fn exchanges(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: 'static>
+ use<> {
    let (worker, downstream) = (worker.clone(), downstream.clone());
    service_fn(move |request| {
        let exchange = pipeline::run(worker.clone(), downstream.clone(), request);
        async move { Ok(exchange.await) }
    })
}

async fn speak_h1<IO>(worker: &Rc<Worker>, downstream: Rc<Downstream>, io: IO) -> Result<(), End>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = exchanges(worker, &downstream);
    let mut connection = http1::Builder::new()
        .max_header_size(LONGEST_HEAD_BYTES)
        .keep_alive(worker.settings.keepalive_timeout > Duration::ZERO)
        .serve_connection(Wire::new(io, &downstream.slot, false), service);
    let mut told = false;
    let ended = poll_fn(|cx| {
        if downstream.slot.is_overdue() {
            return Poll::Ready(Err(End::Overdue));
        }
        loop {
            let polled = Pin::new(&mut connection).poll(cx).map_err(End::from);
            // hyper would close a connection whose first request is still to be read.
            let drains = worker.roster.is_draining() && !downstream.slot.is_opening();
            if polled.is_ready() || told || !drains {
                return polled;
            }
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    });
    let ended = ended.await;
    // Taken in any case: an exchange in it holds this connection's state, which holds it.
    let tunnel = downstream.tunnel.take();
    ended?;
    let parts = connection.into_parts();
    let mut io = parts.io.io.into_inner();
    if let Some(tunnel) = tunnel {
        return Ok(Box::pin(tunnel.run(io, parts.read_buf)).await?);
    }
    io.shutdown().await?;
    if downstream.lingers.get() {
        // The client may be gone already; that is its end too.
        let _ = tokio::time::timeout(LINGER, linger(&mut io)).await;
    }
    Ok(())
}

async fn linger<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<()> {
    // On the heap: it would be a part of every connection's task otherwise.
    let mut buffer = vec![0; 8 * 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match io.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

async fn speak_h2<IO>(worker: &Rc<Worker>, downstream: Rc<Downstream>, io: IO) -> Result<(), End>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = exchanges(worker, &downstream);
    let connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(LONGEST_HEAD_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(Wire::new(io, &downstream.slot, true), service);
    let mut connection = pin!(connection);
    let mut told: Option<Instant> = None;
    poll_fn(|cx| {
        let overdue = downstream.slot.is_overdue();
        if told.is_none() && (overdue || worker.roster.is_draining()) {
            told = Some(Instant::now());
            // GOAWAY; what is under way is finished.
            connection.as_mut().graceful_shutdown();
        } else if overdue && told.is_some_and(|at| at.elapsed() > LINGER) {
            return Poll::Ready(Err(End::Overdue));
        }
        connection.as_mut().poll(cx).map_err(End::from)
    })
    .await
}

/// A client's stream as hyper has it: notes what the client takes, and under HTTP/1.1 is not ended
/// with the connection, since it may become a tunnel.
struct Wire<IO> {
    io: TokioIo<IO>,
    slot: Rc<Slot>,
    /// Whether the stream ends with the connection.
    ends: bool,
}

// === impl Wire ===

impl<IO> Wire<IO> {
    fn new(io: IO, slot: &Rc<Slot>, ends: bool) -> Self {
        Self { io: TokioIo::new(io), slot: slot.clone(), ends }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.slot.moved();
        }
        written
    }
}

impl<IO: AsyncRead + Unpin> hyper::rt::Read for Wire<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> hyper::rt::Write for Wire<IO> {
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
        let this = self.get_mut();
        if this.ends { Pin::new(&mut this.io).poll_shutdown(cx) } else { Poll::Ready(Ok(())) }
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
        tokio::task::spawn_local(task);
    }
}

/// Whether the client speaks HTTP/2 without having been asked. Leaves the bytes where they are.
async fn has_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0; PREFACE.len()];
    loop {
        let read = stream.peek(&mut buffer).await?;
        if read == PREFACE.len() || buffer[..read] != PREFACE[..read] || read == 0 {
            return Ok(buffer[..read] == *PREFACE);
        }
        // Two bytes of three, from a client that writes them one by one; `peek` would return at
        // once for ever.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Polls `future` until the roster says that it has taken too long.
async fn unless_overdue<F: Future>(slot: &Slot, future: F) -> Result<F::Output, End> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if slot.is_overdue() {
            return Poll::Ready(Err(End::Overdue));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
