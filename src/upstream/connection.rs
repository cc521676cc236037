//! A connection to a node: plain or TLS, opened within a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Endpoint, Failure, Timeouts};

/// The byte stream under a connection.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a connection to `endpoint`, TLS included when `tls` is given.
///
/// `server_name` is told to the node and, where the configuration verifies, checked.
///
/// # Errors
/// [`Failure::Connect`] and [`Failure::ConnectTimeout`]: another node may be tried.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeouts: &Timeouts,
) -> Result<Stream, Failure> {
    let addr = endpoint.addr;
    let opened = async {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        match tls {
            None => Ok(Stream::Tcp(tcp)),
            Some((config, server_name)) => {
                let connector = TlsConnector::from(config);
                let tls = connector.connect(server_name, tcp).await?;
                Ok(Stream::Tls(Box::new(tls)))
            }
        }
    };
    match tokio::time::timeout(timeouts.connect, opened).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(Failure::Connect { addr, source }),
        Err(_) => Err(Failure::ConnectTimeout { addr, after: timeouts.connect }),
    }
}

// === impl Stream ===

impl Stream {
    /// Whether an idle connection is still good: open, and silent since its last response.
    ///
    /// Asks the reactor's notes first, so that a healthy idle connection costs no system call.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match self {
            Self::Tcp(tcp) => {
                matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(tls) => {
                // A session ticket may have arrived meanwhile; only the TLS layer can tell it
                // from data or an end.
                let mut buffer = ReadBuf::new(&mut byte);
                let waker = std::task::Waker::noop();
                let mut context = Context::from_waker(waker);
                Pin::new(&mut **tls).poll_read(&mut context, &mut buffer).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
