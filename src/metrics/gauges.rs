//! What the control side knows: the store, the snapshot, certificates, secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::Settings;
use super::exposition::{self, Histogram, counter, gauge, labels};

/// Upper bounds of `sluice_config_apply_duration_seconds`: a change of one route takes well under
/// a millisecond, loading everything may take seconds.
const APPLY_BOUNDS: [f64; 11] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The values as they were last set. Absent until then: a node without etcd has no
/// `etcd_reachable` rather than a wrong one.
#[derive(Default)]
pub(super) struct Gauges {
    pub(super) etcd_reachable: Option<bool>,
    /// By `key`.
    pub(super) modify_indexes: BTreeMap<String, i64>,
    pub(super) snapshot_revision: Option<i64>,
    /// By `kind`.
    pub(super) rejected: BTreeMap<String, usize>,
    /// Seconds since 1970, by ssl id and SNI.
    pub(super) certificates: BTreeMap<(String, String), i64>,
    /// By manager and result.
    pub(super) secret_fetches: BTreeMap<(String, String), u64>,
    /// By manager.
    pub(super) secrets: BTreeMap<String, SecretGauges>,
    apply_counts: [u64; APPLY_BOUNDS.len() + 1],
    apply_sum: Duration,
}

/// The secrets in use of one manager.
#[derive(Debug, Clone, Default)]
pub struct SecretGauges {
    /// How many references are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// Since the last good read of the one that was read longest ago.
    pub oldest: Option<Duration>,
    /// The most reads that failed one after the other, of one path.
    pub failures: u32,
}

// === impl Gauges ===

impl Gauges {
    pub(super) fn observe_apply(&mut self, took: Duration) {
        let bucket = APPLY_BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.apply_counts[bucket] += 1;
        self.apply_sum += took;
    }

    pub(super) fn families(&self, settings: &Settings) -> Vec<MetricFamily> {
        let name = |name: &str| format!("{}{name}", settings.prefix);
        let node = [("hostname", settings.hostname.as_str()), ("version", &settings.version)];
        let apply = Histogram {
            bounds: &APPLY_BOUNDS,
            counts: &self.apply_counts,
            sum: self.apply_sum.as_secs_f64(),
        };
        vec![
            exposition::gauges(
                name("etcd_reachable"),
                "Whether the config store answers: 1, or 0",
                self.etcd_reachable.map(|reachable| gauge(Vec::new(), f64::from(reachable))),
            ),
            exposition::gauges(
                name("etcd_modify_indexes"),
                "Newest store revision by key",
                self.modify_indexes
                    .iter()
                    .map(|(key, revision)| gauge(labels(&[("key", key)]), *revision as f64)),
            ),
            exposition::gauges(name("node_info"), "This node", [gauge(labels(&node), 1.0)]),
            exposition::gauges(
                "sluice_snapshot_revision".into(),
                "Store revision that requests are served by",
                self.snapshot_revision.map(|revision| gauge(Vec::new(), revision as f64)),
            ),
            exposition::histograms(
                "sluice_config_apply_duration_seconds".into(),
                "From the arrival of a change to its publication",
                [apply.metric(Vec::new())],
            ),
            exposition::gauges(
                "sluice_rejected_resources".into(),
                "Stored resources that cannot be used, by kind",
                self.rejected
                    .iter()
                    .map(|(kind, count)| gauge(labels(&[("kind", kind)]), *count as f64)),
            ),
            exposition::gauges(
                "sluice_certificate_expiry_timestamp_seconds".into(),
                "End of validity of the certificate served for an SNI",
                self.certificates.iter().map(|((ssl, sni), at)| {
                    gauge(labels(&[("ssl", ssl), ("sni", sni)]), *at as f64)
                }),
            ),
            exposition::counters(
                "sluice_secret_fetches_total".into(),
                "Fetches from secret managers, by result",
                self.secret_fetches.iter().map(|((manager, result), count)| {
                    counter(labels(&[("manager", manager), ("result", result)]), *count as f64)
                }),
            ),
            exposition::gauges(
                "sluice_secret_references".into(),
                "References to secrets in use, by state",
                self.secrets.iter().flat_map(|(manager, secrets)| {
                    secrets.states.iter().map(move |(state, count)| {
                        gauge(labels(&[("manager", manager), ("state", state)]), *count as f64)
                    })
                }),
            ),
            exposition::gauges(
                "sluice_secret_oldest_age_seconds".into(),
                "Age of the secret in use that was read longest ago",
                self.secrets.iter().filter_map(|(manager, secrets)| {
                    let age = secrets.oldest?.as_secs_f64();
                    Some(gauge(labels(&[("manager", manager)]), age))
                }),
            ),
            exposition::gauges(
                "sluice_secret_consecutive_failures".into(),
                "Most reads of a secret that failed one after the other",
                self.secrets.iter().map(|(manager, secrets)| {
                    gauge(labels(&[("manager", manager)]), f64::from(secrets.failures))
                }),
            ),
        ]
    }
}
