//! Listening sockets: bound at start, so that what is wrong is told then; accepted from by workers.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::Worker;
use super::connection::{self, Via};
use super::quic::Quic;
use crate::snapshot::Published;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;

/// Pause after a failed accept: out of descriptors, most likely, and asking again would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    pub tls: bool,
    /// By ALPN over TLS, by prior knowledge without.
    pub http2: bool,
    /// Over QUIC, on the same port of UDP; only with TLS.
    pub http3: bool,
}

/// A bound socket. Connections are refused until it listens.
pub struct Listener {
    socket: Socket,
    /// For QUIC.
    datagrams: Option<Socket>,
    addr: SocketAddr,
    protocols: Protocols,
}

/// A socket that listens: connections wait until it runs.
pub struct Listening {
    listener: TcpListener,
    quic: Option<Quic>,
    via: Rc<Via>,
}

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    pub addr: SocketAddr,
    source: io::Error,
}

/// A socket of TCP or UDP that is bound to `addr`.
fn socket(addr: SocketAddr, kind: Type, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Of UDP it would let others have the port too.
    socket.set_reuse_address(kind == Type::STREAM)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

// === impl BindError ===

impl BindError {
    /// Whether the host has no such kind of address, as one without IPv6 has no `[::]`.
    pub fn is_unsupported(&self) -> bool {
        let code = self.source.raw_os_error();
        matches!(code, Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
    }
}

// === impl Listener ===

impl Listener {
    /// Binds `addr`; with `reuse_port` once for each worker, so that the kernel spreads
    /// connections over them.
    ///
    /// # Errors
    /// What the kernel says, with the address.
    pub fn bind(
        addr: SocketAddr,
        protocols: Protocols,
        reuse_port: bool,
    ) -> Result<Self, BindError> {
        let bound =
            |kind| socket(addr, kind, reuse_port).map_err(|source| BindError { addr, source });
        let datagrams = || protocols.http3.then(|| bound(Type::DGRAM)).transpose();
        Ok(Self { socket: bound(Type::STREAM)?, datagrams: datagrams()?, addr, protocols })
    }

    /// The same socket for another worker. QUIC stays with the first: whose datagram it is shows
    /// only when one has taken it.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn share(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Self { socket, datagrams: None, addr: self.addr, protocols: self.protocols })
    }

    /// Begins to listen, on the thread that will accept. Certificates of QUIC connections are what
    /// is `published`; whether clients are told of it `tells` says.
    ///
    /// # Errors
    /// A socket cannot be listened on, or not be registered with this thread's reactor.
    pub fn listen(self, published: &Published, tells: bool) -> io::Result<Listening> {
        self.socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(self.socket.into())?;
        let via = Rc::new(Via::new(self.protocols, self.addr, tells));
        let listen = |socket| Quic::listen(socket, published, via.clone());
        let quic = self.datagrams.map(listen).transpose()?;
        Ok(Listening { listener, quic, via })
    }
}

// === impl Listening ===

impl Listening {
    /// Accepts connections and serves each in a task of its own, on this thread, for as long as
    /// the future is polled.
    pub async fn run(self, worker: Rc<Worker>) {
        match &self.quic {
            Some(quic) => tokio::join!(self.accept(&worker), quic.run(&worker)).0,
            None => self.accept(&worker).await,
        }
    }

    async fn accept(&self, worker: &Rc<Worker>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    worker.metrics.accepted();
                    connection::spawn(worker.clone(), stream, peer, self.via.clone());
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
