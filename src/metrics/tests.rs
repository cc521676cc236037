//! Tests of recording, merging and the exposition.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn metrics(settings: Settings) -> Arc<Metrics> {
    Metrics::new(settings)
}

fn route(id: &str) -> Arc<RouteLabels> {
    Arc::new(RouteLabels {
        id: id.into(),
        service_id: "s1".into(),
        matched_uri: "/ip".into(),
        matched_host: "a.example".into(),
        ..RouteLabels::default()
    })
}

fn sample(route: &Arc<RouteLabels>) -> Sample<'_> {
    Sample {
        route,
        prefers_names: false,
        consumer: None,
        node: None,
        status: 200,
        from_upstream: false,
        latency: Duration::from_millis(7),
        upstream_latency: None,
        ingress_bytes: 100,
        egress_bytes: 1000,
    }
}

/// The value of the one line that begins with `series` and a blank.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = lines.next().map(|value| value.parse().unwrap());
    assert_eq!(lines.next(), None, "{series} stands twice");
    value
}

fn lines_of<'a>(text: &'a str, metric: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(metric)).collect()
}

#[test]
fn writes_names_and_labels_as_apisix_does() {
    let metrics = metrics(Settings { buckets: vec![5.0, 10.0], ..Settings::default() });
    let worker = metrics.worker();
    let route = route("1");
    let (consumer, node): (Arc<str>, Arc<str>) = ("jack".into(), "127.0.0.1".into());
    worker.record(Sample {
        consumer: Some(&consumer),
        node: Some(&node),
        from_upstream: true,
        upstream_latency: Some(Duration::from_millis(4)),
        ..sample(&route)
    });
    let text = metrics.encode();
    let rest = r#"route="1",service="s1",consumer="jack",node="127.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="""#;
    assert_eq!(
        lines_of(&text, "apisix_http_status"),
        [
            r#"apisix_http_status{code="200",route="1",matched_uri="/ip",matched_host="a.example",service="s1",consumer="jack",node="127.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="",response_source="upstream"} 1"#
        ]
    );
    let latency = |kind: &str, five: u64, ten: u64, sum: u64| {
        [
            format!(r#"apisix_http_latency_bucket{{type="{kind}",{rest},le="5"}} {five}"#),
            format!(r#"apisix_http_latency_bucket{{type="{kind}",{rest},le="10"}} {ten}"#),
            format!(r#"apisix_http_latency_bucket{{type="{kind}",{rest},le="+Inf"}} 1"#),
            format!(r#"apisix_http_latency_sum{{type="{kind}",{rest}}} {sum}"#),
            format!(r#"apisix_http_latency_count{{type="{kind}",{rest}}} 1"#),
        ]
    };
    let expected =
        [latency("request", 0, 1, 7), latency("upstream", 1, 1, 4), latency("apisix", 1, 1, 3)];
    assert_eq!(lines_of(&text, "apisix_http_latency"), expected.concat());
    assert_eq!(
        lines_of(&text, "apisix_bandwidth"),
        [
            format!(r#"apisix_bandwidth{{type="egress",{rest}}} 1000"#),
            format!(r#"apisix_bandwidth{{type="ingress",{rest}}} 100"#),
        ]
    );
    for typed in [
        "# TYPE apisix_http_status counter",
        "# TYPE apisix_http_latency histogram",
        "# TYPE apisix_bandwidth counter",
        "# TYPE apisix_http_requests_total gauge",
        "# TYPE apisix_nginx_metric_errors_total counter",
    ] {
        assert!(text.lines().any(|line| line == typed), "{typed}");
    }
}

#[test]
fn tells_who_made_the_response() {
    let metrics = metrics(Settings::default());
    let worker = metrics.worker();
    let route = route("1");
    let node: Arc<str> = "10.0.0.1".into();
    worker.record(sample(&route));
    worker.record(Sample { node: Some(&node), status: 502, ..sample(&route) });
    worker.record(Sample { node: Some(&node), from_upstream: true, ..sample(&route) });
    let text = metrics.encode();
    let sources: Vec<_> = lines_of(&text, "apisix_http_status")
        .iter()
        .map(|line| line.split("response_source=").nth(1).unwrap())
        .collect();
    assert_eq!(sources, [r#""apisix"} 1"#, r#""upstream"} 1"#, r#""nginx"} 1"#]);
}

#[test]
fn an_exchange_without_upstream_has_no_upstream_latency() {
    let metrics = metrics(Settings::default());
    metrics.worker().record(sample(&Arc::default()));
    let text = metrics.encode();
    assert_eq!(lines_of(&text, r#"apisix_http_latency_count{type="request",route="","#).len(), 1);
    assert_eq!(lines_of(&text, r#"apisix_http_latency_count{type="upstream""#).len(), 0);
}

#[test]
fn buckets_are_cumulative_and_include_their_bound() {
    let metrics = metrics(Settings { buckets: vec![10.0, 1.0, 10.0], ..Settings::default() });
    let worker = metrics.worker();
    let route = route("1");
    for micros in [500, 1000, 1001, 10_000, 10_001, 90_000_000] {
        worker.record(Sample { latency: Duration::from_micros(micros), ..sample(&route) });
    }
    let text = metrics.encode();
    let count = |le: &str| {
        let labels = r#"type="request",route="1",service="s1",consumer="",node="",request_type="traditional_http",request_llm_model="",llm_model="""#;
        value(&text, &format!(r#"apisix_http_latency_bucket{{{labels},le="{le}"}}"#)).unwrap()
    };
    assert_eq!((count("1"), count("10"), count("+Inf")), (2.0, 4.0, 6.0));
}

#[test]
fn adds_up_all_workers_also_those_that_ended() {
    let metrics = metrics(Settings::default());
    let route = route("1");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (metrics, route) = (metrics.clone(), route.clone());
            std::thread::spawn(move || {
                let worker = metrics.worker();
                worker.accepted();
                let _connection = worker.handled();
                for _ in 0..1000 {
                    worker.request();
                    worker.record(sample(&route));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let ours = metrics.worker();
    ours.record(sample(&route));
    ours.request();
    for _ in 0..3 {
        let text = metrics.encode();
        let status = lines_of(&text, "apisix_http_status{");
        assert_eq!(status.len(), 1);
        assert!(status[0].ends_with(" 4001"), "{status:?}");
        assert_eq!(value(&text, "apisix_http_requests_total"), Some(4001.0));
        let state = |state: &str| {
            value(&text, &format!(r#"apisix_nginx_http_current_connections{{state="{state}"}}"#))
        };
        assert_eq!((state("accepted"), state("handled")), (Some(4.0), Some(4.0)));
        assert_eq!(state("active"), Some(0.0));
    }
}

#[test]
fn a_scrape_during_recording_is_consistent_and_loses_nothing() {
    const SAMPLES: u64 = 50_000;
    let metrics = metrics(Settings::default());
    let routes: Vec<_> = (0..50).map(|id| route(&id.to_string())).collect();
    let recorders: Vec<_> = (0..2)
        .map(|_| {
            let (metrics, routes) = (metrics.clone(), routes.clone());
            std::thread::spawn(move || {
                let worker = metrics.worker();
                for n in 0..SAMPLES {
                    let route = &routes[usize::try_from(n).unwrap() % routes.len()];
                    worker.record(sample(route));
                }
            })
        })
        .collect();
    let total = |text: &str, metric: &str| -> f64 {
        let value = |line: &&str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        lines_of(text, metric).iter().map(value).sum()
    };
    let mut last = 0.0;
    while !recorders.iter().all(std::thread::JoinHandle::is_finished) {
        let text = metrics.encode();
        let now = total(&text, "apisix_http_status{");
        assert!(now >= last, "{now} after {last}");
        let observed = total(&text, r#"apisix_http_latency_count{type="request""#);
        assert!(observed >= now, "{observed} observations of {now} requests");
        last = now;
    }
    recorders.into_iter().for_each(|recorder| recorder.join().unwrap());
    let text = metrics.encode();
    let all = 2.0 * SAMPLES as f64;
    assert_eq!(total(&text, "apisix_http_status{"), all);
    assert_eq!(total(&text, r#"apisix_http_latency_count{type="apisix""#), all);
    assert_eq!(total(&text, r#"apisix_bandwidth{type="ingress""#), 100.0 * all);
}

#[test]
fn series_are_bounded_and_the_rest_is_counted() {
    let metrics = metrics(Settings { max_series: 10, ..Settings::default() });
    let workers = [metrics.worker(), metrics.worker()];
    let routes: Vec<_> = (0..30).map(|id| route(&format!("{id:02}"))).collect();
    for _ in 0..3 {
        for route in &routes {
            workers.iter().for_each(|worker| worker.record(sample(route)));
        }
    }
    let text = metrics.encode();
    assert_eq!(lines_of(&text, "apisix_http_status{").len(), 10);
    let dropped = 2.0 * 3.0 * 20.0;
    assert_eq!(value(&text, "sluice_metrics_dropped_samples_total"), Some(dropped));
    assert_eq!(value(&text, "apisix_nginx_metric_errors_total"), Some(dropped));
    assert_eq!(value(&text, r#"sluice_metrics_series{metric="http_status"}"#), Some(10.0));
    assert!(workers.iter().all(|worker| worker.slots() <= 10));
}

#[test]
fn a_recompiled_route_goes_on_where_it_was_and_leaves_nothing_behind() {
    let metrics = metrics(Settings { max_series: 1000, ..Settings::default() });
    let worker = metrics.worker();
    for _ in 0..5000 {
        worker.record(sample(&route("1")));
        metrics.tick();
    }
    let text = metrics.encode();
    assert!(lines_of(&text, "apisix_http_status{")[0].ends_with(" 5000"));
    assert_eq!(metrics.dropped_samples(), 0);
    assert!(worker.slots() < 300, "{} slots", worker.slots());
    assert!(lock(&metrics.series).members() < 300);
}

#[test]
fn series_of_deleted_routes_go_away_and_make_room() {
    let metrics = metrics(Settings { max_series: 3, ..Settings::default() });
    let worker = metrics.worker();
    let (kept, deleted, new) = (route("kept"), route("deleted"), route("new"));
    for route in [&kept, &deleted, &Arc::default()] {
        worker.record(sample(route));
    }
    metrics.tick();
    drop(deleted);
    metrics.retain_routes(|route| route == "kept");
    let routes = |text: &str| -> Vec<String> {
        let label = |line: &&str| line.split('"').nth(3).unwrap().to_owned();
        lines_of(text, "apisix_http_status{").iter().map(label).collect()
    };
    assert_eq!(routes(&metrics.encode()), ["", "kept"]);
    // The worker's own map still holds the dead route: it finds out when it is next full.
    for _ in 0..200 {
        worker.record(sample(&new));
    }
    assert_eq!(routes(&metrics.encode()), ["", "kept", "new"]);
    assert!(!metrics.encode().contains(r#"route="deleted""#));
}

#[test]
fn unchanged_series_expire_and_come_back() {
    let expire = Expire { http_status: Some(Duration::from_secs(5)), ..Expire::default() };
    let metrics = metrics(Settings { expire, ..Settings::default() });
    let worker = metrics.worker();
    let route = route("1");
    let start = Instant::now();
    let statuses = |metrics: &Metrics| {
        let dropped = metrics.dropped_samples();
        let families = lock(&metrics.series).families(&metrics.settings, dropped);
        let text = exposition::text(families);
        (
            lines_of(&text, "apisix_http_status{").len(),
            lines_of(&text, "apisix_http_latency_count{").len(),
        )
    };
    worker.record(sample(&route));
    metrics.tick_at(start);
    metrics.tick_at(start + Duration::from_secs(4));
    assert_eq!(statuses(&metrics), (1, 2));
    metrics.tick_at(start + Duration::from_secs(5));
    assert_eq!(statuses(&metrics), (0, 2), "only http_status expires");
    worker.record(sample(&route));
    metrics.tick_at(start + Duration::from_secs(6));
    assert_eq!(statuses(&metrics), (1, 2));
}

#[test]
fn disabled_labels_are_empty_in_their_metric_only() {
    let metrics = metrics(Settings::default());
    let worker = metrics.worker();
    let routes = [route("1"), route("2")];
    let node: Arc<str> = "10.0.0.1".into();
    let disabled = ["route", "node"].map(String::from).into();
    metrics.set_disabled_labels([("http_status".to_owned(), disabled)].into());
    for route in &routes {
        worker.record(Sample { node: Some(&node), ..sample(route) });
    }
    let text = metrics.encode();
    let status = lines_of(&text, "apisix_http_status{");
    assert_eq!(status.len(), 1);
    assert!(status[0].contains(r#"route="","#) && status[0].contains(r#"node="","#));
    assert!(status[0].ends_with(" 2"));
    let latency = lines_of(&text, r#"apisix_http_latency_count{type="request""#);
    assert_eq!(latency.len(), 2);
    assert!(latency[0].contains(r#"route="1""#) && latency[0].contains(r#"node="10.0.0.1""#));
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics(Settings::default());
    metrics.worker().record(sample(&route("a\"b\\c\nd\0e")));
    assert!(metrics.encode().contains(r#"route="a\"b\\c\nd"#));
}

#[test]
fn connections_are_counted_by_state() {
    let metrics = metrics(Settings::default());
    let worker = metrics.worker();
    let states = || {
        let text = metrics.encode();
        ["active", "reading", "writing", "waiting"].map(|state| {
            let series = format!(r#"apisix_nginx_http_current_connections{{state="{state}"}}"#);
            value(&text, &series).unwrap()
        })
    };
    worker.accepted();
    let first = worker.handled();
    assert_eq!(states(), [1.0, 0.0, 0.0, 1.0]);
    first.reading();
    let second = worker.handled();
    second.writing();
    second.writing();
    assert_eq!(states(), [2.0, 1.0, 1.0, 0.0]);
    first.waiting();
    drop(second);
    assert_eq!(states(), [1.0, 0.0, 0.0, 1.0]);
    drop(first);
    assert_eq!(states(), [0.0; 4]);
}

#[test]
fn control_gauges_are_absent_until_set() {
    let metrics = metrics(Settings {
        prefix: "gw_".into(),
        hostname: "h1".into(),
        version: "3.18.0".into(),
        ..Settings::default()
    });
    let text = metrics.encode();
    assert_eq!(value(&text, r#"gw_node_info{hostname="h1",version="3.18.0"}"#), Some(1.0));
    assert!(!text.contains("etcd_reachable") && !text.contains("sluice_snapshot_revision"));
    metrics.set_etcd_reachable(true);
    metrics.set_modify_index("routes", 17);
    metrics.set_snapshot_revision(18);
    metrics.observe_apply(Duration::from_millis(3));
    metrics.set_rejected("routes", 2);
    metrics.set_certificate_expiry("1", "a.example", 1_900_000_000);
    metrics.set_certificate_expiry("2", "b.example", 1_900_000_000);
    metrics.retain_certificates(|ssl, _| ssl == "1");
    metrics.secret_fetch("vault", "ok");
    metrics.secret_fetch("vault", "ok");
    let states = [("ready", 3), ("stale", 1)].into_iter().collect();
    let oldest = Some(Duration::from_secs(90));
    let gauges = SecretGauges { states, oldest, failures: 4 };
    metrics.set_secrets([("vault/1".to_owned(), gauges)].into_iter().collect());
    let text = metrics.encode();
    for (series, expected) in [
        (r#"sluice_secret_references{manager="vault/1",state="stale"}"#, 1.0),
        (r#"sluice_secret_oldest_age_seconds{manager="vault/1"}"#, 90.0),
        (r#"sluice_secret_consecutive_failures{manager="vault/1"}"#, 4.0),
        ("gw_etcd_reachable", 1.0),
        (r#"gw_etcd_modify_indexes{key="routes"}"#, 17.0),
        ("sluice_snapshot_revision", 18.0),
        ("sluice_config_apply_duration_seconds_count", 1.0),
        (r#"sluice_config_apply_duration_seconds_bucket{le="0.001"}"#, 0.0),
        (r#"sluice_config_apply_duration_seconds_bucket{le="0.005"}"#, 1.0),
        (r#"sluice_rejected_resources{kind="routes"}"#, 2.0),
        (
            r#"sluice_certificate_expiry_timestamp_seconds{ssl="1",sni="a.example"}"#,
            1_900_000_000.0,
        ),
        (r#"sluice_secret_fetches_total{manager="vault",result="ok"}"#, 2.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    assert!(!text.contains("b.example"));
}

#[test]
fn an_impossible_prefix_is_replaced() {
    let metrics = metrics(Settings { prefix: "9-lives".into(), ..Settings::default() });
    assert!(metrics.encode().contains("\napisix_node_info"));
}

#[test]
fn process_metrics_have_plausible_values() {
    let text = metrics(Settings::default()).encode();
    let process = |name: &str| value(&text, &format!("process_{name}")).unwrap();
    assert!(process("resident_memory_bytes") > 1e6);
    assert!(process("virtual_memory_bytes") > process("resident_memory_bytes"));
    assert!(process("open_fds") >= 3.0 && process("max_fds") >= process("open_fds"));
    assert!(process("start_time_seconds") > 1.5e9);
    assert!(process("threads") >= 1.0);
}

#[tokio::test]
async fn serves_the_text_on_its_path_only_and_stops() {
    let metrics = metrics(Settings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let refreshed = metrics.clone();
    let endpoint = crate::serve::Endpoint { name: "metrics", listener, tls: None };
    let server = tokio::spawn(serve(
        endpoint,
        "/apisix/prometheus/metrics".into(),
        move || refreshed.set_snapshot_revision(42),
        metrics,
        stopped,
    ));
    let client = reqwest::Client::new();
    let url = format!("http://{address}/apisix/prometheus/metrics");
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(value(&answer.text().await.unwrap(), "sluice_snapshot_revision"), Some(42.0));
    assert_eq!(client.patch(&url).send().await.unwrap().status(), 404);
    let other = format!("http://{address}/metrics");
    assert_eq!(client.get(&other).send().await.unwrap().status(), 404);
    stop.send(()).unwrap();
    server.await.unwrap();
}
