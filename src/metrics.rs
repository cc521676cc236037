//! Metrics: what happened on the request road, counted by each worker for itself and merged when
//! somebody asks.
//!
//! A worker owns its [`Worker`]: a map from the identities in a [`Sample`] (route, consumer,
//! node, status) to cells that it alone writes. It takes no lock that a scrape holds, formats no
//! label and allocates nothing once a series has had its first sample. The control side reads
//! all cells every few seconds ([`Metrics::tick`]) and at each scrape, adds what is new to the
//! merged series, and writes the exposition text ([`Metrics::encode`]).
//!
//! Names and labels are those of APISIX's `prometheus` plugin; what only this gateway has is
//! named `sluice_*`. The `shared_dict_*` gauges are absent: there are no shared dictionaries.
//!
//! *Invariant:* the number of series is bounded by [`Settings::max_series`]; what does not fit is
//! counted in `sluice_metrics_dropped_samples_total` and never stored.

mod cells;
mod connections;
mod exposition;
mod gauges;
mod process;
mod sample;
mod series;
mod server;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::connections::Workers;
use self::gauges::Gauges;
use self::series::Series;

pub use self::gauges::SecretGauges;
pub use self::sample::{RouteLabels, Sample};
pub use self::server::{serve, tick};
pub use self::worker::{Connection, Worker};

/// Upper bounds of `http_latency` in milliseconds, unless `plugin_attr.prometheus.default_buckets`
/// says otherwise.
pub const DEFAULT_BUCKETS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 30000.0,
    60000.0,
];

/// Between two merges of what workers count and nobody asks for; cells of workers and routes that are
/// gone are kept until then.
const LONGEST_TICK: Duration = Duration::from_secs(10);

/// Labels whose values are written as `""`, by metric name without prefix
/// (`plugin_metadata/prometheus`, `disabled_labels`). Unknown names have no effect.
pub type DisabledLabels = BTreeMap<String, BTreeSet<String>>;

/// How the metrics are named, shaped and bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Stands before APISIX's names: `apisix_`.
    pub prefix: String,
    /// Upper bounds of `http_latency` in milliseconds; sorted and freed of doubles on use.
    pub buckets: Vec<f64>,
    /// The most series that each of `http_status`, `http_latency` and `bandwidth` may have.
    pub max_series: usize,
    /// Label of `node_info`.
    pub hostname: String,
    /// Label of `node_info`.
    pub version: String,
    /// When series that no longer change go away.
    pub expire: Expire,
}

/// How long a series may stay unchanged before it is forgotten; `None` keeps it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expire {
    pub http_status: Option<Duration>,
    pub http_latency: Option<Duration>,
    pub bandwidth: Option<Duration>,
}

/// Everything that is counted, shared by the workers, the control side and the exporter.
pub struct Metrics {
    settings: Settings,
    /// Upper bounds of `http_latency` in nanoseconds, ascending.
    bounds: Arc<[u64]>,
    workers: Mutex<Workers>,
    series: Mutex<Series>,
    gauges: Mutex<Gauges>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefix: "apisix_".into(),
            buckets: DEFAULT_BUCKETS.into(),
            max_series: 50_000,
            hostname: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            expire: Expire::default(),
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Makes the metrics of a process. A prefix that cannot begin a metric name is replaced by
    /// `apisix_`, and that is logged.
    pub fn new(mut settings: Settings) -> Arc<Self> {
        if !exposition::is_prefix(&settings.prefix) {
            tracing::error!(
                metric_prefix = settings.prefix,
                "plugin_attr.prometheus.metric_prefix: expected letters, digits and underscores, \
                 not beginning with a digit; using apisix_"
            );
            settings.prefix = "apisix_".into();
        }
        settings.buckets.retain(|ms| ms.is_finite() && *ms > 0.0);
        settings.buckets.sort_by(f64::total_cmp);
        settings.buckets.dedup();
        let bounds: Arc<[u64]> = settings.buckets.iter().map(|ms| nanos_of_ms(*ms)).collect();
        Arc::new(Self {
            series: Mutex::new(Series::new(settings.max_series, settings.expire)),
            bounds,
            workers: Mutex::default(),
            gauges: Mutex::default(),
            settings,
        })
    }

    /// The recording end for one worker; to be made on the thread that will use it, so that its
    /// cells come from that thread's heap and share no cache line with another worker's.
    pub fn worker(self: &Arc<Self>) -> Worker {
        let cells = lock(&self.workers).add();
        Worker::new(cells, self.bounds.clone(), self.settings.max_series)
    }

    /// Adds what the workers counted since the last call to the merged series, and forgets what
    /// has expired. To be called every few seconds; [`tick()`] does.
    pub fn tick(&self) {
        self.tick_at(Instant::now());
    }

