//! The control API: what this node serves, what it refused and why. Reads only, but for a pull of
//! secrets.
//!
//! [`explain`] tells what becomes of a request, [`resources`] of what is stored, [`node`] of the
//! node itself: its state, rejections and certificates, [`secrets`] of what is read from secret
//! managers, never a value. Status
//! and readiness have a port of their own, for load balancers.
//!
//! Source: APISIX `docs/en/latest/control-api.md`, `control/v1.lua`, `status`.

mod explain;
mod node;
mod resources;
mod secrets;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::proxy;
use crate::secret::Secrets;
use crate::serve::Endpoint;
use crate::snapshot::Published;
use crate::snapshot::publish::Shared;
use crate::store::ConfigStore;

/// What the control API tells of.
pub struct Parts {
    pub compiler: Shared,
    pub published: Published,
    /// By which requests are read.
    pub proxy_settings: Arc<proxy::Settings>,
    pub secrets: Secrets,
    pub store: Arc<dyn ConfigStore>,
    /// Whether a first snapshot is applied.
    pub ready: watch::Receiver<bool>,
    pub version: &'static str,
    pub node_id: String,
    pub cluster: Arc<Cluster>,
    /// `etcd`, `embedded`, `yaml` or `json`.
    pub provider: &'static str,
}

/// The control API and the status service.
pub struct Control {
    parts: Parts,
    started: Instant,
}

/// A status and what is said with it.
type Answer = (StatusCode, Value);

// === impl Control ===

impl Control {
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts, started: Instant::now() })
    }

    /// Answers the control API on `endpoint` until `stop` ends.
    pub async fn serve(self: Arc<Self>, endpoint: Endpoint, stop: impl Future) {
        let answer = move |request, _: SocketAddr| {
            let control = self.clone();
            async move {
                let answer = if is_pull(&request) {
                    let query = request.uri().query().unwrap_or_default();
                    control.refresh_secrets(request.headers(), query).await
                } else {
                    control.answer(request.uri()).await
                };
                respond(&request, answer)
            }
        };
        endpoint.run(answer, stop).await;
    }

    /// Answers `/status` and `/status/ready` on `endpoint` until `stop` ends.
    pub async fn serve_status(self: Arc<Self>, endpoint: Endpoint, stop: impl Future) {
        let answer = move |request, _: SocketAddr| {
            let control = self.clone();
            async move { respond(&request, control.status(request.uri().path())) }
        };
        endpoint.run(answer, stop).await;
    }

    async fn answer(&self, uri: &Uri) -> Answer {
        let Some(path) = uri.path().strip_prefix("/v1/") else {
            return not_found();
        };
        match path {
            "status" => (StatusCode::OK, self.node_status()),
            "explain" => self.explain(uri.query().unwrap_or_default()),
            "nodes" => self.nodes().await,
            "rejected" => (StatusCode::OK, self.rejected()),
            "secrets" => (StatusCode::OK, self.secrets()),
            "secrets/refresh" => {
                let said = "expected POST: secrets are pulled";
                (StatusCode::METHOD_NOT_ALLOWED, json!({ "error_msg": said }))
            }
            "certificates" => (StatusCode::OK, self.certificates()),
            "schema" => (StatusCode::OK, resources::schemas()),
            // There are no active health checks in this version.
            "healthcheck" => (StatusCode::OK, json!([])),
            path => self.resource(path).await,
        }
    }

    fn status(&self, path: &str) -> Answer {
        match path {
            "/status" => (StatusCode::OK, json!({ "status": "ok" })),
            "/status/ready" if *self.parts.ready.borrow() => {
                (StatusCode::OK, json!({ "status": "ok" }))
            }
            "/status/ready" => {
                let error = format!("no config has come from {} yet", self.parts.provider);
                (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "error", "error": error }))
            }
            _ => not_found(),
        }
    }
}

fn not_found() -> Answer {
    (StatusCode::NOT_FOUND, json!({ "error_msg": "not found" }))
}

/// Whether secrets are to be pulled: all that is not reading here.
fn is_pull<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == secrets::REFRESH
}

fn respond<B>(request: &Request<B>, (status, body): Answer) -> Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, body) = if reads || is_pull(request) {
        (status, body)
    } else {
        let said = "expected GET: this API only reads";
        (StatusCode::METHOD_NOT_ALLOWED, json!({ "error_msg": said }))
    };
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
