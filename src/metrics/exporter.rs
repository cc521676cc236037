//! The exposition: cells of all workers merged into Prometheus families, and the endpoint.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;

use super::cells::{APISIX, Histogram, REQUEST, UPSTREAM};
use super::{Metrics, RouteLabels};

/// The labels of a series as text: what merges the cells of several workers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: String,
    matched_uri: String,
    matched_host: String,
    service: String,
    consumer: String,
    node: String,
}

#[derive(Default)]
struct Merged {
    status: BTreeMap<(Labels, u16, bool), u64>,
    bandwidth: BTreeMap<(Labels, &'static str), u64>,
    latency: BTreeMap<(Labels, &'static str), (Vec<u64>, u64)>,
}

// === impl Metrics ===

impl Metrics {
    /// The whole exposition in Prometheus' text format.
    pub fn encode(&self) -> String {
        let mut families = Vec::new();
        self.connections(&mut families);
        self.exchanges(&mut families);
        self.control(&mut families);
        let mut text = Vec::new();
        families.retain(|family| !family.get_metric().is_empty());
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn family(&self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
        named(&format!("{}{name}", self.settings.prefix), help, kind, metrics)
    }

    fn connections(&self, families: &mut Vec<MetricFamily>) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&super::cells::Connections) -> i64| -> f64 {
            workers.iter().map(|shelf| of(&shelf.connections)).sum::<i64>() as f64
        };
        let accepted = sum(|c| c.accepted.get() as i64);
        let active = sum(|c| c.active.load(Ordering::Relaxed));
        let writing = sum(|c| c.writing.load(Ordering::Relaxed));
        let requests = sum(|c| c.requests.get() as i64);
        let states = [
            ("accepted", accepted),
            ("active", active),
            ("handled", accepted),
            ("reading", 0.0),
            ("waiting", (active - writing).max(0.0)),
            ("writing", writing),
        ];
        families.push(self.family(
            "nginx_http_current_connections",
            "Number of HTTP connections",
            MetricType::GAUGE,
            states.map(|(state, value)| gauge(&[("state", state)], value)).into(),
        ));
        families.push(self.family(
            "http_requests_total",
            "The total number of client requests since the start",
            MetricType::GAUGE,
            vec![gauge(&[], requests)],
        ));
    }

    fn merge(&self) -> Merged {
        let mut merged = Merged::default();
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in workers.iter() {
            let all = shelf.series.lock().unwrap_or_else(PoisonError::into_inner);
            for series in all.iter() {
                let text = |label: &Option<Arc<str>>| label.as_deref().unwrap_or("").to_owned();
                let labels = Labels::new(&series.route, text(&series.consumer), text(&series.node));
                // Latency and bandwidth have no labels for what was matched.
                let plain = Labels {
                    matched_uri: String::new(),
                    matched_host: String::new(),
                    ..labels.clone()
                };
                let status = (labels, series.status, series.from_upstream);
                *merged.status.entry(status).or_default() += series.requests.get();
                for (direction, cell) in [
                    ("egress", &series.egress_bytes),
                    ("ingress", &series.ingress_bytes),
                ] {
                    let key = (plain.clone(), direction);
                    *merged.bandwidth.entry(key).or_default() += cell.get();
                }
                for (kind, place) in [("apisix", APISIX), ("request", REQUEST), ("upstream", UPSTREAM)] {
                    merged.add((plain.clone(), kind), &series.latency[place]);
                }
            }
        }
        merged
    }

    fn exchanges(&self, families: &mut Vec<MetricFamily>) {
        let merged = self.merge();
        let status = merged.status.into_iter().map(|((labels, code, from_upstream), count)| {
            let code = code.to_string();
            let source = if from_upstream { "upstream" } else { "apisix" };
            counter(
                &[
                    ("code", code.as_str()),
                    ("route", &labels.route),
                    ("matched_uri", &labels.matched_uri),
                    ("matched_host", &labels.matched_host),
                    ("service", &labels.service),
                    ("consumer", &labels.consumer),
                    ("node", &labels.node),
                    ("request_type", "traditional_http"),
                    ("request_llm_model", ""),
                    ("llm_model", ""),
                    ("response_source", source),
                ],
                count as f64,
            )
        });
        let help = "HTTP status codes per service";
        let status = self.family("http_status", help, MetricType::COUNTER, status.collect());
        families.push(status);

        let latency = merged.latency.into_iter();
        let latency = latency.filter(|(_, (buckets, _))| buckets.iter().any(|count| *count > 0));
        let latency = latency.map(|((labels, kind), (buckets, sum_micros))| {
            let mut metric = labelled(&labels.typed(kind));
            metric.set_histogram(self.histogram(&buckets, sum_micros));
            metric
        });
        let help = "HTTP request latency in milliseconds per service";
        let latency = self.family("http_latency", help, MetricType::HISTOGRAM, latency.collect());
        families.push(latency);

        let bandwidth = merged.bandwidth.into_iter();
        let bandwidth = bandwidth
            .map(|((labels, direction), bytes)| counter(&labels.typed(direction), bytes as f64));
        let help = "Total bandwidth in bytes consumed per service";
        let bandwidth = self.family("bandwidth", help, MetricType::COUNTER, bandwidth.collect());
        families.push(bandwidth);
    }

    fn histogram(&self, buckets: &[u64], sum_micros: u64) -> prometheus::proto::Histogram {
        let mut histogram = prometheus::proto::Histogram::default();
        let mut cumulative = 0;
        let bounds = self.settings.buckets.iter().copied();
        let mut exported = Vec::new();
        for (bound, count) in bounds.chain([f64::INFINITY]).zip(buckets) {
            cumulative += count;
            let mut bucket = prometheus::proto::Bucket::default();
            bucket.set_cumulative_count(cumulative);
            bucket.set_upper_bound(bound);
            exported.push(bucket);
        }
        histogram.set_bucket(exported);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(sum_micros as f64 / 1000.0);
        histogram
    }

    fn control(&self, families: &mut Vec<MetricFamily>) {
        let values = self.gauges.values();
        let settings = &self.settings;
        let reachable = f64::from(u8::from(values.store_reachable));
        families.push(self.family(
            "etcd_reachable",
            "Whether the config store is reachable, 0 is unreachable",
            MetricType::GAUGE,
            vec![gauge(&[], reachable)],
        ));
        let indexes = values.modify_indexes.iter();
        families.push(self.family(
            "etcd_modify_indexes",
            "Newest revision of keys in the config store",
            MetricType::GAUGE,
            indexes.map(|(key, index)| gauge(&[("key", key)], *index as f64)).collect(),
        ));
        let node = [
            ("hostname", settings.hostname.as_str()),
            ("version", settings.version.as_str()),
        ];
        let info = vec![gauge(&node, 1.0)];
        families.push(self.family("node_info", "This node", MetricType::GAUGE, info));
        let errors = vec![counter(&[], 0.0)];
        families.push(self.family(
            "nginx_metric_errors_total",
            "Errors of the metric library; there is none here that could fail",
            MetricType::COUNTER,
            errors,
        ));
        families.extend(own(&values, self.dropped.load(Ordering::Relaxed)));
    }
}

/// Sluice's own families.
fn own(values: &super::gauges::Values, dropped: u64) -> Vec<MetricFamily> {
    let gauge_of = |name: &str, help: &str, metrics| named(name, help, MetricType::GAUGE, metrics);
    let count_of = |name: &str, help: &str, metrics| named(name, help, MetricType::COUNTER, metrics);
    let rejected = values.rejected.iter();
    let expiry = values.certificate_expiry.iter();
    let fetches = values.secret_fetches.iter();
    vec![
        gauge_of(
            "sluice_snapshot_revision",
            "Store revision that workers serve",
            vec![gauge(&[], values.snapshot_revision as f64)],
        ),
        count_of(
            "sluice_config_applied_total",
            "Snapshots published",
            vec![counter(&[], values.applied as f64)],
        ),
        count_of(
            "sluice_config_apply_seconds_total",
            "Time from events to the published snapshot, all added up",
            vec![counter(&[], values.apply_seconds_sum)],
        ),
        gauge_of(
            "sluice_config_apply_seconds",
            "Time from events to the published snapshot, the last one",
            vec![gauge(&[], values.apply_seconds_last)],
        ),
        gauge_of(
            "sluice_rejected_resources",
            "Resources that are rejected now; their last good version is served",
            rejected.map(|(kind, count)| gauge(&[("kind", kind)], *count as f64)).collect(),
        ),
        gauge_of(
            "sluice_certificate_expiry_timestamp_seconds",
            "When a served certificate ends",
            expiry
                .map(|((ssl, sni), end)| gauge(&[("ssl", ssl), ("sni", sni)], *end as f64))
                .collect(),
        ),
        count_of(
            "sluice_secret_fetches_total",
            "Reads of secret managers",
            fetches
                .map(|((manager, result), count)| {
                    counter(&[("manager", manager), ("result", result)], *count as f64)
                })
                .collect(),
        ),
        count_of(
            "sluice_metrics_dropped_total",
            "Exchanges not counted because there are too many series",
            vec![counter(&[], dropped as f64)],
        ),
    ]
}

// === impl Labels ===

impl Labels {
    fn new(route: &RouteLabels, consumer: String, node: String) -> Self {
        Self {
            route: route.route.clone(),
            matched_uri: route.matched_uri.clone(),
            matched_host: route.matched_host.clone(),
            service: route.service.clone(),
            consumer,
            node,
        }
    }

