//! An HTTP/1.1 origin server for tests, whose path says how it behaves.
//!
//! | path | answer |
//! |---|---|
//! | `/ip` | `{"origin": "<peer address>"}` |
//! | `/get`, `/anything/*`, and every other path | JSON echo: `method`, `uri`, `headers`, `body_bytes`, `body` |
//! | `/headers` | `{"headers": {…}}` |
//! | `/fields` | those of the request's fields whose names begin with `x-field-` |
//! | `/status/{code}` | that status, empty |
//! | `/bytes/{n}` | `n` bytes with Content-Length |
//! | `/stream/{n}/{size}` | `n` chunks of `size` bytes, chunked; `?ms=20` waits before each, `?held=1` before the last, for [`Origin::release`] |
//! | `/delay/{ms}` | JSON echo, after that time |
//! | `/held` | JSON echo, once [`Origin::release`] was called |
//! | `/close` | JSON echo with `Connection: close` |
//! | `/drop` | closes the connection without an answer |
//! | `/truncate/{n}` | promises `2n` bytes, sends `n`, closes |
//! | `/echo` | streams the request body back as it comes |
//! | `/ws` | WebSocket echo |
//!
//! Every answer carries the server's name in `x-origin`, so that balancing can be seen. In the
//! JSON echo, header names are lower case and a repeated header is a list.

use std::convert::Infallible;
use std::io::Error;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// A running origin server, on a thread of its own; stopped, its connections cut, when dropped.
pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What an origin saw of one request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub from: From,
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct From {
    /// Counted from 1, in the order in which they were accepted.
    pub connection: usize,
    /// The certificate that was shown for it, DER.
    pub certificate: Option<Vec<u8>>,
    peer: SocketAddr,
}

#[derive(Default)]
struct Shared {
    name: String,
    requests: AtomicUsize,
    connections: AtomicUsize,
    closed: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    /// Whether what is held may go.
    released: watch::Sender<bool>,
}

/// Of how many requests an origin remembers what it saw.
const REMEMBERED: usize = 1000;

// === impl Origin ===

impl Origin {
    /// Starts an origin named `origin` on a free port.
    pub async fn start() -> Self {
        Self::named("origin").await
    }

    /// Starts an origin whose answers carry `x-origin: {name}`.
    pub async fn named(name: &str) -> Self {
        Self::run(name, super::listen(), None)
    }

    /// Starts an origin on a given address: a node that comes back.
    pub async fn at(name: &str, addr: SocketAddr) -> Self {
        Self::run(name, StdListener::bind(addr).unwrap(), None)
    }

    /// Starts an HTTPS origin with a certificate chain and its key, both PEM.
    pub async fn start_tls(cert_pem: &str, key_pem: &str) -> Self {
        Self::run_tls(cert_pem, key_pem, WebPkiClientVerifier::no_client_auth())
    }

    /// The same, but for those who show a certificate of `ca_pem` only.
    pub async fn start_asking(cert_pem: &str, key_pem: &str, ca_pem: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Self::run_tls(cert_pem, key_pem, verifier.unwrap())
    }

