//! Weighted round robin over the nodes, highest priority first.
//!
//! The order of turns is laid out when nodes change: smooth, as nginx and APISIX do it, so that
//! weights 5, 1, 1 give a-a-b-a-c-a-a and not a-a-a-a-a-b-c. A pick is one atomic addition.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use rustls_pki_types::ServerName;

use super::Scheme;
use crate::resource::upstream::Node;

/// Longest laid-out order; larger weights are rounded to fit.
const LONGEST: u64 = 4096;

/// One address of one node, and one way of speaking to it: see [`super::Upstream::compile`].
#[derive(Debug)]
pub struct Endpoint {
    /// Unique in the process: the key of the connection pools.
    pub id: u64,
    pub addr: SocketAddr,
    /// The address's IP as a metric label.
    pub label: Arc<str>,
    /// The node's host as written.
    pub host: Box<str>,
    /// The same, where it is not the address.
    pub name: Option<Arc<str>>,
    /// `Host` for `pass_host: node`: the node's host, with its port if that is not the scheme's.
    pub host_header: Option<HeaderValue>,
    /// Name for TLS when the client's host is not to be used.
    pub server_name: Option<ServerName<'static>>,
    retired: AtomicBool,
}

/// The nodes of an upstream at one moment.
#[derive(Debug, Default)]
pub struct Nodes {
    /// Highest priority first.
    tiers: Vec<Tier>,
    weighted: Vec<Weighted>,
}

type Weighted = (Arc<Endpoint>, u32, i32);

#[derive(Debug)]
struct Tier {
    endpoints: Vec<Arc<Endpoint>>,
    /// Indexes into `endpoints`.
    turns: Box<[u16]>,
    next: AtomicUsize,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(addr: SocketAddr, node: &Node, scheme: Scheme) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let usual = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let host_header = if addr.port() == usual {
            HeaderValue::try_from(&node.host)
        } else {
            HeaderValue::try_from(format!("{}:{}", node.host, addr.port()))
        };
        let label: Arc<str> = addr.ip().to_string().into();
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            addr,
            name: (*node.host != *label).then(|| node.host.as_str().into()),
            label,
            host: node.host.as_str().into(),
            host_header: host_header.ok(),
            server_name: ServerName::try_from(node.host.clone()).ok(),
            retired: AtomicBool::new(false),
        }
    }

    /// Whether the config leads elsewhere by now, or to the same node in another way: connections
    /// are closed rather than kept.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

// === impl Nodes ===

impl Nodes {
    /// Lays out the turns of `weighted`: endpoint, weight, priority. Weight 0 is never picked.
    pub(super) fn new(weighted: Vec<Weighted>) -> Self {
        let mut priorities: Vec<i32> = weighted.iter().map(|(_, _, priority)| *priority).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        priorities.dedup();
        let tiers = priorities
            .into_iter()
            .filter_map(|priority| {
                let of_tier =
                    weighted.iter().filter(|(_, weight, of)| *of == priority && *weight > 0);
                let (endpoints, weights): (Vec<_>, Vec<u64>) = of_tier
                    .map(|(endpoint, weight, _)| (endpoint.clone(), u64::from(*weight)))
                    .unzip();
                (!endpoints.is_empty()).then(|| Tier {
                    turns: turns(&weights),
                    endpoints,
                    next: AtomicUsize::new(0),
                })
            })
            .collect();
        Self { tiers, weighted }
    }

    pub(super) fn endpoint(&self, addr: SocketAddr, host: &str) -> Option<Arc<Endpoint>> {
        let mut endpoints = self.weighted.iter().map(|(endpoint, ..)| endpoint);
        endpoints.find(|endpoint| endpoint.addr == addr && *endpoint.host == *host).cloned()
    }

    /// The addresses that the node `host` is known by.
    pub(super) fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = self
            .weighted
            .iter()
            .filter(|(endpoint, ..)| *endpoint.host == *host)
            .map(|(endpoint, ..)| endpoint.addr.ip())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(super) fn is(&self, weighted: &[Weighted]) -> bool {
        self.weighted.len() == weighted.len()
            && self.weighted.iter().zip(weighted).all(|(ours, theirs)| {
                ours.0.id == theirs.0.id && ours.1 == theirs.1 && ours.2 == theirs.2
            })
    }

