//! W10, second half: finding the route of a request, by how many there are and how they differ.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use sluice::router::{Kind, Matcher, Methods, Pattern, Router, Target};

use crate::table::{Report, Table};

/// Lookups in a batch; a batch is what the clock is read around.
const LOOKUPS: usize = 20_000;

/// Batches a case.
const BATCHES: usize = 21;

/// How the routes of a case differ.
#[derive(Clone, Copy)]
enum Shape {
    /// No host; the path tells.
    Path,
    /// Ten paths a host.
    HostAndPath,
    /// All on `/*`; the host tells.
    Host,
    /// All on `/*`; a wildcard host tells.
    WildcardHost,
    /// As [`Shape::Path`], and no route fits.
    Miss,
}

/// Times every case and adds the table.
pub fn run(report: &mut Report) -> Result<()> {
    let mut table = Table::new(
        "W10  finding a route",
        &["routes", "that differ in", "ns min", "ns median", "ns max"],
    );
    let mut all = Vec::new();
    for (routes, shape) in [
        (100, Shape::Path),
        (10_000, Shape::Path),
        (100_000, Shape::Path),
        (100, Shape::HostAndPath),
        (10_000, Shape::HostAndPath),
        (100_000, Shape::HostAndPath),
        (10_000, Shape::Host),
        (10_000, Shape::WildcardHost),
        (100_000, Shape::Miss),
    ] {
        let [min, median, max] = measure(routes, shape)?;
        let ns = |value: f64| format!("{value:.0}");
        table.row([routes.to_string(), shape.name().to_owned(), ns(min), ns(median), ns(max)]);
        all.push(json!({
            "routes": routes, "differ_in": shape.name(),
            "ns_min": min, "ns_median": median, "ns_max": max,
        }));
    }
    report.add("W10 matching", table, Value::from(all));
    Ok(())
}

/// Nanoseconds a lookup: smallest, median and greatest of the batches.
fn measure(routes: usize, shape: Shape) -> Result<[f64; 3]> {
    let mut router = Router::default();
    for n in 0..routes {
        let (host, path) = shape.pattern(n);
        let matcher = Matcher {
            id: n.to_string().into(),
            hosts: host.into_iter().map(Arc::from).collect(),
            paths: [Pattern::parse(Kind::HostUri, &path)?].into(),
            methods: Methods::default(),
            priority: 0,
        };
        router.insert(&Arc::new(matcher), &Arc::new(n));
    }
    // Made before the clock runs, and in no order that a cache could like.
    let mut random = fastrand::Rng::with_seed(1);
    let requests: Vec<(usize, String, String)> = (0..LOOKUPS)
        .map(|_| {
            let n = random.usize(..routes);
            let (host, path) = shape.request(n);
            (n, host, path)
        })
        .collect();
    let find = |host: &str, path: &str| {
        let target = Target { host: Some(host), authority: None, path };
        let found = router.find(target, &Method::GET, |_| true);
        found.map(|found| **found.value)
    };
    for (n, host, path) in &requests {
        let expected = (!matches!(shape, Shape::Miss)).then_some(*n);
        ensure!(find(host, path) == expected, "{host}{path} did not find route {n}");
    }
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for (_, host, path) in &requests {
                black_box(find(host, path));
            }
            began.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    Ok([batches[0], batches[BATCHES / 2], batches[BATCHES - 1]])
}

// === impl Shape ===

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::HostAndPath => "host and path",
            Self::Host => "host, all on /*",
            Self::WildcardHost => "wildcard host, all on /*",
            Self::Miss => "path, none fits",
        }
    }

    /// What route `n` matches by.
    fn pattern(self, n: usize) -> (Option<String>, String) {
        match self {
            Self::Path | Self::Miss => (None, format!("/api/v1/service-{n}/*")),
            Self::HostAndPath => {
                (Some(format!("host-{}.example.com", n / 10)), format!("/service-{}/*", n % 10))
            }
            Self::Host => (Some(format!("host-{n}.example.com")), "/*".to_owned()),
            Self::WildcardHost => (Some(format!("*.host-{n}.example.com")), "/*".to_owned()),
        }
    }

    /// Host and path of a request to route `n`.
    fn request(self, n: usize) -> (String, String) {
        let plain = "www.example.com".to_owned();
        match self {
            Self::Path => (plain, format!("/api/v1/service-{n}/items/42")),
            Self::HostAndPath => {
                (format!("host-{}.example.com", n / 10), format!("/service-{}/items/42", n % 10))
            }
            Self::Host => (format!("host-{n}.example.com"), "/items/42".to_owned()),
            Self::WildcardHost => (format!("a.host-{n}.example.com"), "/items/42".to_owned()),
            Self::Miss => (plain, format!("/api/v2/service-{n}/items/42")),
        }
    }
}
