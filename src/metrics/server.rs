//! The exporter: answers scrapes over HTTP.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::MissedTickBehavior;

use super::Metrics;
use crate::serve::Endpoint;

/// Answers `GET path` on `endpoint` with the exposition text until `stop` ends.
///
/// `refresh` runs before each scrape, so that gauges can be brought up to date. It and the
/// encoding run on a blocking thread: a scrape of many series holds up neither workers nor the
/// control runtime. Anything but `GET path` is a 404.
pub async fn serve(
    endpoint: Endpoint,
    path: String,
    refresh: impl Fn() + Send + Sync + 'static,
    metrics: Arc<Metrics>,
    stop: impl Future,
) {
    let exporter = Arc::new(Exporter { path, refresh, metrics });
    let answer = move |request, _| answer(exporter.clone(), request);
    endpoint.run(answer, stop).await;
}

/// Ticks `metrics` until `stop` ends.
pub async fn tick(metrics: Arc<Metrics>, stop: impl Future) {
    let mut ticks = tokio::time::interval(metrics.tick_interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = ticks.tick() => {
                let metrics = metrics.clone();
                // Awaited, so that ticks do not pile up; a panic inside costs one tick.
                let _ = tokio::task::spawn_blocking(move || metrics.tick()).await;
            }
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
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != exporter.path {
        return respond(StatusCode::NOT_FOUND, String::new());
    }
    // The request's body may not cross into the blocking thread.
    drop(request);
    let encoded = tokio::task::spawn_blocking(move || {
        (exporter.refresh)();
        exporter.metrics.encode()
    });
    match encoded.await {
        Ok(text) => respond(StatusCode::OK, text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            respond(StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    }
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
