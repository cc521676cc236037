//! A client's connection: handshake, HTTP/1.1, HTTP/2 or HTTP/3, and its end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderValue;
use quinn::Incoming;
use quinn::crypto::rustls::HandshakeData;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::listener::Protocols;
use super::quic::Handshaking;
use super::roster::{Membership, Slot};
use super::{Worker, h1, h2, h3};
use crate::clock;
use crate::context::{Client, TlsSession};
use crate::http1::framing::READ_BYTES;
use crate::http2;
use crate::tls;
use crate::tls::stream::Stream;

/// What HTTP/2 by prior knowledge begins with (RFC 9113, section 3.4); no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI";

/// How long a client that still sends is listened to after the last response, so that a reset does
/// not take that response away from it (RFC 9112, section 9.6): in all, and without a word.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENT: Duration = Duration::from_secs(2);
/// Less than a fast stop waits for connections to end by themselves.
const LINGER_STOPPING: Duration = Duration::from_secs(1);

/// The number of the next connection.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// The listener that connections come by.
pub(super) struct Via {
    protocols: Protocols,
    /// Where it listens.
    addr: SocketAddr,
    /// `Alt-Svc`, where clients are told of HTTP/3.
    alt_svc: Option<HeaderValue>,
}

/// The client's side of an exchange.
pub(super) struct Downstream {
    pub(super) client: Rc<Client>,
    pub(super) slot: Rc<Slot>,
    /// What responses say of HTTP/3: nothing where the connection's name is not served over it.
    pub(super) alt_svc: Option<HeaderValue>,
}