    fn run_tls(cert_pem: &str, key_pem: &str, clients: Arc<dyn ClientCertVerifier>) -> Self {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::run("origin", super::listen(), Some(acceptor))
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `127.0.0.1:{port}`, as a node is written.
    pub fn node(&self) -> String {
        self.addr.to_string()
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many requests came so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.connections() - self.shared.closed.load(Ordering::SeqCst)
    }

    /// The first 1,000 requests, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Lets go what is held, now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Closes the listener and cuts every connection, as a node that dies does.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn run(name: &str, listener: StdListener, tls: Option<TlsAcceptor>) -> Self {
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let (stop, stopped) = oneshot::channel();
        // A thread of its own, so that a busy or blocked test does not slow its origin.
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    tokio::select! {
                        () = accept(listener, shared, tls) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            continue;
        };
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = socket.set_nodelay(true);
        let (shared, tls) = (shared.clone(), tls.clone());
        let mut from = From { connection, certificate: None, peer };
        tokio::spawn(async move {
            match tls {
                None => serve(socket, from, shared.clone()).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        let shown = socket.get_ref().1.peer_certificates();
                        from.certificate = shown.map(|chain| chain[0].to_vec());
                        serve(socket, from, shared.clone()).await;
                    }
                }
            }
            shared.closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}

async fn serve<S>(socket: S, from: From, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, from) = (shared.clone(), from.clone());
        async move {
            let peer = from.peer;
            shared.requests.fetch_add(1, Ordering::SeqCst);
            remember(&shared, &request, from);
            let mut response = answer(request, peer, &shared).await.map_err(Error::other)?;
            let name = HeaderValue::from_str(&shared.name).unwrap();
            response.headers_mut().insert("x-origin", name);
            Ok::<_, Error>(response)
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // A connection without a request is the gateway's to close.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
}

fn remember(shared: &Shared, request: &Request<Incoming>, from: From) {
    let mut seen = shared.seen.lock().unwrap();
    if seen.len() < REMEMBERED {
        seen.push(Seen {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            from,
        });
    }
}

/// The behaviour that the path names; an error makes hyper close without an answer.
async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
    match parts[0] {
        "ip" => Ok(with_json(&json!({ "origin": peer.ip() }))),
        "headers" => Ok(with_json(&json!({ "headers": headers_json(request.headers()) }))),
        "fields" => {
            let mut response = Response::new(empty());
            let fields = request.headers().iter();
            response.headers_mut().extend(
                fields
                    .filter(|(name, _)| name.as_str().starts_with("x-field-"))
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
            Ok(response)
        }
        "status" => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::from_u16(u16::try_from(number(1))?)?;
            Ok(response)
        }
        "bytes" => Ok(with_bytes(usize::try_from(number(1))?)),
        "stream" => {
            let pause = query_number(request.uri(), "ms");
            let held = query_number(request.uri(), "held") > 0;
            let held = held.then(|| shared.released.subscribe());
            Ok(Response::new(chunks(number(1), usize::try_from(number(2))?, pause, held)))
        }
        "delay" => {
            tokio::time::sleep(Duration::from_millis(number(1))).await;
            echo_json(request).await
        }
        "held" => {
            released(shared.released.subscribe()).await;
            echo_json(request).await
        }
        "close" => {
            let mut response = echo_json(request).await?;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
        "drop" => Err("closed without an answer, as asked".into()),
        "truncate" => Ok(truncated(usize::try_from(number(1))?)),
        "echo" => {
            let (head, body) = request.into_parts();
            let mut response = Response::new(body.map_err(Error::other).boxed_unsync());
            if let Some(kind) = head.headers.get(CONTENT_TYPE) {
                response.headers_mut().insert(CONTENT_TYPE, kind.clone());
            }
            Ok(response)
        }
        "ws" => Ok(websocket(request)),
        _ => echo_json(request).await,
    }
}

fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

fn never(never: Infallible) -> Error {
    match never {}
}

fn with_json(value: &Value) -> Response<Body> {
    let body = Full::from(value.to_string()).map_err(never).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn with_bytes(length: usize) -> Response<Body> {
    let body = Full::from(vec![b'x'; length]).map_err(never).boxed_unsync();
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn released(mut held: watch::Receiver<bool>) {
    // An error: the origin is gone, and whoever waits with it.
    let _ = held.wait_for(|released| *released).await;
}

fn chunks(count: u64, size: usize, pause_ms: u64, held: Option<watch::Receiver<bool>>) -> Body {
    let chunk = Bytes::from(vec![b'x'; size]);
    let stream = stream::unfold(0, move |sent| {
        let (chunk, held) = (chunk.clone(), held.clone());
        async move {
            if sent == count {
                return None;
            }
            if pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
            if let Some(held) = held.filter(|_| sent + 1 == count) {
                released(held).await;
            }
            Some((Ok(Frame::data(chunk)), sent + 1))
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

fn truncated(length: usize) -> Response<Body> {
    let half = Bytes::from(vec![b'x'; length]);
    let frames = [Ok(Frame::data(half)), Err(Error::other("cut short, as asked"))];
    // A pause between the two, so that hyper flushes the first half before it closes.
    let stream = stream::iter(frames).then(|frame| async {
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        frame
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(2 * length));
    response
}

async fn echo_json(request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(with_json(&json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers_json(&head.headers),
        "body_bytes": body.len(),
        "body": std::str::from_utf8(&body).ok().filter(|text| text.len() <= 65_536),
    })))
}

fn headers_json(headers: &HeaderMap) -> Value {
    let mut json = serde_json::Map::new();
    for name in headers.keys() {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut values: Vec<String> = headers.get_all(name).iter().map(text).collect();
        let value = if values.len() == 1 { json!(values.remove(0)) } else { json!(values) };
        json.insert(name.as_str().to_owned(), value);
    }
    Value::Object(json)
}

fn query_number(uri: &Uri, name: &str) -> u64 {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

/// Answers the handshake of RFC 6455 and sends every message back.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(empty());
    let Some(key) = request.headers().get("sec-websocket-key") else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).unwrap();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
        let _ = socket.close(None).await;
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept);
    response
}

#[tokio::test]
async fn behaves_as_its_paths_say() {
    let origin = Origin::named("a").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", origin.addr());
    let get = |path: &str| client.get(url(path)).send();

    let ip = get("/ip").await.unwrap();
    assert_eq!(ip.headers()["x-origin"], "a");
    assert_eq!(ip.json::<Value>().await.unwrap(), json!({ "origin": "127.0.0.1" }));

    let post =
        client.post(url("/anything/x?y=1")).header("X-A", "1").header("X-A", "2").body("abc");
    let echo: Value = post.send().await.unwrap().json().await.unwrap();
    assert_eq!((&echo["method"], &echo["uri"]), (&json!("POST"), &json!("/anything/x?y=1")));
    assert_eq!((&echo["headers"]["x-a"], &echo["body_bytes"]), (&json!(["1", "2"]), &json!(3)));

    assert_eq!(get("/status/418").await.unwrap().status(), 418);
    assert_eq!(get("/delay/1").await.unwrap().status(), 200);
    let (held, ()) = tokio::join!(get("/held"), async { origin.release() });
    assert_eq!(held.unwrap().status(), 200);
    let stream = get("/stream/2/10?held=1").await.unwrap();
    assert_eq!(stream.bytes().await.unwrap().len(), 20);
    let bytes = get("/bytes/1000").await.unwrap();
    assert_eq!((bytes.content_length(), bytes.bytes().await.unwrap().len()), (Some(1000), 1000));
    let stream = get("/stream/3/10?ms=1").await.unwrap();
    assert_eq!(stream.headers()["transfer-encoding"], "chunked");
    assert_eq!(stream.bytes().await.unwrap().len(), 30);
    assert_eq!(get("/close").await.unwrap().headers()["connection"], "close");
    let echoed = client.post(url("/echo")).body("abc").send().await.unwrap();
    assert_eq!(echoed.text().await.unwrap(), "abc");
    assert!(get("/drop").await.is_err());
    let cut = get("/truncate/100").await.unwrap();
    assert_eq!(cut.content_length(), Some(200));
    assert!(cut.bytes().await.is_err());

    assert_eq!(origin.seen()[1].uri.path(), "/anything/x");
    assert!(origin.requests() >= 10 && origin.connections() >= 2);
}

#[tokio::test]
async fn echoes_websocket_messages() {
    let origin = Origin::start().await;
    let socket = tokio::net::TcpStream::connect(origin.addr()).await.unwrap();
    let (mut socket, response) =
        tokio_tungstenite::client_async("ws://origin/ws", socket).await.unwrap();
    assert_eq!(response.headers()["x-origin"], "origin");
    socket.send("hello".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "hello");
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn serves_https_and_stops_for_good() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let mut origin = Origin::start_tls(&cert.pem(), &signing_key.serialize_pem()).await;
    let ca = reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .resolve("origin.test", origin.addr())
        .build()
        .unwrap();
    let url = format!("https://origin.test:{}/get", origin.addr().port());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    origin.stop();
    assert!(client.get(&url).send().await.is_err());

    let back = Origin::at("again", origin.addr()).await;
    assert_eq!(back.name(), "again");
}
