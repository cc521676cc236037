//! Asking a node: pick, connect, send, receive, and the next node where that is right.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use rustls_pki_types::ServerName;
use smallvec::SmallVec;

use super::body::{self, Body, Streaming};
use super::exchange::Exchange;
use super::head::{self, Told};
use super::trailers::Trimmed;
use super::upgrade::Tunnel;
use super::{host, request, respond};
use crate::clock;
use crate::context::Attempt;
use crate::http1::response::Head;
use crate::upstream::h1::{Connection, Outbound, Sending};
use crate::upstream::{Endpoint, Failure, PassHost, Scheme, Timeouts, Upstream, connection};

/// A node's answer and the connection that it came on.
struct Answer {
    connection: Box<Connection>,
    head: Head,
    sending: Sending,
}

/// What does not change from one try to the next.
struct Plan<'a> {
    upstream: &'a Upstream,
    timeouts: &'a Timeouts,
    method: Method,
    outbound: Outbound,
    upgrade: bool,
}

/// Sends the request to a node of its route and answers with what the node says.
pub(super) async fn forward(mut exchange: Box<Exchange>) -> Response<Body> {
    let Some(route) = exchange.route.clone() else {
        return respond::reply(exchange, respond::no_route());
    };
    let route = route.get();
    let Some(upstream) = &route.upstream else {
        return respond::unavailable(exchange, "the route has no upstream");
    };
    let outbound = outbound(&exchange);
    // Not before the plugins have run, as in APISIX: who may not ask is not told of sizes.
    if matches!(outbound, Outbound::Length(length) if !exchange.body.admits(length)) {
        return respond::refuse(exchange, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let ctx = &exchange.ctx;
    let plan = Plan {
        upstream,
        timeouts: route.timeouts(upstream),
        method: ctx.outgoing.method.clone().unwrap_or_else(|| ctx.request.method.clone()),
        outbound,
        upgrade: route.websocket
            && exchange.body.is_end_stream()
            && ctx.request.headers.get(header::UPGRADE).is_some_and(may_switch),
    };
    match ask(&mut exchange, &plan).await {
        Ok(answer) => accept(exchange, answer, &plan),
        Err(failure) => respond::fail(exchange, &failure),
    }
}

/// Whether a client may switch to `protocol`. Not to HTTP/2: its requests would pass by the routes
/// and their plugins.
fn may_switch(protocol: &HeaderValue) -> bool {
    let mut protocols = protocol.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    !protocols.any(|name| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2")))
}

fn outbound(exchange: &Exchange) -> Outbound {
    if exchange.body.is_end_stream() {
        return Outbound::Empty;
    }
    match request::content_length(&exchange.ctx.request.headers) {
        Some(length) => Outbound::Length(length),
        None => Outbound::Chunked,
    }
}

/// Tries nodes until one answers, or none may be tried any more.
async fn ask(exchange: &mut Exchange, plan: &Plan<'_>) -> Result<Answer, Failure> {
    let upstream = plan.upstream;
    exchange.ctx.outgoing.scheme = upstream.scheme.as_str();
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    let began = clock::now();
    let mut failure = Failure::NoNode;
    let mut left = None;
    loop {
        let (endpoint, nodes) = {
            let nodes = upstream.nodes.load();
            (nodes.pick(&tried).cloned(), nodes.len())
        };
        let Some(endpoint) = endpoint else {
            return Err(failure);
        };
        let retries = left.get_or_insert_with(|| {
            upstream.retries.unwrap_or_else(|| u32::try_from(nodes.saturating_sub(1)).unwrap_or(0))
        });
        tried.push(endpoint.id);
        failure = match attempt(exchange, plan, &endpoint).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let too_late = !upstream.retry_timeout.is_zero()
            && clock::now().saturating_duration_since(began) > upstream.retry_timeout;
        if *retries == 0 || too_late || !may_retry(exchange, plan, &failure) {
            return Err(failure);
        }
        *retries -= 1;
        exchange.worker.warn_of(upstream, &endpoint, &failure);
    }
}

/// Whether another node may be asked after `failure`: always when the request never reached one;
/// else when it can be sent again and asking twice does no harm (nginx's `proxy_next_upstream`).
fn may_retry(exchange: &Exchange, plan: &Plan<'_>, failure: &Failure) -> bool {
    match failure {
        Failure::RequestBody => false,
        Failure::Connect { .. } | Failure::ConnectTimeout { .. } => true,
        _ => exchange.body.is_untouched() && is_idempotent(&plan.method),
    }
}

/// nginx counts POST, LOCK and PATCH as not idempotent.
fn is_idempotent(method: &Method) -> bool {
    !(*method == Method::POST || *method == Method::PATCH || method.as_str() == "LOCK")
}

/// Asks one node. A kept-alive connection that turns out to be closed is replaced by a fresh one,
/// once, and only where asking twice does no harm: the node may have seen the request.
async fn attempt(
    exchange: &mut Exchange,
    plan: &Plan<'_>,
    endpoint: &Arc<Endpoint>,
) -> Result<Answer, Failure> {
    let host = told_host(exchange, plan, endpoint);
    // Connections over TLS are kept apart by the name that was shown to the node.
    let name = match plan.upstream.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(host.as_bytes()),
    };
    let began = clock::now();
    exchange.ctx.attempts.push(Attempt {
        addr: endpoint.addr,
        node: endpoint.label.clone(),
        host: endpoint.name.clone(),
        began,
        status: None,
        connect: None,
        header: None,
        response: None,
    });
    let mut replay = false;
    let outcome = loop {
        let kept = if replay { None } else { exchange.worker.pool.take(endpoint.id, name, began) };
        let is_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            // Boxed apart: most exchanges need no new connection, and no room for opening one.
            None => match Box::pin(connect(plan, endpoint, &host)).await {
                Ok(connection) => {
                    note(exchange, |attempt| {
                        attempt.connect = Some(clock::now().saturating_duration_since(began))
                    });
                    connection
                }
                Err(failure) => break Err(failure),
            },
        };
        match send(exchange, plan, &host, connection).await {
            Err(Failure::Closed | Failure::Io(_))
                if is_kept && exchange.body.is_untouched() && is_idempotent(&plan.method) =>
            {
                replay = true;
            }
            outcome => break outcome,
        }
    };
    match &outcome {
        Ok(answer) => {
            let status = answer.head.status.as_u16();
            note(exchange, |attempt| {
                attempt.status = Some(status);
                attempt.header = Some(clock::now().saturating_duration_since(began));
            });
        }
        Err(failure) => {
            let status = respond::status_of(failure).as_u16();
            note(exchange, |attempt| {
                attempt.status = Some(status);
                attempt.response = Some(clock::now().saturating_duration_since(began));
            });
        }
    }
    outcome
}

fn note(exchange: &mut Exchange, change: impl FnOnce(&mut Attempt)) {
    if let Some(attempt) = exchange.ctx.attempts.last_mut() {
        change(attempt);
    }
}

/// The `Host` that the node is told.
fn told_host(exchange: &mut Exchange, plan: &Plan<'_>, endpoint: &Endpoint) -> HeaderValue {
    let outgoing = &mut exchange.ctx.outgoing;
    match &plan.upstream.pass_host {
        PassHost::Rewrite(host) => outgoing.host = Some(host.clone()),
        PassHost::Node => outgoing.host.clone_from(&endpoint.host_header),
        PassHost::Pass => {}
    }
    let sent = || exchange.ctx.request.headers.get(header::HOST).cloned();
    let host = outgoing.host.clone().or_else(sent).or_else(|| endpoint.host_header.clone());
    host.unwrap_or_else(|| HeaderValue::from_static(""))
}

async fn connect(
    plan: &Plan<'_>,
    endpoint: &Arc<Endpoint>,
    host: &HeaderValue,
) -> Result<Box<Connection>, Failure> {
    let tls = match &plan.upstream.tls {
        None => None,
        Some(client) => {
            let name = server_name(host).or_else(|| endpoint.server_name.clone());
            let name = name.unwrap_or_else(|| ServerName::from(endpoint.addr.ip()));
            Some((client.config.clone(), name))
        }
    };
    let named = tls.is_some().then(|| host.as_bytes().into());
    let stream = connection::connect(endpoint, tls, plan.timeouts).await?;
    Ok(Connection::new(stream, endpoint.clone(), named))
}

fn server_name(host: &HeaderValue) -> Option<ServerName<'static>> {
    let (name, _) = host::split_port(host.to_str().ok()?);
    ServerName::try_from(name.to_owned()).ok()
}

