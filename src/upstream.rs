//! Upstreams: the nodes behind a route and the connections to them.
//!
//! An [`Upstream`] is compiled once and survives snapshots as long as its config is the same, so
//! that its place in the round robin does too. Names are resolved off the workers ([`dns`]) and
//! swapped in; a worker only ever sees addresses. This room sees no plugin and no client.

pub mod balancer;
pub mod connection;
pub mod dns;
pub mod h1;
pub mod pool;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;

pub use self::balancer::{Endpoint, Nodes};
use crate::http1::Malformed;
use crate::resource::upstream as written;
use crate::resource::{Invalid, Said};
use crate::tls::client::Client;

/// A compiled upstream.
pub struct Upstream {
    /// Store key of the resource that holds it, for logs: `upstreams/1`.
    pub source: Arc<str>,
    config: written::Upstream,
    /// Addresses of the nodes as they are known now.
    pub nodes: ArcSwap<Nodes>,
    pub scheme: Scheme,
    pub pass_host: PassHost,
    pub timeouts: Timeouts,
    /// Further nodes to try after the first; `None` is as many as there are.
    pub retries: Option<u32>,
    /// No retry begins later than this after the first try; zero is no limit.
    pub retry_timeout: Duration,
    pub keepalive: Keepalive,
    /// Set when `scheme` is `https`.
    pub tls: Option<Arc<Client>>,
}

/// How a node is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Which `Host` the node is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassHost {
    /// The client's.
    Pass,
    /// The node's own, as written.
    Node,
    /// This one.
    Rewrite(HeaderValue),
}

/// Limits of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To a connection, TLS included.
    pub connect: Duration,
    /// Between two successful writes.
    pub send: Duration,
    /// Between two successful reads.
    pub read: Duration,
}

/// What happens to a connection after its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle connections kept by each worker for each node.
    pub size: usize,
    /// How long one may be idle.
    pub idle: Duration,
    /// How many requests one may carry.
    pub requests: u32,
}

/// Why a node did not answer. Says whose fault it is and whether another node may be tried.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no node is left to try")]
    NoNode,
    #[error("connect to {addr}: {source}")]
    Connect { addr: std::net::SocketAddr, source: std::io::Error },
    #[error("connect to {addr}: timed out after {after:?}")]
    ConnectTimeout { addr: std::net::SocketAddr, after: Duration },
    #[error("send or receive: {0}")]
    Io(#[from] std::io::Error),
    #[error("the upstream closed the connection before it answered")]
    Closed,
    #[error("nothing came from the upstream for {0:?}")]
    ReadTimeout(Duration),
    #[error("nothing could be sent to the upstream for {0:?}")]
    SendTimeout(Duration),
    #[error("the upstream's answer is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    #[error("the client's request body broke off")]
    RequestBody,
}

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

// === impl Upstream ===

/// The variables that `chash` may hash, and the names of headers and cookies.
const HASHED_VARIABLE: &str = "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr\
    |query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$";
const HASHED_NAME: &str = "^[a-zA-Z0-9-_]+$";

/// APISIX's `proxy_connect_timeout` and its kin when nothing else is configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

