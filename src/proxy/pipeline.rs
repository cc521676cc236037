//! The life of a request, a line a step.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use http::request::Parts;
use http::{Response, StatusCode};
use smallvec::SmallVec;

use super::body::Body;
use super::connection::Downstream;
use super::exchange::{Exchange, Incoming};
use super::{Worker, forward, request, respond};
use crate::clock;
use crate::context::{self, Ctx, Outgoing, Reply};
use crate::plugin::Phase;

/// Answers one request.
pub(super) async fn run(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    parts: Parts,
    incoming: Incoming,
) -> Response<Body> {
    let mut exchange = begin(worker, downstream, parts, incoming);
    let decided = decide(&mut exchange).await;
    match exchange.ctx.settle(decided) {
        Some(reply) => respond::reply(exchange, *reply),
        None => forward::forward(exchange).await,
    }
}

/// Runs everything that may answer before a node is asked.
async fn decide(exchange: &mut Exchange) -> Option<Box<Reply>> {
    if let Some(status) = exchange.refused.take() {
        return Some(Box::new(Reply::status(status)));
    }
    if is_of_another_name(exchange) {
        return Some(Box::new(Reply::status(StatusCode::BAD_REQUEST)));
    }
    find(exchange);
    if let Some(reply) = exchange.run_globals(Phase::Rewrite).await {
        return Some(reply);
    }
    if exchange.route.is_none() {
        let reply = exchange.run_globals(Phase::Access).await;
        return reply.or_else(|| Some(Box::new(respond::no_route())));
    }
    if let Some(reply) = exchange.run_route(Phase::Rewrite).await {
        return Some(reply);
    }
    if let Some(reply) = exchange.overlay_consumer().await {
        return Some(reply);
    }
    if let Some(reply) = exchange.run_globals(Phase::Access).await {
        return Some(reply);
    }
    if let Some(reply) = exchange.run_route(Phase::Access).await {
        return Some(reply);
    }
    if let Some(reply) = exchange.run_globals(Phase::BeforeProxy).await {
        return Some(reply);
    }
    exchange.run_route(Phase::BeforeProxy).await
}

/// Whether a host that asks its clients for certificates is asked for over a connection that was
/// made for another name, and so was not asked for one.
fn is_of_another_name(exchange: &Exchange) -> bool {
    let client = &exchange.ctx.client;
    let host = exchange.ctx.request.host.as_deref();
    let Some(host) = host.filter(|_| client.tls_protocol.is_some()) else {
        return false;
    };
    let is_its_name = || client.sni.as_deref().is_some_and(|sni| sni.eq_ignore_ascii_case(host));
    exchange.held.snapshot.is_bound_to_its_name(host) && !is_its_name()
}

/// Reads the head into a context.
fn begin(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    parts: Parts,
    incoming: Incoming,
) -> Box<Exchange> {
    worker.metrics.request();
    downstream.slot.begin();
    let held = worker.snapshot();
    let asked = request::read(parts, &worker.settings);
    let client = downstream.client.clone();
    let (route, labels) = worker.unmatched.clone();
    let ctx = Ctx {
        remote: worker.settings.real_ip.of(client.peer, &asked.request.headers),
        client,
        request: asked.request,
        outgoing: Outgoing { path_and_query: asked.forwarded, ..Outgoing::default() },
        route,
        labels,
        consumers: held.consumers.clone(),
        consumer: None,
        response: context::Response::default(),
        attempts: SmallVec::new(),
        start: clock::now(),
        bytes_received: asked.head_bytes,
        body_bytes_sent: 0,
        metrics: worker.metrics.clone(),
        request_id: OnceCell::new(),
        kept: RefCell::default(),
        said: None,
    };
    Exchange::new(ctx, incoming, asked.refused, held, worker, downstream)
}

/// Finds the route, and notes its facts and labels.
fn find(exchange: &mut Exchange) {
    let Exchange { ctx, held, route, .. } = exchange;
    let Some(found) = held.snapshot.find(ctx, &ctx.request.method) else {
        return;
    };
    let labels = found.value.labels(found.path, found.host).cloned();
    let matched = found.value.clone();
    ctx.route = matched.facts.clone();
    if let Some(labels) = labels {
        ctx.labels = labels;
    }
    *route = Some(matched);
}
