//! One exchange, from the first byte of the request to its log line.
//!
//! [`Ctx`] is what plugins see: the request as it will be sent on, what the matched route is told by,
//! the consumer that authenticated, and later the response. It does no I/O and never holds the
//! compiled route. It lives and dies on one worker, so nothing in it is `Send`.

mod consumer;
mod payload;
mod response;
mod tls;
mod labels;
mod urlencoded;
mod variables;
#[cfg(test)]
pub(crate) mod rig;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use smallvec::SmallVec;

pub use self::consumer::{Consumer, Consumers};
pub use self::labels::Labels;
pub use self::payload::{Limits, Payload, admits};
pub use self::response::Response;
pub use self::tls::TlsSession;
pub use self::urlencoded::decoded;
use crate::clock;
use crate::router::{Captured, Target};

/// What the upstream is told of the consumer. Names, not texts: a text is read anew each time.
const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");

/// One exchange.
pub struct Ctx {
    /// The connection that the request came in on.
    pub client: Rc<Client>,
    /// The client's address: the peer's, or what a trusted peer says it is.
    pub remote: SocketAddr,
    /// The request as it will be sent on; plugins rewrite it.
    pub request: Request,
    /// Its body, where a variable asks for it.
    pub payload: Payload,
    /// What plugins decided about the way to the upstream.
    pub outgoing: Outgoing,
    /// What the matched route is told by; all empty before and without a match.
    pub route: Labels,
    /// What the parameters of the route's path stand for.
    pub uri_params: Captured,
    /// Every consumer, for the plugins that authenticate.
    pub consumers: Rc<Consumers>,
    /// Who authenticated, if a plugin asked.
    pub consumer: Option<Arc<Consumer>>,
    /// The response, from its head on.
    pub response: Response,
    /// The tries to reach the upstream, in order.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// When the first byte of the request had been read.
    pub start: Instant,
    /// Bytes read from the client: head and body.
    pub bytes_received: u64,
    /// Bytes of response body handed to the client's connection.
    pub body_bytes_sent: u64,
    /// The worker's metric cells.
    pub metrics: Rc<crate::metrics::Worker>,
    /// Made up when it is asked for.
    pub request_id: OnceCell<[u8; 32]>,
    /// What Lua functions keep of the exchange; nothing until one runs.
    pub kept: RefCell<Option<Rc<dyn Kept>>>,
    /// An answer that was begun (`ngx.say`): it is given when every plugin has been asked.
    pub said: Option<Box<Reply>>,
}

/// What Lua functions keep of an exchange from one phase to the next: the `lua` room's own. Here it
/// is only carried, and asked for the variables that no other part knows.
pub trait Kept: Any {
    /// The value of a variable that a function has set or makes up.
    fn variable(&self, ctx: &Ctx, name: &str) -> Option<String>;
}

/// The downstream connection.
#[derive(Debug)]
pub struct Client {
    pub peer: SocketAddr,
    /// The peer's IP as text: what upstreams are told, unless a trusted peer says otherwise.
    pub peer_ip: Box<str>,
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The server name of the TLS handshake, lower case.
    pub sni: Option<Box<str>>,
    /// Set when the connection is TLS.
    pub tls: Option<Box<TlsSession>>,
    /// The connection's number; no other of this process has it.
    pub serial: u64,
    /// When it was accepted.
    pub since: Instant,
    /// Requests that have begun on it.
    pub requests: Cell<u64>,
}

/// The request head, owned by the exchange.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// The target as it came.
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    /// The path that routes are matched by: decoded, slashes merged, dot segments resolved.
    /// `None` when that is the path as it came.
    pub normalized_path: Option<Box<str>>,
    /// The path that routes are matched by, where that is another one: with its encoded slashes
    /// left as they are (`match_uri_encoded_slash`). Nobody but the router looks at it.
    pub matched_path: Option<Box<str>>,
    /// The host without its port, as sent: from the target or the `Host` header.
    pub host: Option<Box<str>>,
    /// The first line of what could not be read as a request, as it came; nothing else of this
    /// was sent then.
    pub unread: Option<Box<str>>,
}

/// What the upstream will be asked, where it differs from what the client asked.
#[derive(Debug, Default)]
pub struct Outgoing {
    pub method: Option<Method>,
    /// Path and query of the request line.
    pub path_and_query: Option<String>,
    /// The path that is the request's own by now for whoever asks nginx (`ngx.req.set_uri`).
    pub renamed: Option<Box<str>>,
    pub host: Option<HeaderValue>,
    /// Scheme of the upstream, for logs.
    pub scheme: &'static str,
    /// Capture groups of the expression that rewrote the path; index 0 is the whole match.
    pub captures: Vec<String>,
}

/// One try to reach a node.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub addr: SocketAddr,
    /// The node's IP as a label value.
    pub node: Arc<str>,
    /// The node's host as written, where that is not its IP.
    pub host: Option<Arc<str>>,
    pub began: Instant,
    /// The node's status; 502 or 504, as nginx writes it, when it gave none.
    pub status: Option<u16>,
    /// Time to a connection, `None` for a kept-alive one.
    pub connect: Option<Duration>,
    /// Time to the response head.
    pub header: Option<Duration>,
    /// Time to the end of the response body, as far as it has come.
    pub response: Option<Duration>,
}

/// A piece of a response's body on its way to the client, for plugins to change.
#[derive(Debug, Default)]
pub struct Chunk {
    /// May be empty, and is where a body ends after its last piece.
    pub data: Bytes,
    /// Whether the body ends with it.
    pub is_last: bool,
}