    fn tick_at(&self, now: Instant) {
        let arrivals = lock(&self.workers).arrivals();
        lock(&self.series).merge(arrivals, now);
    }

    /// The exposition text (version 0.0.4), up to date with all samples recorded before the call.
    pub fn encode(&self) -> String {
        self.tick();
        let dropped = self.dropped_samples();
        let mut families = lock(&self.series).families(&self.settings, dropped);
        families.extend(lock(&self.workers).families(&self.settings));
        families.extend(lock(&self.gauges).families(&self.settings));
        families.extend(process::families());
        exposition::text(families)
    }

    /// Sets the labels that are written as `""` from now on; series that were counted under
    /// other labels stay until they expire.
    pub fn set_disabled_labels(&self, disabled: DisabledLabels) {
        lock(&self.series).set_disabled_labels(disabled);
    }

    /// Forgets the series of every route whose `route` label is not `live`, so that deleted
    /// routes disappear from the exposition. Series without a route always stay. Costs a look at
    /// every series; a request of a deleted route that is still in flight makes its series again,
    /// until the next call.
    pub fn retain_routes(&self, live: impl Fn(&str) -> bool) {
        lock(&self.series).retain_routes(|route| route.is_empty() || live(route));
    }

    /// Samples that found no room, so far.
    pub fn dropped_samples(&self) -> u64 {
        lock(&self.workers).dropped() + lock(&self.series).dropped()
    }

    /// `etcd_reachable`: whether the last contact with the store succeeded. Absent until set.
    pub fn set_etcd_reachable(&self, reachable: bool) {
        lock(&self.gauges).etcd_reachable = Some(reachable);
    }

    /// `etcd_modify_indexes{key}`: the newest revision below a folder (`routes`, …), or of
    /// `max_modify_index`, `prev_index`, `x_etcd_index`.
    pub fn set_modify_index(&self, key: &str, revision: i64) {
        lock(&self.gauges).modify_indexes.insert(key.into(), revision);
    }

    /// `sluice_snapshot_revision`: the store revision that the workers serve.
    pub fn set_snapshot_revision(&self, revision: i64) {
        lock(&self.gauges).snapshot_revision = Some(revision);
    }

    /// `sluice_config_apply_duration_seconds`: from a change's arrival to its publication.
    pub fn observe_apply(&self, took: Duration) {
        lock(&self.gauges).observe_apply(took);
    }

    /// `sluice_rejected_resources{kind}`: how many stored resources of a kind cannot be used now.
    pub fn set_rejected(&self, kind: &str, count: usize) {
        lock(&self.gauges).rejected.insert(kind.into(), count);
    }

    /// `sluice_certificate_expiry_timestamp_seconds{ssl,sni}`: `notAfter` of the certificate that
    /// is served for an SNI of an ssl object, in seconds since 1970.
    pub fn set_certificate_expiry(&self, ssl: &str, sni: &str, unix_seconds: i64) {
        lock(&self.gauges).certificates.insert((ssl.into(), sni.into()), unix_seconds);
    }

    /// Forgets the certificates for which `live(ssl, sni)` is false.
    pub fn retain_certificates(&self, live: impl Fn(&str, &str) -> bool) {
        lock(&self.gauges).certificates.retain(|(ssl, sni), _| live(ssl, sni));
    }

    /// `sluice_secret_fetches_total{manager,result}`: one more fetch from a secret manager
    /// (`vault`, …) that ended as `result` (`ok`, `not_found`, `error`, …).
    pub fn secret_fetch(&self, manager: &str, result: &str) {
        let key = (manager.into(), result.into());
        *lock(&self.gauges).secret_fetches.entry(key).or_default() += 1;
    }

    /// `sluice_secret_references{manager,state}`, `sluice_secret_oldest_age_seconds{manager}` and
    /// `sluice_secret_consecutive_failures{manager}`: the secrets in use, by manager.
    pub fn set_secrets(&self, secrets: BTreeMap<String, SecretGauges>) {
        lock(&self.gauges).secrets = secrets;
    }

    /// How often [`tick()`] ticks: often enough for the shortest expiry, and no more, since a tick
    /// costs a look at every series that a request has changed.
    fn tick_interval(&self) -> Duration {
        let Expire { http_status, http_latency, bandwidth } = self.settings.expire;
        [http_status, http_latency, bandwidth]
            .into_iter()
            .flatten()
            .map(|expire| expire / 4)
            .min()
            .unwrap_or(LONGEST_TICK)
            .clamp(Duration::from_millis(250), LONGEST_TICK)
    }
}

/// Locks, also after a panic of another holder: counters are still the best that there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, saturates")]
fn nanos_of_ms(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

#[cfg(test)]
mod tests;
