//! W10, second half: finding the route of a request, by how many there are and how they differ;
//! what the tree of them takes, and what a change of it costs.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use sluice::expr::{Expr, Variable, Variables};
use sluice::router::{Kind, Matcher, Methods, Pattern, Router, Target};

use crate::table::{Report, Table};
use crate::weight::weigh;

/// Lookups in a batch; a batch is what the clock is read around.
const LOOKUPS: usize = 20_000;

/// Batches a case.
const BATCHES: usize = 11;

/// How many changes are timed.
const CHANGES: usize = 1_000;

/// How the routes of a case differ.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// No host; the path tells.
    Path,
    /// Ten paths a host.
    HostAndPath,
    /// A parameter in the path, no host.
    Parameter,
    /// All on `/*`; the host tells.
    Host,
    /// All on `/*`; a wildcard host tells.
    WildcardHost,
    /// All on `/*`; an argument that the route's conditions demand tells.
    Vars,
    /// As [`Shape::Path`], and no route fits.
    Miss,
}

/// A request's one argument.
struct Argument(String);

/// What one case came to.
struct Found {
    build_ms: f64,
    /// Beyond the texts of ids, hosts and paths, and the routes themselves.
    bytes_a_route: f64,
    /// Median microseconds of one change: a route out of the newest version, another one in.
    change_us: f64,
    /// Nanoseconds a lookup: smallest, median and greatest of the batches.
    ns: [f64; 3],
}

/// Times every case and adds the table.
pub fn run(report: &mut Report) -> Result<()> {
    let mut table = Table::new(
        "W10  finding a route; the tree of all of them",
        &[
            "router",
            "routes",
            "that differ in",
            "ns min",
            "ns median",
            "ns max",
            "build ms",
            "bytes/route",
            "change µs",
        ],
    );
    let mut all = Vec::new();
    for (kind, routes, shape) in [
        (Kind::HostUri, 100, Shape::Path),
        (Kind::HostUri, 10_000, Shape::Path),
        (Kind::HostUri, 100_000, Shape::Path),
        (Kind::HostUri, 100, Shape::HostAndPath),
        (Kind::HostUri, 10_000, Shape::HostAndPath),
        (Kind::HostUri, 100_000, Shape::HostAndPath),
        (Kind::HostUri, 10_000, Shape::Host),
        (Kind::HostUri, 10_000, Shape::WildcardHost),
        (Kind::HostUri, 10_000, Shape::Vars),
        (Kind::HostUri, 100_000, Shape::Miss),
        (Kind::Uri, 100_000, Shape::HostAndPath),
        (Kind::Uri, 10_000, Shape::Host),
        (Kind::Uri, 10_000, Shape::WildcardHost),
        (Kind::UriWithParameter, 100_000, Shape::Parameter),
    ] {
        let found = measure(kind, routes, shape)?;
        let [min, median, max] = found.ns;
        let ns = |value: f64| format!("{value:.0}");
        table.row([
            name(kind).to_owned(),
            routes.to_string(),
            shape.name().to_owned(),
            ns(min),
            ns(median),
            ns(max),
            format!("{:.1}", found.build_ms),
            ns(found.bytes_a_route),
            format!("{:.1}", found.change_us),
        ]);
        all.push(json!({
            "router": name(kind), "routes": routes, "differ_in": shape.name(),
            "ns_min": min, "ns_median": median, "ns_max": max, "build_ms": found.build_ms,
            "bytes_a_route": found.bytes_a_route, "change_us": found.change_us,
        }));
    }
    report.add("W10 matching", table, Value::from(all));
    Ok(())
}

fn measure(kind: Kind, routes: usize, shape: Shape) -> Result<Found> {
    let values: Vec<Arc<usize>> = (0..routes).map(Arc::new).collect();
    let began = Instant::now();
    let (router, bytes) = weigh(|| -> Result<_> {
        let mut router = Router::new(kind);
        for (n, value) in values.iter().enumerate() {
            router.insert(&shape.matcher(kind, n)?, value);
        }
        Ok(router)
    });
    let (router, build) = (router?, began.elapsed());
    let texts = (0..routes).map(|n| {
        let (host, path) = shape.pattern(n);
        n.to_string().len() + host.map_or(0, |host| host.len()) + path.len()
    });
    let texts: usize = texts.sum();
    Ok(Found {
        build_ms: build.as_secs_f64() * 1e3,
        bytes_a_route: (bytes as f64 - texts as f64) / routes as f64,
        change_us: changes(&router, kind, shape, &values)?,
        ns: lookups(&router, shape, routes)?,
    })
}

