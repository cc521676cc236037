//! What the pipeline says about a finished exchange.

use std::sync::Arc;
use std::time::Duration;

/// What a matched route is told by, for each pair of path and host that it can match by; shared by
/// all its requests: the allocation, not the text, is what the worker's map knows a series by. A new
/// `Arc` with the same text continues the series.
///
/// The default (all empty) is of the requests that matched no route; keep one for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLabels {
    pub id: Arc<str>,
    /// Empty without one, as those of the service are.
    pub name: Arc<str>,
    pub service_id: Arc<str>,
    pub service_name: Arc<str>,
    /// The `uri` (or the one of `uris`) by which the route matched.
    pub matched_uri: Arc<str>,
    /// The host by which the route matched, empty when it has none.
    pub matched_host: Arc<str>,
}

/// One finished exchange.
///
/// `consumer` and `node` are known by their allocation too: pass the `Arc` of the consumer and of
/// the upstream node, not a fresh copy for each request.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub route: &'a Arc<RouteLabels>,
    /// Whether the labels `route` and `service` are names, where there are names.
    pub prefers_names: bool,
    /// Name of the consumer, if any.
    pub consumer: Option<&'a Arc<str>>,
    /// IP address of the upstream node that was tried last, if any was picked.
    pub node: Option<&'a Arc<str>>,
    /// Status sent to the client.
    pub status: u16,
    /// Whether the response's head came from the upstream.
    pub from_upstream: bool,
    /// From the first byte of the request to the last of the response.
    pub latency: Duration,
    /// The part of it spent waiting for the upstream; `None` when none was tried.
    pub upstream_latency: Option<Duration>,
    /// Bytes of the request: line, headers and body.
    pub ingress_bytes: u64,
    /// Bytes sent to the client: head and body.
    pub egress_bytes: u64,
}

// === impl RouteLabels ===

impl RouteLabels {
    /// The values of the labels `route` and `service`.
    pub(super) fn told(&self, by_name: bool) -> (&str, &str) {
        (
            either(by_name, &self.name, &self.id),
            either(by_name, &self.service_name, &self.service_id),
        )
    }
}

fn either<'a>(by_name: bool, name: &'a str, id: &'a str) -> &'a str {
    if by_name && !name.is_empty() { name } else { id }
}

// === impl Sample ===

impl Sample<'_> {
    /// The `response_source` label: who made the response.
    ///
    /// APISIX says `nginx` where its proxy module had to answer for an upstream that did not; here
    /// that is a picked node without a response head. A gateway that answers without having
    /// picked a node is `apisix`.
    pub(super) fn source(&self) -> &'static str {
        match (self.from_upstream, self.node) {
            (true, _) => "upstream",
            (false, Some(_)) => "nginx",
            (false, None) => "apisix",
        }
    }
}
