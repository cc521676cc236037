//! Names of nodes become addresses here, on the control runtime, never on a worker.
//!
//! Each upstream that has names is kept by a weak handle; its names are looked up again when
//! their records expire, and a change is swapped into the upstream. A name that stops resolving
//! keeps its last addresses.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::Notify;

use super::Upstream;

/// A name is asked for no more often than this, however short its records' TTL.
const SHORTEST: Duration = Duration::from_secs(1);

/// How soon a name that did not resolve is asked for again.
const RETRY: Duration = Duration::from_secs(2);

/// How resolving is configured (`apisix.dns_resolver` and its kin).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Servers to ask; none means those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Overrides the TTL of records.
    pub valid: Option<Duration>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Whether the search list of `/etc/resolv.conf` is used.
    pub search: bool,
}

/// The resolver and who waits for its answers.
pub struct Dns {
    resolver: TokioResolver,
    settings: Settings,
    known: Mutex<Known>,
    wake: Notify,
    learned: Notify,
}

#[derive(Default)]
struct Known {
    /// By address: an upstream is watched once, however often it is asked for.
    upstreams: HashMap<usize, Weak<Upstream>>,
    names: HashMap<Box<str>, Answer>,
}

#[derive(Clone)]
struct Answer {
    addresses: Vec<IpAddr>,
    again: Instant,
}

/// The resolver's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("DNS resolver: {0}")]
pub struct DnsError(String);

// === impl Dns ===

impl Dns {
    /// A resolver; [`Dns::run`] drives it.
    ///
    /// # Errors
    /// `/etc/resolv.conf` cannot be read and no servers are configured.
    pub fn new(settings: Settings) -> Result<Arc<Self>, DnsError> {
        let builder = if settings.servers.is_empty() {
            TokioResolver::builder(TokioRuntimeProvider::default())
                .map_err(|error| DnsError(error.to_string()))?
        } else {
            let servers = settings.servers.iter().map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut config.connections {
                    connection.port = server.port();
                }
                config
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout.max(Duration::from_secs(1));
        options.attempts = 2;
        // A name with addresses of both kinds counts as its IPv4 ones, as in APISIX: a node that
        // listens on IPv4 alone would get every second request twice.
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        // This room keeps its own times, and a negative answer must not outlive RETRY.
        options.cache_size = 0;
        if !settings.search {
            options.ndots = 0;
        }
        let resolver =
            builder.with_options(options).build().map_err(|error| DnsError(error.to_string()))?;
        Ok(Arc::new(Self {
            resolver,
            settings,
            known: Mutex::default(),
            wake: Notify::new(),
            learned: Notify::new(),
        }))
    }

    /// Keeps the names of `upstream` resolved for as long as it lives. What is known already is
    /// swapped in at once.
    pub fn watch(&self, upstream: &Arc<Upstream>) {
        if upstream.names().next().is_none() {
            return;
        }
        let mut known = self.lock();
        // What is not known here may be known to the upstream, from the one that it replaces.
        let own = upstream.nodes.load_full();
        upstream.resolve(|name| {
            known
                .names
                .get(name)
                .map_or_else(|| own.addresses(name), |answer| answer.addresses.clone())
        });
        known.upstreams.insert(Arc::as_ptr(upstream).addr(), Arc::downgrade(upstream));
        drop(known);
        self.wake.notify_one();
    }

    /// Resolves what is watched, for ever. A name that takes long holds up no other.
    pub async fn run(self: Arc<Self>) {
        let mut asking = FuturesUnordered::new();
        let mut asked: HashSet<Box<str>> = HashSet::new();
        loop {
            let (due, next) = self.due();
            for name in due.into_iter().filter(|name| asked.insert(name.clone())) {
                let dns = self.clone();
                asking.push(async move {
                    let answer = dns.ask(&name).await;
                    (name, answer)
                });
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next.into()), if asking.is_empty() => {}
                Some((name, answer)) = asking.next(), if !asking.is_empty() => {
                    asked.remove(&name);
                    self.learn(name, answer);
                }
            }
        }
    }

    /// Waits until every name that is watched has been asked for once, at most for `limit`.
    pub async fn settle(&self, limit: Duration) {
        let settled = async {
            loop {
                let learned = self.learned.notified();
                if self.lock().is_settled() {
                    return;
                }
                learned.await;
            }
        };
        // What has not come by then comes later.
        let _ = tokio::time::timeout(limit, settled).await;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names that are wanted and not known, or known for too long, and when the next will be.
    /// Forgets who is gone.
    fn due(&self) -> (Vec<Box<str>>, Instant) {
        let now = Instant::now();
        let mut known = self.lock();
        known.upstreams.retain(|_, upstream| upstream.strong_count() > 0);
        let wanted = known.wanted();
        known.names.retain(|name, _| wanted.contains(name));
        let soonest = known.names.values().map(|answer| answer.again).filter(|again| *again > now);
        let next = soonest.min().unwrap_or(now + Duration::from_secs(3600));
        let is_due = |name: &str| known.names.get(name).is_none_or(|answer| answer.again <= now);
        (wanted.into_iter().filter(|name| is_due(name)).collect(), next)
    }

    async fn ask(&self, name: &str) -> Option<Answer> {
        match self.resolver.lookup_ip(name).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_unstable();
                addresses.dedup();
                let again = match self.settings.valid {
                    Some(valid) => Instant::now() + valid,
                    None => found.valid_until(),
                };
                Some(Answer { addresses, again: again.max(Instant::now() + SHORTEST) })
            }
            Err(error) => {
                tracing::warn!(name, %error, "an upstream node's name does not resolve");
                None
            }
        }
    }

    /// Swaps what came into the upstreams that have the name.
    fn learn(&self, name: Box<str>, answer: Option<Answer>) {
        let mut known = self.lock();
        let again = Instant::now() + RETRY;
        let old = known.addresses(&name);
        let answer = answer.unwrap_or(Answer { addresses: old, again });
        known.names.insert(name.clone(), answer);
        for upstream in known.upstreams.values().filter_map(Weak::upgrade) {
            if upstream.names().any(|own| *own == *name) {
                upstream.resolve(|name| known.addresses(name));
            }
        }
        drop(known);
        self.learned.notify_waiters();
    }
}

// === impl Known ===

impl Known {
    fn wanted(&self) -> HashSet<Box<str>> {
        let live = self.upstreams.values().filter_map(Weak::upgrade);
        live.flat_map(|upstream| upstream.names().map(Box::from).collect::<Vec<_>>()).collect()
    }

    fn is_settled(&self) -> bool {
        self.wanted().iter().all(|name| self.names.contains_key(name))
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let answer = self.names.get(name);
        answer.map(|answer| answer.addresses.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_with_addresses_of_both_kinds_is_its_ipv4_ones() {
        // Of /etc/hosts; the server is there so that nobody else is asked.
        let servers = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        let dns = Dns::new(Settings { servers, ..Settings::default() }).unwrap();
        let answer = dns.ask("localhost").await.unwrap();
        assert!(answer.addresses.iter().all(IpAddr::is_ipv4), "{:?}", answer.addresses);
    }
}