    fn typed<'l>(&'l self, kind: &'l str) -> [(&'l str, &'l str); 8] {
        [
            ("type", kind),
            ("route", &self.route),
            ("service", &self.service),
            ("consumer", &self.consumer),
            ("node", &self.node),
            ("request_type", "traditional_http"),
            ("request_llm_model", ""),
            ("llm_model", ""),
        ]
    }
}

// === impl Merged ===

impl Merged {
    fn add(&mut self, key: (Labels, &'static str), histogram: &Histogram) {
        let buckets = histogram.buckets.len();
        let (counts, sum) = self.latency.entry(key).or_insert_with(|| (vec![0; buckets], 0));
        for (count, cell) in counts.iter_mut().zip(&histogram.buckets) {
            *count += cell.get();
        }
        *sum += histogram.sum_micros.get();
    }
}

fn named(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = prometheus::proto::Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = prometheus::proto::Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

/// Serves the exposition at `path` until `stop` is done. `refresh` runs before each scrape.
pub async fn serve(
    listener: TcpListener,
    path: String,
    metrics: Arc<Metrics>,
    refresh: impl Fn() + Send + Sync + 'static,
) {
    let shared = Arc::new((path, metrics, refresh));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let shared = shared.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let shared = shared.clone();
            async move {
                let (path, metrics, refresh) = &*shared;
                let mut response = Response::new(Full::<bytes::Bytes>::default());
                if request.uri().path() == path {
                    refresh();
                    *response.body_mut() = Full::from(metrics.encode());
                    let text = http::HeaderValue::from_static("text/plain; version=0.0.4");
                    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
                } else {
                    *response.status_mut() = http::StatusCode::NOT_FOUND;
                }
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a scrape broke off");
            }
        });
    }
}
