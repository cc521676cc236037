//! A client's connection: handshake, HTTP/1.1 or HTTP/2, and its end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use super::listener::Protocols;
use super::roster::Slot;
use super::{Worker, h1, h2};
use crate::clock;
use crate::context::{Client, TlsSession};
use crate::expr::Pattern;
use crate::tls;
use crate::tls::stream::Stream;

/// What HTTP/2 by prior knowledge begins with (RFC 9113, section 3.4); no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI";

/// The number of the next connection.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// The client's side of an exchange.
pub(super) struct Downstream {
    pub(super) client: Rc<Client>,
    pub(super) slot: Rc<Slot>,
    /// Where the client has shown no certificate and needs one: the paths that go without.
    pub(super) exempt: Option<Arc<[Pattern]>>,
}

/// Why a connection ended otherwise than by its proper end.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] tls::accept::HandshakeError),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the client was silent for too long")]
    Overdue,
    #[error("the client took back more requests than it let be answered")]
    TakenBack,
    #[error("the client went away before it had its answer")]
    Gone,
    #[error("the response broke off")]
    Cut,
}

/// Serves a connection in a task of its own on this thread.
pub(super) fn spawn(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, protocols: Protocols) {
    tokio::task::spawn_local(clock::timed(async move {
        let handled = worker.metrics.handled();
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let member = worker.roster.enter(handled, waker);
        let served = serve(&worker, &member.slot, stream, peer, protocols).await;
        if let Err(end) = served {
            tracing::debug!(%peer, reason = %end, "connection ended");
        }
    }));
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
        tls: None,
        serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        since: clock::now(),
        requests: Cell::new(0),
    };
    if !protocols.tls {
        let is_h2 = protocols.http2 && unless_overdue(slot, has_preface(&stream)).await??;
        let downstream = Downstream { client: Rc::new(client), slot: slot.clone(), exempt: None };
        return speak(worker, downstream, Stream::Tcp(stream), is_h2).await;
    }
    let held = worker.snapshot();
    // Boxed apart: what a handshake needs is not kept for the connection's life.
    let handshake = tls::accept::accept(stream, |name| held.snapshot.certificate(name));
    let (stream, handshake) = unless_overdue(slot, Box::pin(handshake)).await??;
    drop(held);
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
    let (client, slot) = (Rc::new(client), slot.clone());
    let downstream = Downstream { client, slot, exempt: handshake.exempt };
    speak(worker, downstream, stream, handshake.is_h2).await
}

async fn speak(
    worker: &Rc<Worker>,
    downstream: Downstream,
    stream: Stream,
    is_h2: bool,
) -> Result<(), End> {
    let downstream = Rc::new(downstream);
    if is_h2 {
        // Boxed apart, so that a task is no larger than what its connection speaks.
        Box::pin(h2::serve(worker, downstream, stream)).await
    } else {
        h1::serve(worker, downstream, stream).await
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
