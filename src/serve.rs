//! HTTP for the node's own services: Admin API, control API, status, metrics.
//!
//! One accept loop on the control runtime, HTTP/1.1 through hyper, TLS where a service has it.
//! Knows nothing of what is answered; the request road has listeners of its own (`proxy`).

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for its handshake or for a request's head; also how long an idle
/// connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long requests under way are waited for when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A service's listener and how it is spoken to.
pub struct Endpoint {
    /// For logs: `admin`.
    pub name: &'static str,
    pub listener: TcpListener,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Answers requests with `answer`, which is told the peer, until `stop` ends; requests under
    /// way are then finished within a few seconds.
    pub async fn run<A, F>(self, answer: A, stop: impl Future)
    where
        A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let tls = self.tls.map(TlsAcceptor::from);
        let graceful = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                _ = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(service = self.name, %error, "could not accept a connection");
                    // Out of descriptors, most likely: asking again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let answer = answer.clone();
            let name = self.name;
            let watcher = graceful.watcher();
            let tls = tls.clone();
            tokio::spawn(async move {
                let served = match tls {
                    None => serve(stream, peer, answer, watcher).await,
                    Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await
                    {
                        Ok(Ok(stream)) => serve(stream, peer, answer, watcher).await,
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err("the TLS handshake took too long".to_owned()),
                    },
                };
                if let Err(error) = served {
                    tracing::debug!(service = name, %peer, error, "connection ended");
                }
            });
        }
        drop(self.listener);
        // What takes longer is cut with the runtime.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
    }
}

async fn serve<IO, A, F>(
    io: IO,
    peer: SocketAddr,
    answer: A,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request, peer);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    watcher.watch(connection).await.map_err(|error| error.to_string())
}
