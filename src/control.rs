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

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, request};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
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

/// The largest request that somebody may send here: the largest body whose variables a node has a
/// value for unless it is told otherwise (`apisix.max_post_args_readable_size`).
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What is asked for by `POST`.
enum Post {
    /// Secrets are to be pulled: all that is not reading here.
    Pull,
    /// A request with a body is to be explained.
    Explain,
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
        let answer = move |request: Request<_>, _: SocketAddr| {
            let control = self.clone();
            async move {
                let (head, body) = request.into_parts();
                let query = head.uri.query().unwrap_or_default();
                let answer = match Post::of(&head) {
                    None => control.answer(&head.uri).await,
                    Some(Post::Pull) => control.refresh_secrets(&head.headers, query).await,
                    Some(Post::Explain) => match whole(body).await {
                        Ok(body) => control.explain(query, Some(body)),
                        Err(refusal) => refusal,
                    },
                };
                respond(&head, answer)
            }
        };
        endpoint.run(answer, stop).await;
    }

    /// Answers `/status` and `/status/ready` on `endpoint` until `stop` ends.
    pub async fn serve_status(self: Arc<Self>, endpoint: Endpoint, stop: impl Future) {
        let answer = move |request, _: SocketAddr| {
            let control = self.clone();
            async move {
                let (head, _) = Request::into_parts(request);
                respond(&head, control.status(head.uri.path()))
            }
        };
        endpoint.run(answer, stop).await;
    }

    async fn answer(&self, uri: &Uri) -> Answer {
        let Some(path) = uri.path().strip_prefix("/v1/") else {
            return not_found();
        };
        match path {
            "status" => (StatusCode::OK, self.node_status()),
            "explain" => self.explain(uri.query().unwrap_or_default(), None),
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

// === impl Post ===

impl Post {
    fn of(head: &request::Parts) -> Option<Self> {
        match head.uri.path() {
            _ if head.method != Method::POST => None,
            secrets::REFRESH => Some(Self::Pull),
            explain::PATH => Some(Self::Explain),
            _ => None,
        }
    }
}

fn not_found() -> Answer {
    (StatusCode::NOT_FOUND, json!({ "error_msg": "not found" }))
}

/// All that is taken of a request's body.
///
/// # Errors
/// What to answer when it is larger than that, or breaks off.
async fn whole<B>(body: B) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let read = Limited::new(body, MOST_BYTES).collect().await;
    read.map(|read| read.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let said = format!("expected a body of at most {MOST_BYTES} bytes");
            (StatusCode::PAYLOAD_TOO_LARGE, json!({ "error_msg": said }))
        } else {
            let said = format!("the body broke off: {error}");
            (StatusCode::BAD_REQUEST, json!({ "error_msg": said }))
        }
    })
}

fn respond(head: &request::Parts, (status, body): Answer) -> Response<Full<Bytes>> {
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let (status, body) = if reads || Post::of(head).is_some() {
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