/// Why a connection ended otherwise than by its proper end.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] tls::accept::HandshakeError),
    #[error(transparent)]
    Http2(#[from] http2::Fault),
    #[error(transparent)]
    Quic(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Http3(#[from] ::h3::error::ConnectionError),
    #[error("the client was silent for too long")]
    Overdue,
    #[error("the client took back more requests than it let be answered")]
    TakenBack,
    #[error("the client went away before it had its answer")]
    Gone,
    #[error("the response broke off")]
    Cut,
}

// === impl Via ===

impl Via {
    /// By `addr`. Clients are told of HTTP/3, where it is spoken, if it `tells`.
    pub(super) fn new(protocols: Protocols, addr: SocketAddr, tells: bool) -> Self {
        let told = (protocols.http3 && tells).then(|| format!("h3=\":{}\"; ma=86400", addr.port()));
        Self { protocols, addr, alt_svc: told.and_then(|told| HeaderValue::try_from(told).ok()) }
    }
}

// === impl Downstream ===

impl Downstream {
    fn new(client: Client, slot: &Rc<Slot>, alt_svc: Option<HeaderValue>) -> Rc<Self> {
        Rc::new(Self { client: Rc::new(client), slot: slot.clone(), alt_svc })
    }
}

/// Serves a connection in a task of its own on this thread.
pub(super) fn spawn(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, via: Rc<Via>) {
    tokio::task::spawn_local(clock::timed(async move {
        let slot = Slot::new(worker.metrics.handled());
        let _member = enter(&worker, &slot).await;
        let served = serve(&worker, &slot, stream, peer, &via).await;
        tell_end(peer, served);
    }));
}

/// Serves a connection that was dormant, from its next request on.
pub(super) fn resume(worker: Rc<Worker>, stream: TcpStream, downstream: Rc<Downstream>) {
    tokio::task::spawn_local(clock::timed(async move {
        let _member = enter(&worker, &downstream.slot).await;
        let peer = downstream.client.peer;
        let served = h1::serve(&worker, downstream, Stream::Tcp(stream)).await;
        tell_end(peer, served);
    }));
}

/// Serves a QUIC connection in a task of its own on this thread.
pub(super) fn spawn_quic(
    worker: Rc<Worker>,
    incoming: Incoming,
    handshaking: Handshaking,
    via: Rc<Via>,
) {
    let peer = incoming.remote_address();
    tokio::task::spawn_local(clock::timed(async move {
        let slot = Slot::new(worker.metrics.handled());
        let _member = enter(&worker, &slot).await;
        // Boxed apart: what a handshake needs is not kept for the connection's life.
        let shaken = Box::pin(shake_hands(&worker, &slot, incoming, &via)).await;
        drop(handshaking);
        let served = match shaken {
            Ok((downstream, connection)) => h3::serve(&worker, downstream, connection).await,
            Err(end) => Err(end),
        };
        tell_end(peer, served);
    }));
}

/// Enters this task's connection into the roster.
async fn enter(worker: &Worker, slot: &Rc<Slot>) -> Membership {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    worker.roster.enter(slot.clone(), waker)
}

fn tell_end(peer: SocketAddr, served: Result<(), End>) {
    if let Err(end) = served {
        tracing::debug!(%peer, reason = %end, "connection ended");
    }
}

async fn serve(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    stream: TcpStream,
    peer: SocketAddr,
    via: &Via,
) -> Result<(), End> {
    // Boxed apart: what a handshake needs is not kept for the connection's life, nor is what
    // another protocol needs.
    let (downstream, stream, is_h2) = Box::pin(greet(worker, slot, stream, peer, via)).await?;
    if is_h2 {
        Box::pin(h2::serve(worker, downstream, stream)).await
    } else {
        h1::serve(worker, downstream, stream).await
    }
}

/// Learns who the client is and whether it speaks HTTP/2.
async fn greet(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    stream: TcpStream,
    peer: SocketAddr,
    via: &Via,
) -> Result<(Rc<Downstream>, Stream, bool), End> {
    stream.set_nodelay(true)?;
    let protocols = via.protocols;
    let client = client(peer, stream.local_addr()?, protocols);
    if !protocols.tls {
        let is_h2 = protocols.http2 && unless_overdue(slot, has_preface(&stream)).await??;
        return Ok((Downstream::new(client, slot, None), Stream::Tcp(stream), is_h2));
    }
    let held = worker.snapshot();
    let mut alt_svc = None;
    let find = |name: Option<&str>| {
        let served = held.snapshot.certificate(name)?;
        alt_svc = via.alt_svc.as_ref().filter(|_| served.is_over_quic).cloned();
        Some(served.clone())
    };
    let handshake = tls::accept::accept(stream, &held.snapshot.proofs, find);
    let (stream, handshake) = unless_overdue(slot, handshake).await??;
    let stream = Stream::Tls(Box::new(stream.into()));
    let session = TlsSession::new(
        handshake.protocol,
        handshake.cipher,
        handshake.curve,
        handshake.alpn,
        handshake.resumed,
        handshake.certificate,
    )
    .with_problem(handshake.problem);
    let client = Client { sni: handshake.sni, tls: Some(Box::new(session)), ..client };
    Ok((Downstream::new(client, slot, alt_svc), stream, handshake.is_h2))
}

/// A client of whom only the addresses are known.
fn client(peer: SocketAddr, local: SocketAddr, protocols: Protocols) -> Client {
    Client {
        peer,
        peer_ip: peer.ip().to_canonical().to_string().into(),
        local,
        scheme: if protocols.tls { "https" } else { "http" },
        sni: None,
        tls: None,
        serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        since: clock::now(),
        requests: Cell::new(0),
    }
}

/// Shakes hands over QUIC, with TLS 1.3 as a part of it.
async fn shake_hands(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    incoming: Incoming,
    via: &Via,
) -> Result<(Rc<Downstream>, quinn::Connection), End> {
    let connection = unless_overdue(slot, incoming.accept()?).await??;
    let local_ip = connection.local_ip().unwrap_or(via.addr.ip());
    let local = SocketAddr::new(local_ip, via.addr.port());
    let shaken = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let sni = shaken.and_then(|data| data.server_name);
    let held = worker.snapshot();
    let served = held.snapshot.certificate(sni.as_deref());
    // Of the rest quinn does not tell, and there is no resumption nor a client's certificate.
    let session = TlsSession::new("TLSv1.3", "", "", "h3", false, None);
    let client = Client {
        sni: sni.map(|name| tls::sni::without_dot(&name).to_ascii_lowercase().into_boxed_str()),
        tls: Some(Box::new(session)),
        ..client(connection.remote_address(), local, via.protocols)
    };
    let is_served = served.is_some_and(|served| served.is_over_quic);
    let alt_svc = via.alt_svc.as_ref().filter(|_| is_served).cloned();
    Ok((Downstream::new(client, slot, alt_svc), connection))
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

/// Ends a connection so that the client gets everything that was sent to it; `lingers` where it may
/// still send something.
pub(super) async fn close(worker: &Worker, mut stream: Stream, lingers: bool) -> Result<(), End> {
    // A client that reads nothing more has no room for the last words of TLS either.
    tokio::time::timeout(LINGER_SILENT, stream.shutdown()).await.map_err(|_| End::Overdue)??;
    if lingers {
        linger(worker, &mut stream).await;
    }
    Ok(())
}

/// Reads what the client still sends, for nobody, until it ends or it takes too long. A node that
/// stops has no more time for one that sends than for one that is silent.
async fn linger(worker: &Worker, stream: &mut Stream) {
    let began = tokio::time::Instant::now();
    let mut unread = BytesMut::new();
    loop {
        let longest = if worker.roster.is_draining() { LINGER_STOPPING } else { LINGER };
        let left = longest.saturating_sub(began.elapsed()).min(LINGER_SILENT);
        unread.clear();
        let some = poll_fn(|cx| stream.poll_fill(&mut unread, READ_BYTES, cx));
        // With no time left it would still take what is there. The client may be gone already; that
        // is its end too.
        if left.is_zero() || !matches!(tokio::time::timeout(left, some).await, Ok(Ok(1..))) {
            return;
        }
    }
}

/// Polls `future` until the roster says that it has taken too long.
pub(super) async fn unless_overdue<F: Future>(slot: &Slot, future: F) -> Result<F::Output, End> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if slot.is_overdue() {
            return Poll::Ready(Err(End::Overdue));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
