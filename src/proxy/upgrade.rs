//! After a 101: bytes both ways, whatever they mean.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::exchange::Exchange;
use crate::tls::stream::Stream;

/// The node's side of an upgraded connection, and the exchange that it belongs to.
pub(super) struct Tunnel {
    pub(super) exchange: Box<Exchange>,
    pub(super) stream: Stream,
    /// What the node sent right behind its head.
    pub(super) early: Bytes,
    /// How long nothing may pass.
    pub(super) idle: Duration,
}

/// A stream that notes when it last moved a byte.
struct Noted<S> {
    inner: S,
    moved: Rc<Cell<Instant>>,
    /// Bytes read.
    read: Rc<Cell<u64>>,
}

// === impl Tunnel ===

impl Tunnel {
    /// Copies until one side ends, breaks, or nothing has passed for the idle time.
    pub(super) async fn run<IO>(self: Box<Self>, mut client: IO, early: Bytes) -> io::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { mut exchange, mut stream, early: from_node, idle } = *self;
        client.write_all(&from_node).await?;
        stream.write_all(&early).await?;
        let moved = Rc::new(Cell::new(Instant::now()));
        let read = Rc::new(Cell::new(from_node.len() as u64));
        let mut node = Noted { inner: stream, moved: moved.clone(), read: read.clone() };
        let copied = {
            let mut copying = pin!(tokio::io::copy_bidirectional(&mut client, &mut node));
            loop {
                let deadline = tokio::time::Instant::from_std(moved.get() + idle);
                tokio::select! {
                    copied = &mut copying => break copied,
                    () = tokio::time::sleep_until(deadline) => {
                        if moved.get().elapsed() >= idle {
                            break Err(io::ErrorKind::TimedOut.into());
                        }
                    }
                }
            }
        };
        exchange.ctx.body_bytes_sent += read.get();
        copied.map(drop)
    }
}

// === impl Noted ===

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buffer);
        if read.is_ready() {
            this.moved.set(Instant::now());
            this.read.set(this.read.get() + (buffer.filled().len() - before) as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        if written.is_ready() {
            this.moved.set(Instant::now());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