    /// Retires the endpoints that are not among `successors` any more.
    pub(super) fn retire(&self, successors: &Self) {
        let goes_on = |id| successors.weighted.iter().any(|(endpoint, ..)| endpoint.id == id);
        for (endpoint, ..) in self.weighted.iter().filter(|(endpoint, ..)| !goes_on(endpoint.id)) {
            endpoint.retire();
        }
    }

    /// How many endpoints can be picked.
    pub fn len(&self) -> usize {
        self.tiers.iter().map(|tier| tier.endpoints.len()).sum()
    }

    /// Whether there is nothing to pick.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Every endpoint with its weight and priority.
    pub fn all(&self) -> &[(Arc<Endpoint>, u32, i32)] {
        &self.weighted
    }

    /// The next endpoint in turn that is not in `tried` (ids); lower priorities come when the
    /// higher ones are all tried. `None` when every endpoint is.
    pub fn pick(&self, tried: &[u64]) -> Option<&Arc<Endpoint>> {
        let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.id);
        self.tiers.iter().find_map(|tier| {
            if let [only] = tier.endpoints.as_slice() {
                return Some(only).filter(untried);
            }
            let turn = tier.next.fetch_add(1, Ordering::Relaxed);
            let turns = tier.turns.len();
            (0..turns)
                .map(|step| &tier.endpoints[usize::from(tier.turns[(turn + step) % turns])])
                .find(untried)
        })
    }
}

/// Lays out a smooth weighted round robin.
fn turns(weights: &[u64]) -> Box<[u16]> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let mut weights: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().sum();
    if total > LONGEST {
        for weight in &mut weights {
            *weight = (u128::from(*weight) * u128::from(LONGEST) / u128::from(total)).max(1) as u64;
        }
    }
    let total: u64 = weights.iter().sum();
    let weights: Vec<i64> = weights.iter().map(|weight| *weight as i64).collect();
    let mut credit = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            let mut best = 0;
            for index in 1..credit.len() {
                if credit[index] > credit[best] {
                    best = index;
                }
            }
            credit[best] -= total as i64;
            best as u16
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            id: u64::from(port),
            addr: ([127, 0, 0, 1], port).into(),
            label: "127.0.0.1".into(),
            host: "127.0.0.1".into(),
            name: None,
            host_header: None,
            server_name: None,
            retired: AtomicBool::new(false),
        })
    }

    fn picks(nodes: &Nodes, count: usize) -> Vec<u64> {
        (0..count).map(|_| nodes.pick(&[]).unwrap().id).collect()
    }

    #[test]
    fn spreads_turns_smoothly_by_weight() {
        let nodes =
            Nodes::new(vec![(endpoint(1), 50, 0), (endpoint(2), 10, 0), (endpoint(3), 10, 0)]);
        assert_eq!(picks(&nodes, 7), [1, 1, 2, 1, 3, 1, 1]);
        assert_eq!(picks(&nodes, 7), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn weight_zero_is_never_picked() {
        let nodes = Nodes::new(vec![(endpoint(1), 0, 0), (endpoint(2), 1, 0)]);
        assert_eq!(picks(&nodes, 3), [2, 2, 2]);
        assert!(Nodes::new(vec![(endpoint(1), 0, 0)]).pick(&[]).is_none());
    }

    #[test]
    fn lower_priorities_wait_until_the_higher_are_tried() {
        let nodes =
            Nodes::new(vec![(endpoint(1), 1, 0), (endpoint(2), 1, 10), (endpoint(3), 1, 10)]);
        let mut tried = Vec::new();
        while let Some(endpoint) = nodes.pick(&tried) {
            tried.push(endpoint.id);
        }
        assert_eq!(tried.len(), 3);
        assert_eq!(tried[2], 1);
    }

    #[test]
    fn huge_weights_keep_their_proportion_in_a_bounded_order() {
        let order = turns(&[3_000_000, 1_000_001]);
        assert!(order.len() <= 2 * LONGEST as usize);
        let first = order.iter().filter(|turn| **turn == 0).count();
        let share = first as f64 / order.len() as f64;
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }
}
