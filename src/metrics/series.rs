//! The merged series: all workers' cells added up by label values, bounded and forgetful.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::proto::{LabelPair, MetricFamily};

use super::cells::{Cells, LATENCY_TYPES, Reading, Registration};
use super::exposition::{self, Histogram, counter, gauge};
use super::{DisabledLabels, Expire, Settings};

const HTTP_STATUS: &str = "http_status";
const HTTP_LATENCY: &str = "http_latency";
const BANDWIDTH: &str = "bandwidth";

/// Labels of `http_status`, in APISIX's order.
const STATUS_LABELS: [&str; 11] = [
    "code",
    "route",
    "matched_uri",
    "matched_host",
    "service",
    "consumer",
    "node",
    "request_type",
    "request_llm_model",
    "llm_model",
    "response_source",
];

/// Labels of `http_latency` and `bandwidth`, in APISIX's order, after `type`.
const TRAFFIC_LABELS: [&str; 7] =
    ["route", "service", "consumer", "node", "request_type", "request_llm_model", "llm_model"];

/// Stands between label values in a key; cannot stand in one.
const SEPARATOR: char = '\0';

/// Values of labels in the order of the family's names.
type Labels = Arc<str>;

/// What all workers counted.
pub(super) struct Series {
    members: Vec<Member>,
    status: Family<u64>,
    latency: Family<Latency>,
    bandwidth: Family<Bandwidth>,
    disabled: DisabledLabels,
    /// Samples for which a family had no room.
    dropped: u64,
    /// Whether the log says that there is no room.
    reported: bool,
}

/// One worker's cells for one set of identities, and the series to which they add.
struct Member {
    cells: Cells,
    seen: Reading,
    /// All of [`STATUS_LABELS`], none disabled.
    full: Labels,
    status: Labels,
    latency: Labels,
    bandwidth: Labels,
}

/// The series of one metric.
struct Family<T> {
    series: BTreeMap<Labels, Merged<T>>,
    max: usize,
    expire: Option<Duration>,
}

struct Merged<T> {
    total: T,
    changed: Instant,
}

#[derive(Default)]
struct Latency {
    /// Nanoseconds, by latency type.
    sums: [u64; 3],
    buckets: Box<[u64]>,
}

#[derive(Default)]
struct Bandwidth {
    ingress: u64,
    egress: u64,
}

// === impl Series ===

impl Series {
    pub(super) fn new(max: usize, expire: Expire) -> Self {
        Self {
            members: Vec::new(),
            status: Family::new(max, expire.http_status),
            latency: Family::new(max, expire.http_latency),
            bandwidth: Family::new(max, expire.bandwidth),
            disabled: DisabledLabels::new(),
            dropped: 0,
            reported: false,
        }
    }

    /// Takes over the workers' new cells, adds what is new in all cells to the series, then
    /// forgets the expired ones.
    pub(super) fn merge(&mut self, arrivals: Vec<Registration>, now: Instant) {
        let Self { members, status, latency, bandwidth, disabled, dropped, .. } = self;
        members.extend(arrivals.into_iter().map(|new| Member::new(new, disabled)));
        let dropped_before = *dropped;
        members.retain_mut(|member| {
            // Looked at first: else a last sample could come in between.
            let is_live = member.cells.are_shared();
            if let Some(added) = member.cells.since(&mut member.seen) {
                let fits = status.add(&member.status, now, |total| *total += added.requests)
                    & latency.add(&member.latency, now, |total| total.add(&added))
                    & bandwidth.add(&member.bandwidth, now, |total| total.add(&added));
                if !fits {
                    *dropped += added.requests;
                }
            }
            is_live
        });
        status.forget(now);
        latency.forget(now);
        bandwidth.forget(now);
        if *dropped > dropped_before && !self.reported {
            self.reported = true;
            tracing::warn!(
                max_series = self.status.max,
                "metrics are full: samples of new series are only counted in \
                 sluice_metrics_dropped_samples_total"
            );
        }
    }

    pub(super) fn set_disabled_labels(&mut self, disabled: DisabledLabels) {
        self.disabled = disabled;
        for member in &mut self.members {
            member.project(&self.disabled);
        }
    }

