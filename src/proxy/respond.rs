//! The only place where a failure becomes a status, and where response heads are finished.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::body::{self, Body};
use super::exchange::{Broken, Exchange};
use super::upgrade::Tunnel;
use crate::context::Reply;
use crate::http1::response::is_without_body;
use crate::upstream::Failure;

const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("x-apisix-upstream-status");

/// The type of [`page`].
pub(super) const PAGE_TYPE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A client that went away before its answer; nginx's word for the log, never sent.
const CLIENT_CLOSED: u16 = 499;

/// The status in the log of an exchange whose client went away.
pub(super) fn client_closed() -> StatusCode {
    StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The answer where no route matches.
pub(super) fn no_route() -> Reply {
    Reply::json(StatusCode::NOT_FOUND, &json!({ "error_msg": "404 Route Not Found" }))
}

/// The answer to an ACME server that asks for a token (RFC 8555, section 8.3).
pub(super) fn challenge(answer: &str) -> Reply {
    let mut reply = Reply::status(StatusCode::OK);
    let bytes = HeaderValue::from_static("application/octet-stream");
    reply.headers.insert(header::CONTENT_TYPE, bytes);
    reply.body = Bytes::copy_from_slice(answer.as_bytes());
    reply
}

/// The status that tells the client of a failure to get an answer from a node.
pub(super) fn status_of(failure: &Failure) -> StatusCode {
    match failure {
        Failure::NoNode => StatusCode::SERVICE_UNAVAILABLE,
        failure if failure.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Answers what cannot be read, or in more than one way: nothing that follows is read either.
pub(super) fn refuse(exchange: Box<Exchange>, status: StatusCode) -> Response<Body> {
    let mut response = reply(exchange, Reply::status(status));
    response.body_mut().make_last();
    response
}

/// The status that tells the client that its request's body did not come to its end.
pub(super) fn status_of_broken(broken: Broken) -> StatusCode {
    match broken {
        Broken::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Broken::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Broken::Gone => client_closed(),
        Broken::Malformed => StatusCode::BAD_REQUEST,
    }
}

/// Answers that there is nothing to ask.
pub(super) fn unavailable(exchange: Box<Exchange>, reason: &'static str) -> Response<Body> {
    tracing::debug!(route = %exchange.ctx.route.id, reason, "unavailable");
    reply(exchange, Reply::status(StatusCode::SERVICE_UNAVAILABLE))
}

/// Answers that no node answered, or that the client broke off its request.
pub(super) fn fail(exchange: Box<Exchange>, failure: &Failure) -> Response<Body> {
    let status = match (failure, exchange.body.broken()) {
        (Failure::RequestBody, Some(broken)) => status_of_broken(broken),
        (Failure::RequestBody, None) => StatusCode::BAD_REQUEST,
        _ => {
            exchange.worker.warn_unanswered(&exchange.ctx, failure);
            status_of(failure)
        }
    };
    reply(exchange, Reply::status(status))
}

/// Answers with what a plugin or the gateway itself says.
pub(super) fn reply(mut exchange: Box<Exchange>, reply: Reply) -> Response<Body> {
    let Reply { status, headers, body } = reply;
    let response = &mut exchange.ctx.response;
    response.status = status;
    let told = response.join();
    let bytes = if body.is_empty() && status.as_u16() >= 400 {
        told.insert(header::CONTENT_TYPE, PAGE_TYPE);
        page(status)
    } else {
        body
    };
    extend(told, headers);
    deliver(exchange, |exchange| body::own(exchange, bytes))
}

/// Takes over a node's head; what plugins have set goes before it.
pub(super) fn take_head(exchange: &mut Exchange, status: StatusCode, headers: HeaderMap) {
    let response = &mut exchange.ctx.response;
    response.status = status;
    response.from_upstream = true;
    let added = std::mem::replace(&mut response.headers, headers);
    extend(&mut response.headers, added);
    response.join();
}

/// Finishes the head and hands the response over to be written.
pub(super) fn deliver(
    mut exchange: Box<Exchange>,
    body: impl FnOnce(Box<Exchange>) -> Body,
) -> Response<Body> {
    let (status, headers, is_filtered) = finish_head(&mut exchange);
    let body = if exchange.ctx.response.withheld {
        body::own(exchange, page(status))
    } else if is_filtered && !is_bodiless(status, &exchange.ctx.request.method) {
        body(exchange).filtered()
    } else {
        body(exchange)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Answers that the protocol is switched; the connection becomes the tunnel once that is written.
pub(super) fn upgrade(
    mut exchange: Box<Exchange>,
    headers: HeaderMap,
    tunnel: impl FnOnce(Box<Exchange>) -> Tunnel,
) -> Response<Body> {
    take_head(&mut exchange, StatusCode::SWITCHING_PROTOCOLS, headers);
    deliver(exchange, |exchange| Body::tunnel(tunnel(exchange)))
}

fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    is_without_body(status) || *method == Method::HEAD
}

/// Status and headers as they are written, and whether the body is filtered.
fn finish_head(exchange: &mut Exchange) -> (StatusCode, HeaderMap, bool) {
    tell_upstream_status(exchange);
    exchange.filter_head();
    let wants = exchange.wants();
    let settings = &exchange.worker.settings;
    let response = &mut exchange.ctx.response;
    if response.withheld {
        response.status = StatusCode::INTERNAL_SERVER_ERROR;
        response.headers.clear();
        response.headers.insert(header::CONTENT_TYPE, PAGE_TYPE);
    }
    if wants.response_body {
        // Nobody knows what the filters will make of it.
        response.headers.remove(header::CONTENT_LENGTH);
    }
    response.headers.insert(header::SERVER, settings.server.clone());
    if let Some(alt_svc) = &exchange.downstream.alt_svc {
        response.headers.entry(header::ALT_SVC).or_insert_with(|| alt_svc.clone());
    }
    response.head_bytes = response.measure();
    let headers = if wants.response_head || wants.response_body {
        response.headers.clone()
    } else {
        std::mem::take(&mut response.headers)
    };
    (response.status, headers, wants.response_body)
}

/// `X-APISIX-Upstream-Status`: what nodes said, when the last of them failed.
///
/// Source: APISIX `init.lua`, `set_resp_upstream_status`.
fn tell_upstream_status(exchange: &mut Exchange) {
    let always = exchange.worker.settings.show_upstream_status;
    let attempts = &exchange.ctx.attempts;
    let Some(last) = attempts.last().and_then(|attempt| attempt.status) else {
        return;
    };
    if !always && !(500..600).contains(&last) {
        return;
    }
    let statuses: Vec<String> =
        attempts.iter().filter_map(|attempt| Some(attempt.status?.to_string())).collect();
    if let Ok(value) = HeaderValue::try_from(statuses.join(", ")) {
        exchange.ctx.response.headers.insert(UPSTREAM_STATUS, value);
    }
}

/// Puts `set` in the place of what `headers` has under the same names.
fn extend(headers: &mut HeaderMap, set: HeaderMap) {
    if set.is_empty() {
        return;
    }
    let mut name = None;
    let mut set = set.into_iter().peekable();
    while let Some((next, value)) = set.next() {
        // A further value has no name: it has that of the one before.
        let goes_on = matches!(set.peek(), Some((None, _)));
        match next {
            Some(next) => {
                name = goes_on.then(|| next.clone());
                headers.insert(next, value);
            }
            None => {
                if let Some(name) = &name {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
}

/// The gateway's own page for a status.
pub(super) fn page(status: StatusCode) -> Bytes {
    let reason = match status {
        StatusCode::SERVICE_UNAVAILABLE => "Service Temporarily Unavailable",
        StatusCode::GATEWAY_TIMEOUT => "Gateway Time-out",
        status => status.canonical_reason().unwrap_or("Error"),
    };
    let title = format!("{} {reason}", status.as_u16());
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n<hr><center>sluice</center>\r\n</body>\r\n</html>\r\n"
    ))
}