fn changes(router: &Router<usize>, kind: Kind, shape: Shape, values: &[Arc<usize>]) -> Result<f64> {
    let mut newest = router.clone();
    let mut took = Vec::with_capacity(CHANGES);
    for turn in 0..CHANGES {
        // Any route, far from the one before.
        let n = turn * 7919 % values.len();
        let (old, new) = (shape.matcher(kind, n)?, shape.matcher(kind, n)?);
        let began = Instant::now();
        let mut next = newest.clone();
        next.remove(&old);
        next.insert(&new, &values[n]);
        newest = next;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[CHANGES / 2])
}

fn lookups(router: &Router<usize>, shape: Shape, routes: usize) -> Result<[f64; 3]> {
    // Made before the clock runs, and in no order that a cache could like.
    let mut random = fastrand::Rng::with_seed(1);
    let requests: Vec<(usize, String, String, Argument)> = (0..LOOKUPS)
        .map(|_| {
            let n = random.usize(..routes);
            let (host, path) = shape.request(n);
            (n, host, path, Argument(n.to_string()))
        })
        .collect();
    let find = |n: usize, host: &str, path: &str, argument: &Argument| {
        let target = Target { host: Some(host), authority: None, path, variables: Some(argument) };
        let accept = |value: &usize| shape != Shape::Vars || *value == n;
        router.find(target, &Method::GET, accept).map(|found| **found.value())
    };
    for (n, host, path, argument) in &requests {
        let expected = (shape != Shape::Miss).then_some(*n);
        ensure!(find(*n, host, path, argument) == expected, "{host}{path} did not find route {n}");
    }
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for (n, host, path, argument) in &requests {
                black_box(find(*n, host, path, argument));
            }
            began.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    Ok([batches[0], batches[BATCHES / 2], batches[BATCHES - 1]])
}

impl Variables for Argument {
    fn get(&self, _: &Variable) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.0))
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::HostUri => "radixtree_host_uri",
        Kind::Uri => "radixtree_uri",
        Kind::UriWithParameter => "radixtree_uri_with_parameter",
    }
}

// === impl Shape ===

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::HostAndPath => "host and path",
            Self::Parameter => "path before a parameter",
            Self::Host => "host, all on /*",
            Self::WildcardHost => "wildcard host, all on /*",
            Self::Vars => "vars, all on /*",
            Self::Miss => "path, none fits",
        }
    }

    fn matcher(self, kind: Kind, n: usize) -> Result<Arc<Matcher>> {
        let (host, path) = self.pattern(n);
        Ok(Arc::new(Matcher {
            id: n.to_string().into(),
            hosts: host.into_iter().map(Arc::from).collect(),
            paths: [Pattern::parse(kind, &path)?].into(),
            methods: Methods::default(),
            priority: 0,
            pins: match self {
                Self::Vars => {
                    Expr::compile(&[json!(["arg_v", "==", n.to_string()])])?.pins().into()
                }
                _ => Box::default(),
            },
        }))
    }

    /// What route `n` matches by.
    fn pattern(self, n: usize) -> (Option<String>, String) {
        match self {
            Self::Path | Self::Miss => (None, format!("/api/v1/service-{n}/*")),
            Self::HostAndPath => {
                (Some(format!("host-{}.example.com", n / 10)), format!("/service-{}/*", n % 10))
            }
            Self::Parameter => (None, format!("/api/v1/service-{n}/:item/*rest")),
            Self::Host => (Some(format!("host-{n}.example.com")), "/*".to_owned()),
            Self::WildcardHost => (Some(format!("*.host-{n}.example.com")), "/*".to_owned()),
            Self::Vars => (None, "/*".to_owned()),
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
            Self::Parameter => (plain, format!("/api/v1/service-{n}/items/42/x")),
            Self::Host => (format!("host-{n}.example.com"), "/items/42".to_owned()),
            Self::WildcardHost => (format!("a.host-{n}.example.com"), "/items/42".to_owned()),
            Self::Vars => (plain, "/items/42".to_owned()),
            Self::Miss => (plain, format!("/api/v2/service-{n}/items/42")),
        }
    }
}
