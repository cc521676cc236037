//! A byte stream of either side of the gateway: plain or TLS.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// The byte stream under a connection.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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

    /// Whether the other side has said that nothing reaches it any more.
    pub fn is_broken(&self) -> bool {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        !matches!(tcp.take_error(), Ok(None))
    }

    /// Has the connection end in a way that cannot be taken for the end of what was sent: TLS has one
    /// of its own, which is not sent then; TCP resets.
    pub fn break_off(&self) {
        if let Self::Tcp(tcp) = self {
            // Where it cannot be set the connection is gone already.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads what there is into `buffer`, where room is made for about `size` bytes; 0 is the end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_fill(
        &mut self,
        buffer: &mut BytesMut,
        size: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // Half-used space is better filled up than moved.
        if buffer.capacity() - buffer.len() < size / 2 {
            buffer.reserve(size);
        }
        // The future holds nothing between polls, so it can be made anew each time.
        pin!(self.read_buf(buffer)).poll(cx)
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
