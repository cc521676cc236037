//! The life of a request, a line a step.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Response, StatusCode};
use smallvec::SmallVec;
use yoke::Yoke;

use super::body::Body;
use super::connection::Downstream;
use super::exchange::{Exchange, Incoming};
use super::request::Asked;
use super::{Held, Settings, Worker, forward, request, respond};
use crate::clock;
use crate::context::{self, Client, Consumers, Ctx, Labels, Outgoing, Payload, Reply};
use crate::expr::Need;
use crate::metrics::{self, RouteLabels};
use crate::plugin::Phase;
use crate::router::Captured;
use crate::snapshot::Route;

/// A route and what it is told by, in the keeping of the exchange's hold on their snapshot.
type Matched = Yoke<(&'static Route, &'static Arc<RouteLabels>), Rc<Held>>;

/// Answers one request.
pub(super) async fn run(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    parts: Parts,
    incoming: Incoming,
) -> Response<Body> {
    let mut exchange = begin(worker, downstream, parts, incoming);
    if let Some(status) = exchange.refused.take() {
        return respond::refuse(exchange, status);
    }
    let decided = decide(&mut exchange).await;
    match exchange.ctx.settle(decided) {
        Some(reply) => respond::reply(exchange, *reply),
        None => forward::forward(exchange).await,
    }
}

/// Runs everything that may answer before a node is asked.
async fn decide(exchange: &mut Exchange) -> Option<Box<Reply>> {
    if let Some(answer) = exchange.held.snapshot.challenge(exchange.ctx.path()) {
        return Some(Box::new(respond::challenge(answer)));
    }
    if lacks_a_certificate(exchange) || is_of_another_name(exchange) {
        return Some(Box::new(Reply::status(StatusCode::BAD_REQUEST)));
    }
    while let Some(need) = find(exchange) {
        if let Some(reply) = exchange.read_body(need).await {
            return Some(reply);
        }
    }
    if let Some(need) = exchange.wants().body
        && let Some(reply) = exchange.read_body(need).await
    {
        return Some(reply);
    }
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

/// Whether the client has to show a certificate for this path, and has shown no good one: because
/// its handshake did not demand one, or came before the config did.
///
/// Source: APISIX `init.lua`, `verify_https_client`.
fn lacks_a_certificate(exchange: &Exchange) -> bool {
    let (client, snapshot) = (&exchange.ctx.client, &exchange.held.snapshot);
    let Some(tls) = client.tls.as_ref().filter(|_| snapshot.sni.verifies_clients()) else {
        return false;
    };
    let served = snapshot.certificate(client.sni.as_deref());
    let Some(served) = served.filter(|served| served.verifies_clients && !tls.is_verified()) else {
        return false;
    };
    let path = exchange.ctx.request.path();
    let exempt = served.exemption.as_ref().map(|exemption| &exemption.paths);
    !exempt.is_some_and(|paths| paths.iter().any(|pattern| pattern.is_match(path)))
}

/// Whether a host that asks its clients for certificates is asked for over a connection that was
/// made for another name, and so was not asked for one.
fn is_of_another_name(exchange: &Exchange) -> bool {
    let client = &exchange.ctx.client;
    let host = exchange.ctx.request.host.as_deref();
    let Some(host) = host.filter(|_| client.tls.is_some()) else {
        return false;
    };
    exchange.held.snapshot.is_of_another_name(client.sni.as_deref(), host)
}

/// Answers what could not be read as a request with `status`; `line` is the first line of it.
pub(super) fn refuse(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    line: Box<str>,
    status: StatusCode,
) -> Response<Body> {
    let (parts, ()) = http::Request::new(()).into_parts();
    let mut exchange = begin(worker, downstream, parts, Incoming::None);
    exchange.ctx.request.unread = Some(line);
    respond::refuse(exchange, status)
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
    let client = &downstream.client;
    client.requests.set(client.requests.get() + 1);
    let refused = asked.refused;
    let ctx = context(
        asked,
        &downstream.client,
        &worker.unmatched,
        &held.consumers,
        &worker.metrics,
        &worker.settings,
    );
    Exchange::new(ctx, incoming, refused, held, worker, downstream)
}

/// The context of a request that nothing has been done for.
pub(super) fn context(
    asked: Asked,
    client: &Rc<Client>,
    unmatched: &Labels,
    consumers: &Rc<Consumers>,
    metrics: &Rc<metrics::Worker>,
    settings: &Settings,
) -> Ctx {
    Ctx {
        remote: settings.real_ip.of(client.peer, &asked.request.headers),
        client: client.clone(),
        request: asked.request,
        payload: Payload::default(),
        outgoing: Outgoing { path_and_query: asked.forwarded, ..Outgoing::default() },
        route: unmatched.clone(),
        uri_params: Captured::default(),
        consumers: consumers.clone(),
        consumer: None,
        response: context::Response::default(),
        attempts: SmallVec::new(),
        start: clock::now(),
        bytes_received: asked.head_bytes,
        body_bytes_sent: 0,
        metrics: metrics.clone(),
        request_id: OnceCell::new(),
        kept: RefCell::default(),
        said: None,
    }
}

/// Finds the route, and notes what it is told by. `Some` where a route has to see the request's
/// body first.
fn find(exchange: &mut Exchange) -> Option<Need> {
    let Exchange { ctx, held, route, .. } = exchange;
    let mut captured = Captured::default();
    let found = Matched::try_attach_to_cart(held.clone(), |held| {
        let found = held.snapshot.find(ctx, &ctx.request.method);
        let found = found.map(|found| {
            captured = found.captured(ctx.request.target().path);
            (&**found.value(), found.labels())
        });
        found.ok_or(())
    });
    if let Some(need) = ctx.payload.take_missed() {
        return Some(need);
    }
    let found = found.ok()?;
    found.get().0.chain.fetch_ahead();
    ctx.uri_params = captured;
    ctx.route = Labels::kept(found.map_project_cloned(|found, _| found.1));
    *route = Some(found.map_project(|found, _| found.0));
    None
}