/// A response that a plugin gives instead of the upstream.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

// === impl Ctx ===

impl Ctx {
    /// The client's address.
    pub fn remote_ip(&self) -> IpAddr {
        self.remote.ip()
    }

    /// The path that routes are matched by.
    pub fn path(&self) -> &str {
        self.request.path()
    }

    /// The query of the request, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.request.uri.query()
    }

    /// Makes `consumer` the one this exchange is for, and tells the upstream its name.
    ///
    /// Source: APISIX `consumer.attach_consumer`.
    pub fn attach(&mut self, consumer: Arc<Consumer>) {
        let headers = &mut self.request.headers;
        // Hardly any client claims to be one: a look at the names that there are costs less than
        // the hashes of two that are not.
        if headers.keys().any(|name| *name == CONSUMER_CUSTOM_ID || *name == CREDENTIAL_IDENTIFIER)
        {
            headers.remove(CONSUMER_CUSTOM_ID);
            headers.remove(CREDENTIAL_IDENTIFIER);
        }
        headers.insert(CONSUMER_USERNAME, consumer.username.clone());
        if let Some(id) = &consumer.custom_id {
            headers.insert(CONSUMER_CUSTOM_ID, id.clone());
        }
        if let Some(id) = &consumer.credential_id {
            headers.insert(CREDENTIAL_IDENTIFIER, id.clone());
        }
        self.consumer = Some(consumer);
    }

    /// The upstream's part of the time: from the first try to its last byte, as far as it has
    /// come. `None` when no node was tried.
    pub fn upstream_time(&self) -> Option<Duration> {
        let mut spent = self
            .attempts
            .iter()
            .filter_map(|attempt| attempt.response.or(attempt.header).or(attempt.connect));
        let first = spent.next()?;
        Some(spent.fold(first, |sum, one| sum + one))
    }

    /// Bytes of response sent to the client: head, as HTTP/1.1 writes it, and body.
    pub fn bytes_sent(&self) -> u64 {
        self.body_bytes_sent + self.response.head_bytes
    }

    /// Takes arguments out of the query, as sent and as it will be sent on: those that `keep` says
    /// no to. `keep` is given one argument at a time, `name=value`, not decoded.
    pub fn retain_arguments(&mut self, keep: impl Fn(&str) -> bool) {
        let retained = |target: &str| {
            let (path, query) = target.split_once('?')?;
            let kept: Vec<&str> = query.split('&').filter(|argument| keep(argument)).collect();
            Some(if kept.is_empty() {
                path.to_owned()
            } else {
                format!("{path}?{}", kept.join("&"))
            })
        };
        let mut parts = self.request.uri.clone().into_parts();
        let sent = parts.path_and_query.as_ref().and_then(|target| retained(target.as_str()));
        // What came out of a valid target and lost only some of its arguments is still one.
        if let Some(Ok(target)) = sent.map(|target| target.parse()) {
            parts.path_and_query = Some(target);
            if let Ok(uri) = Uri::from_parts(parts) {
                self.request.uri = uri;
            }
        }
        if let Some(target) = self.outgoing.path_and_query.as_deref().and_then(retained) {
            self.outgoing.path_and_query = Some(target);
        }
    }

    /// What the phases before the upstream came to: `decided`, after what was said before it.
    pub fn settle(&mut self, decided: Option<Box<Reply>>) -> Option<Box<Reply>> {
        let Some(mut said) = self.said.take() else {
            return decided;
        };
        if let Some(decided) = decided {
            said.push(&decided.body);
        }
        Some(said)
    }

    /// The exchange's own id: 32 hexadecimal digits, the same whenever it is asked for.
    pub fn request_id(&self) -> &str {
        let digits = self.request_id.get_or_init(|| {
            let random = fastrand::u128(..).to_le_bytes();
            let halves = random.map(|byte| [byte >> 4, byte & 15]);
            let mut digits = [0; 32];
            for (digit, half) in digits.iter_mut().zip(halves.as_flattened()) {
                *digit = half + if *half < 10 { b'0' } else { b'a' - 10 };
            }
            digits
        });
        // SAFETY: they are ASCII, and that is UTF-8.
        #[allow(unsafe_code)]
        unsafe {
            std::str::from_utf8_unchecked(digits)
        }
    }

    /// The time from the first byte of the request until now.
    pub fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }
}

// === impl Request ===

impl Request {
    /// The path as it was read: decoded, slashes merged, dot segments resolved.
    pub fn path(&self) -> &str {
        self.normalized_path.as_deref().unwrap_or_else(|| self.uri.path())
    }

    /// What the router is asked for, as far as the head tells it in itself: without authority and
    /// variables.
    pub fn target(&self) -> Target<'_> {
        let path = self.matched_path.as_deref().unwrap_or_else(|| self.path());
        Target { host: self.host.as_deref(), path, ..Target::default() }
    }
}

// === impl Reply ===

impl Reply {
    /// A JSON body, as APISIX's `core.response.exit` gives it: a line end after the object.
    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, body: Bytes::from(format!("{body}\n")) }
    }

    /// A status with the gateway's own page for it.
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Adds to the body.
    pub fn push(&mut self, text: &[u8]) {
        // Nobody shares it, so its memory is taken over.
        let mut body = Vec::from(std::mem::take(&mut self.body));
        body.extend_from_slice(text);
        self.body = body.into();
    }
}
