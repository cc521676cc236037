//! Listening sockets: bound at start, so that what is wrong is told then; accepted from by workers.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Worker;
use super::connection;

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
}

/// A bound socket. Connections are refused until it listens.
pub struct Listener {
    socket: Socket,
    protocols: Protocols,
}

/// A socket that listens: connections wait until it runs.
pub struct Listening {
    listener: TcpListener,
    protocols: Protocols,
}

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    pub addr: SocketAddr,
    source: io::Error,
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
        let bind = || {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            if addr.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            if reuse_port {
                socket.set_reuse_port(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&addr.into())?;
            Ok(socket)
        };
        let socket = bind().map_err(|source| BindError { addr, source })?;
        Ok(Self { socket, protocols })
    }

    /// The same socket for another worker.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, protocols: self.protocols })
    }

    /// Begins to listen, on the thread that will accept.
    ///
    /// # Errors
    /// The socket cannot be listened on, or not be registered with this thread's reactor.
    pub fn listen(self) -> io::Result<Listening> {
        self.socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(self.socket.into())?;
        Ok(Listening { listener, protocols: self.protocols })
    }
}

// === impl Listening ===

impl Listening {
    /// Accepts connections and serves each in a task of its own, on this thread, for as long as
    /// the future is polled.
    pub async fn run(self, worker: Rc<Worker>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    worker.metrics.accepted();
                    connection::spawn(worker.clone(), stream, peer, self.protocols);
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
