//! The keys under `plugin_attr`: settings of plugins that hold for the whole node.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Address;
use super::decode::millis;

/// `plugin_attr`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PluginAttr {
    pub prometheus: Prometheus,
    /// Every other plugin's settings as they were written, by plugin name.
    #[serde(flatten)]
    pub others: Attrs,
}

/// Settings that only their plugin can check; `Debug` shows names only, as values may be secret.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Attrs(pub BTreeMap<String, Value>);

/// `plugin_attr.prometheus`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// Begins with a slash.
    pub export_uri: String,
    /// What every metric's name begins with.
    pub metric_prefix: String,
    /// Whether the metrics are served at `export_addr`.
    pub enable_export_server: bool,
    pub export_addr: Address,
    /// How old the served figures may be.
    #[serde(deserialize_with = "millis")]
    pub refresh_interval: Duration,
    /// Settings of single metrics, by name without prefix: `http_status`, `http_latency`,
    /// `bandwidth`, `upstream_status`.
    pub metrics: BTreeMap<String, Metric>,
    /// Upper bounds of the latency histogram's buckets, in milliseconds, ascending.
    pub default_buckets: Vec<f64>,
}

/// `plugin_attr.prometheus.metrics.*`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// How long a series without news is kept; zero means for ever.
    #[serde(deserialize_with = "millis")]
    pub expire: Duration,
    pub extra_labels: Vec<ExtraLabel>,
}

/// A label whose value is a variable of the request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraLabel {
    pub name: String,
    /// Without the `$`.
    pub variable: String,
}

// === impl Attrs ===

impl fmt::Debug for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
