//! UDP sockets on which QUIC connections come: one a worker, bound beside its TCP listener.
//!
//! The kernel chooses the socket by both addresses, so a connection stays with the worker that has
//! it for as long as the client keeps its address; one whose address changes (a new network, a NAT
//! that forgot it) ends up with a worker that does not know it and has to connect anew. Clients are
//! told not to move on purpose.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt,
};
use socket2::Socket;

use super::Worker;
use super::connection::{self, Via};
use super::streams::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, STREAMS};
use crate::snapshot::Published;
use crate::tls;

/// A client has a control stream and two of QPACK's, and may open some that nobody knows.
const OTHER_STREAMS: u32 = 8;

/// How long a client may not be heard of. Shorter silence is looked after by the roster; this is
/// for clients that are gone without a word.
const GONE: Duration = Duration::from_secs(30);

/// How often a silent client is asked whether it is there, as a node that takes its time must not
/// cost the connection.
const ASKED: Duration = Duration::from_secs(10);

/// With more handshakes than this under way, a client has to show that it is where it says that it
/// is before it costs a signature (RFC 9000, section 8.1.2).
const UNSHAKEN: u32 = 64;

/// With more than this nobody else is let in.
const TOO_MANY: u32 = 1024;

/// A worker's end of every QUIC connection on one port.
pub(super) struct Quic {
    endpoint: Endpoint,
    via: Rc<Via>,
    handshakes: Rc<Cell<u32>>,
}

/// A handshake that is under way.
pub(super) struct Handshaking(Rc<Cell<u32>>);

// === impl Quic ===

impl Quic {
    /// Begins to take connections, which `published` has certificates for.
    ///
    /// # Errors
    /// The socket cannot be registered with this thread's reactor, or there is no TLS 1.3.
    pub(super) fn listen(socket: Socket, published: &Published, via: Rc<Via>) -> io::Result<Self> {
        let published = published.clone();
        let find = move |name: Option<&str>| published.load().certificate(name).cloned();
        let crypto = tls::quic::config(find).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(crypto);
        config
            .transport_config(Arc::new(transport()))
            .migration(false)
            .max_incoming(TOO_MANY as usize)
            // What clients that are not let in yet may have sent, together.
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(8 * 1024 * 1024);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(config), socket.into(), runtime)?;
        Ok(Self { endpoint, via, handshakes: Rc::default() })
    }

    /// Takes connections and serves each in a task of its own, on this thread, for as long as the
    /// future is polled.
    pub(super) async fn run(&self, worker: &Rc<Worker>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let waiting = self.handshakes.get();
            if waiting >= TOO_MANY {
                incoming.refuse();
            } else if waiting >= UNSHAKEN && !incoming.remote_address_validated() {
                // It may not be asked twice; then it is let in.
                if let Err(unasked) = incoming.retry() {
                    self.spawn(worker, unasked.into_incoming());
                }
            } else {
                self.spawn(worker, incoming);
            }
        }
    }

    fn spawn(&self, worker: &Rc<Worker>, incoming: Incoming) {
        worker.metrics.accepted();
        let handshaking = Handshaking::new(&self.handshakes);
        connection::spawn_quic(worker.clone(), incoming, handshaking, self.via.clone());
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        // Connections that are there go on; those that would wait for ever are refused.
        self.endpoint.set_server_config(None);
    }
}

// === impl Handshaking ===

impl Handshaking {
    fn new(count: &Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(OTHER_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .max_idle_timeout(Some(IdleTimeout::from(milliseconds(GONE))))
        .keep_alive_interval(Some(ASKED))
        .datagram_receive_buffer_size(None);
    transport
}

fn milliseconds(time: Duration) -> VarInt {
    VarInt::from_u32(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}