impl Upstream {
    /// Compiles what a user wrote. Nodes that are names have no address until [`dns`] finds one.
    ///
    /// `client` gives what the `tls` part asks for. What `old` knows of the nodes, and with it the
    /// connections to them, is taken over where they are spoken to in the same way. Where they are
    /// not (another scheme; over TLS another certificate of the gateway's, another rule of whether
    /// nodes are verified, or of the name that they are asked for) each gets an endpoint of its own,
    /// which no connection from before belongs to.
    ///
    /// # Errors
    /// What this version cannot serve, by path relative to the upstream.
    pub fn compile(
        source: &str,
        config: &written::Upstream,
        keepalive: Keepalive,
        old: Option<&Self>,
        client: impl FnOnce(&written::Upstream) -> Result<Client, Invalid>,
    ) -> Result<Self, Invalid> {
        let scheme = match config.scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                let expected = "http or https: the other schemes are not there yet";
                return Err(Invalid::new("/scheme", other, expected));
            }
        };
        hash_key(config)?;
        if config.type_ != "roundrobin" {
            let expected = "roundrobin: the other algorithms are not there yet";
            return Err(Invalid::new("/type", &config.type_, expected));
        }
        if let Some(discovery) = &config.discovery_type {
            let expected = "nodes: service discovery is not there yet";
            return Err(Invalid::new("/discovery_type", discovery, expected));
        }
        if config.checks.is_some() {
            let reason = "health checks are not there yet: every node counts as healthy";
            tracing::warn!(upstream = source, reason, "checks has no effect");
        }
        let seconds = Duration::try_from_secs_f64;
        let timeouts = match &config.timeout {
            Some(timeout) => {
                let of = |value, path: &str| {
                    seconds(value).map_err(|_| Invalid::new(path, value, "seconds"))
                };
                Timeouts {
                    connect: of(timeout.connect, "/timeout/connect")?,
                    send: of(timeout.send, "/timeout/send")?,
                    read: of(timeout.read, "/timeout/read")?,
                }
            }
            None => Timeouts::default(),
        };
        let keepalive = match &config.keepalive_pool {
            Some(pool) => Keepalive {
                size: pool.size as usize,
                idle: seconds(pool.idle_timeout).unwrap_or(keepalive.idle),
                requests: pool.requests,
            },
            None => keepalive,
        };
        let pass_host = match (config.pass_host.as_str(), &config.upstream_host) {
            ("node", _) => PassHost::Node,
            ("rewrite", Some(host)) => PassHost::Rewrite(
                HeaderValue::try_from(host)
                    .map_err(|_| Invalid::new("/upstream_host", host, "a host name"))?,
            ),
            ("rewrite", None) => {
                let expected = "a host name, since pass_host is rewrite";
                return Err(Invalid::new("/upstream_host", "nothing", expected));
            }
            _ => PassHost::Pass,
        };
        let client = match scheme {
            Scheme::Https => Some(client(config)?),
            Scheme::Http => None,
        };
        let known = old.map(|old| old.nodes.load_full()).unwrap_or_default();
        let old = old.filter(|old| match (&old.tls, &client) {
            (None, None) => true,
            (Some(old_client), Some(client)) => {
                old_client.is_as(client) && old.pass_host == pass_host
            }
            _ => false,
        });
        // With the old one, sessions can be resumed.
        let tls = old.and_then(|old| old.tls.clone()).or_else(|| client.map(Arc::new));
        let upstream = Self {
            source: source.into(),
            config: config.clone(),
            nodes: ArcSwap::new(old.map(|_| known.clone()).unwrap_or_default()),
            scheme,
            pass_host,
            timeouts,
            retries: config.retries,
            retry_timeout: config
                .retry_timeout
                .and_then(|value| seconds(value).ok())
                .unwrap_or_default(),
            keepalive,
            tls,
        };
        upstream.resolve(|name| known.addresses(name));
        Ok(upstream)
    }

    /// Has the connections closed that `successor`, which takes this upstream's place, does not go
    /// on with: idle ones soon, the others when their requests are over.
    pub fn retire(&self, successor: Option<&Self>) {
        let nodes = self.nodes.load_full();
        let successors = successor.map(|successor| successor.nodes.load_full()).unwrap_or_default();
        if !Arc::ptr_eq(&nodes, &successors) {
            nodes.retire(&successors);
        }
    }

    /// Whether compiling `config` again would give this upstream.
    pub fn is_of(&self, config: &written::Upstream) -> bool {
        // What is for people only does not make another upstream of it.
        let plain = |config: &written::Upstream| written::Upstream {
            id: None,
            name: None,
            desc: None,
            labels: BTreeMap::new(),
            create_time: None,
            update_time: None,
            ..config.clone()
        };
        self.config == *config || plain(&self.config) == plain(config)
    }

    /// The names among the nodes: what [`dns`] has to resolve.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let hosts = self.config.nodes.iter().map(|node| node.host.as_str());
        hosts.filter(|host| literal(host).is_none())
    }

    /// Swaps in the addresses that `lookup` knows for the names. A name without an address has
    /// no part in balancing until it gets one.
    pub fn resolve(&self, lookup: impl Fn(&str) -> Vec<IpAddr>) {
        let old = self.nodes.load();
        let mut found = Vec::new();
        for node in &self.config.nodes {
            let port = node.port.unwrap_or(match self.scheme {
                Scheme::Http => 80,
                Scheme::Https => 443,
            });
            let addresses = match literal(&node.host) {
                Some(ip) => vec![ip],
                None => lookup(&node.host),
            };
            // A name's weight is shared by its addresses; 60 has many divisors.
            let share = 60 / u32::try_from(addresses.len().clamp(1, 60)).unwrap_or(60);
            for ip in addresses {
                let addr = (ip, port).into();
                let endpoint = old
                    .endpoint(addr, &node.host)
                    .unwrap_or_else(|| Arc::new(Endpoint::new(addr, node, self.scheme)));
                found.push((endpoint, node.weight.saturating_mul(share), node.priority));
            }
        }
        if !old.is(&found) {
            self.nodes.store(Arc::new(Nodes::new(found)));
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: DEFAULT_TIMEOUT, send: DEFAULT_TIMEOUT, read: DEFAULT_TIMEOUT }
    }
}

// === impl Scheme ===

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

// === impl Failure ===

impl Failure {
    /// Whether the status that tells it is 504 rather than 502.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout { .. } | Self::ReadTimeout(_) | Self::SendTimeout(_))
    }
}

/// The address that `host` spells out, brackets or not.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether `chash` is told what to hash.
///
/// Source: APISIX `upstream.lua`, `check_upstream_conf`.
fn hash_key(config: &written::Upstream) -> Result<(), Invalid> {
    if config.type_ != "chash" || config.hash_on == "consumer" {
        return Ok(());
    }
    let Some(key) = &config.key else {
        let missing = Invalid::new("/key", "nothing", "what chash hashes");
        return Err(missing.saying(Said::Whole("missing key".to_owned())));
    };
    let pattern = match config.hash_on.as_str() {
        "vars" => HASHED_VARIABLE,
        "header" | "cookie" => HASHED_NAME,
        _ => return Ok(()),
    };
    if regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(key)) {
        let said = format!("failed to match pattern \"{pattern}\" with \"{key}\"");
        let wrong = Invalid::new("/key", key, format!("text that matches {pattern}"));
        return Err(wrong.saying(Said::Whole(format!("invalid configuration: {said}"))));
    }
    Ok(())
}