    pub(super) fn retain_routes(&mut self, keep: impl Fn(&str) -> bool) {
        self.status.retain_label(1, &keep);
        self.latency.retain_label(0, &keep);
        self.bandwidth.retain_label(0, &keep);
        self.reported = false;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// The families as of the last merge. `dropped` is the number of samples lost anywhere.
    pub(super) fn families(&self, settings: &Settings, dropped: u64) -> Vec<MetricFamily> {
        let name = |name: &str| format!("{}{name}", settings.prefix);
        let status = self.status.series.iter().map(|(values, merged)| {
            counter(labels(None, &STATUS_LABELS, values), merged.total as f64)
        });
        let latency = LATENCY_TYPES.iter().enumerate().flat_map(|(index, kind)| {
            self.latency.series.iter().filter_map(move |(values, merged)| {
                let histogram = merged.total.histogram(index, &settings.buckets)?;
                Some(histogram.metric(labels(Some(kind), &TRAFFIC_LABELS, values)))
            })
        });
        let bandwidth = ["egress", "ingress"].into_iter().flat_map(|kind| {
            self.bandwidth.series.iter().map(move |(values, merged)| {
                let Bandwidth { ingress, egress } = merged.total;
                let bytes = if kind == "ingress" { ingress } else { egress };
                counter(labels(Some(kind), &TRAFFIC_LABELS, values), bytes as f64)
            })
        });
        let sizes = [
            (BANDWIDTH, self.bandwidth.series.len()),
            (HTTP_LATENCY, self.latency.series.len()),
            (HTTP_STATUS, self.status.series.len()),
        ]
        .map(|(metric, len)| gauge(exposition::labels(&[("metric", metric)]), len as f64));
        let dropped = || [counter(Vec::new(), dropped as f64)];

        vec![
            exposition::counters(name(HTTP_STATUS), "Responses by status code and route", status),
            exposition::histograms(
                name(HTTP_LATENCY),
                "Latency in milliseconds: the whole request, the upstream's part, the gateway's own",
                latency,
            ),
            exposition::counters(
                name(BANDWIDTH),
                "Bytes received from (ingress) and sent to (egress) clients",
                bandwidth,
            ),
            exposition::counters(
                name("nginx_metric_errors_total"),
                "Samples that could not be recorded",
                dropped(),
            ),
            exposition::counters(
                "sluice_metrics_dropped_samples_total".into(),
                "Samples of series for which there was no room",
                dropped(),
            ),
            exposition::gauges("sluice_metrics_series".into(), "Series held, by metric", sizes),
        ]
    }
}

// === impl Member ===

impl Member {
    fn new(new: Registration, disabled: &DisabledLabels) -> Self {
        let code = new.status.to_string();
        let (route, service) = new.route.told(new.prefers_names);
        let full = join([
            code.as_str(),
            route,
            &new.route.matched_uri,
            &new.route.matched_host,
            service,
            new.consumer.as_deref().unwrap_or_default(),
            new.node.as_deref().unwrap_or_default(),
            "traditional_http",
            "",
            "",
            new.source,
        ]);
        let empty = Labels::default();
        let mut member = Self {
            seen: Reading::zero(&new.cells),
            cells: new.cells,
            full,
            status: empty.clone(),
            latency: empty.clone(),
            bandwidth: empty,
        };
        member.project(disabled);
        member
    }

    /// Works out to which series the cells add from now on.
    fn project(&mut self, disabled: &DisabledLabels) {
        let full: Vec<(&str, &str)> = STATUS_LABELS.into_iter().zip(split(&self.full)).collect();
        let project = |metric: &str, names: &[&str]| {
            let disabled = disabled.get(metric);
            let is_on = |name: &str| !disabled.is_some_and(|labels| labels.contains(name));
            let values = full.iter().filter(|(name, _)| names.contains(name));
            join(values.map(|(name, value)| if is_on(name) { value } else { "" }))
        };
        let status = project(HTTP_STATUS, &STATUS_LABELS);
        let latency = project(HTTP_LATENCY, &TRAFFIC_LABELS);
        let bandwidth = project(BANDWIDTH, &TRAFFIC_LABELS);
        (self.status, self.bandwidth) = (status, bandwidth);
        // Nearly always the same text: one copy then.
        self.latency = if latency == self.bandwidth { self.bandwidth.clone() } else { latency };
    }
}

// === impl Family ===

impl<T: Default> Family<T> {
    fn new(max: usize, expire: Option<Duration>) -> Self {
        Self { series: BTreeMap::new(), max, expire }
    }

    /// Adds to a series, which is made when it is new. False when there is no room for it.
    fn add(&mut self, labels: &Labels, now: Instant, add: impl FnOnce(&mut T)) -> bool {
        if let Some(merged) = self.series.get_mut(labels) {
            merged.changed = now;
            add(&mut merged.total);
            return true;
        }
        if self.series.len() >= self.max {
            return false;
        }
        let mut total = T::default();
        add(&mut total);
        self.series.insert(labels.clone(), Merged { total, changed: now });
        true
    }

    fn forget(&mut self, now: Instant) {
        if let Some(expire) = self.expire {
            self.series.retain(|_, merged| now.duration_since(merged.changed) < expire);
        }
    }

    fn retain_label(&mut self, index: usize, keep: impl Fn(&str) -> bool) {
        self.series.retain(|labels, _| split(labels).nth(index).is_none_or(&keep));
    }
}

// === impl Bandwidth ===

impl Bandwidth {
    fn add(&mut self, added: &Reading) {
        self.ingress += added.ingress_bytes;
        self.egress += added.egress_bytes;
    }
}

// === impl Latency ===

impl Latency {
    fn add(&mut self, added: &Reading) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; added.buckets.len()].into();
        }
        for (total, added) in self.buckets.iter_mut().zip(&added.buckets) {
            *total += added;
        }
        for (total, added) in self.sums.iter_mut().zip(&added.sums) {
            *total += added;
        }
    }

    /// The histogram of a latency type, `None` when nothing was observed.
    fn histogram<'a>(&'a self, kind: usize, bounds: &'a [f64]) -> Option<Histogram<'a>> {
        let counts = self.buckets.chunks(bounds.len() + 1).nth(kind)?;
        let sum = self.sums[kind] as f64 / 1e6;
        counts.iter().any(|n| *n > 0).then_some(Histogram { bounds, counts, sum })
    }
}

/// The label pairs of a series, those with a `type` first.
fn labels(kind: Option<&str>, names: &[&str], values: &str) -> Vec<LabelPair> {
    let kind = kind.map(|kind| exposition::label("type", kind));
    let others = names.iter().zip(split(values)).map(|(n, value)| exposition::label(n, value));
    kind.into_iter().chain(others).collect()
}

fn split(labels: &str) -> impl Iterator<Item = &str> {
    labels.split(SEPARATOR)
}

fn join<'a>(values: impl IntoIterator<Item = &'a str>) -> Labels {
    let mut text = String::new();
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            text.push(SEPARATOR);
        }
        // A name from JSON may hold it; U+FFFD is what a display would show.
        text.extend(value.chars().map(|c| if c == SEPARATOR { '\u{fffd}' } else { c }));
    }
    text.into()
}
