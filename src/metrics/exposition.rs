//! From numbers to the exposition text, by way of the `prometheus` crate's model and encoder.

use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

/// A histogram's numbers.
pub(super) struct Histogram<'a> {
    /// Upper bounds of the finite buckets, ascending.
    pub(super) bounds: &'a [f64],
    /// Observations by bucket, not cumulative, `+Inf` last.
    pub(super) counts: &'a [u64],
    pub(super) sum: f64,
}

/// Encodes `families`, sorted by name; those without a metric are left out.
pub(super) fn text(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::new();
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    text
}

/// Whether `prefix` can stand before a metric name.
pub(super) fn is_prefix(prefix: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    prefix.chars().all(is_word) && !prefix.starts_with(|c: char| c.is_ascii_digit())
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs.iter().map(|(name, value)| label(name, value)).collect()
}

pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

pub(super) fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn counters(
    name: String,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

pub(super) fn gauges(
    name: String,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::GAUGE, metrics)
}

pub(super) fn histograms(
    name: String,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::HISTOGRAM, metrics)
}

fn family(
    name: String,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

// === impl Histogram ===

impl Histogram<'_> {
    pub(super) fn metric(&self, labels: Vec<LabelPair>) -> Metric {
        let mut cumulative = 0;
        let buckets = self.bounds.iter().zip(self.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.counts.iter().sum());
        histogram.set_sample_sum(self.sum);
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram);
        metric
    }
}