async fn send(
    exchange: &mut Exchange,
    plan: &Plan<'_>,
    host: &HeaderValue,
    mut connection: Box<Connection>,
) -> Result<Answer, Failure> {
    let told = Told {
        method: &plan.method,
        host: host.as_bytes(),
        outbound: plan.outbound,
        upgrade: plan.upgrade,
        trusted: exchange.worker.settings.trust.of(exchange.ctx.client.peer.ip()),
    };
    head::write(&exchange.ctx, &told, connection.head_buffer());
    let mut sending = Sending::new(plan.outbound);
    let is_head = plan.method == Method::HEAD;
    let mut body = Trimmed::of(exchange);
    let answered = connection.exchange(&mut sending, &mut body, is_head, plan.timeouts);
    let head = answered.await?;
    Ok(Answer { connection, head, sending })
}

/// Makes the client's response of a node's answer.
fn accept(mut exchange: Box<Exchange>, answer: Answer, plan: &Plan<'_>) -> Response<Body> {
    let Answer { mut connection, head, sending } = answer;
    let Head { status, headers, mut framing, keep_alive } = head;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        if !plan.upgrade {
            return respond::fail(exchange, &Failure::Malformed("it switches protocols unasked"));
        }
        let (stream, early) = connection.into_upgraded();
        return respond::upgrade(exchange, headers, |exchange| Tunnel {
            exchange,
            stream,
            early,
            idle: plan.timeouts.read,
        });
    }
    respond::take_head(&mut exchange, status, headers);
    let whole =
        if connection.has_sent(&sending) { connection.take_whole(&mut framing) } else { None };
    let streaming = Streaming {
        keepalive: keep_alive.then_some(plan.upstream.keepalive),
        read_timeout: plan.timeouts.read,
        connection: Some(connection),
        framing,
        sending,
    };
    respond::deliver(exchange, |exchange| match whole {
        Some(bytes) => body::whole(exchange, streaming, bytes),
        None => body::stream(exchange, streaming),
    })
}
