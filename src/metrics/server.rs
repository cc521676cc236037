//! The exporter: answers scrapes over HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use super::Metrics;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `GET path` on `listener` with the exposition text until `stop` ends, and ticks the
/// metrics meanwhile.
///
/// `refresh` runs before each scrape, so that gauges can be brought up to date. It and the
/// encoding run on a blocking thread: a scrape of many series holds up neither workers nor the
/// control runtime. Anything but `GET path` is a 404.
pub async fn serve(
    listener: TcpListener,
    path: String,
    refresh: impl Fn() + Send + Sync + 'static,
    metrics: Arc<Metrics>,
    stop: impl Future,
) {
    let exporter = Arc::new(Exporter {
        path,
        refresh,
        metrics: metrics.clone(),
    });
    let mut ticks = tokio::time::interval(metrics.tick_interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connections = tokio::task::JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = ticks.tick() => {
                let metrics = metrics.clone();
                // Awaited, so that ticks do not pile up; a panic inside costs one tick.
                let _ = tokio::task::spawn_blocking(move || metrics.tick()).await;
                while connections.try_join_next().is_some() {}
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let exporter = exporter.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(exporter.clone(), request));
                        let served = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "metrics connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "metrics listener could not accept");
                    // Out of descriptors, most likely: asking again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

struct Exporter<F> {
    path: String,
    refresh: F,
    metrics: Arc<Metrics>,
}

async fn answer<F: Fn() + Send + Sync + 'static, B>(
    exporter: Arc<Exporter<F>>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET || request.uri().path() != exporter.path {
        return Ok(respond(StatusCode::NOT_FOUND, String::new()));
    }
    let encoded = tokio::task::spawn_blocking(move || {
        (exporter.refresh)();
        exporter.metrics.encode()
    });
    Ok(match encoded.await {
        Ok(text) => respond(StatusCode::OK, text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            respond(StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    })
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
