//! W10: what config costs: loading all of it, holding it, and changing one thing of it.
//!
//! In the bench's own process, without a network: `n` routes over `n`/10 upstreams and `n`/10
//! ssls go through the compiler as a store would deliver them; then single resources change, and
//! each change is timed from the stored bytes to the published snapshot. Each `n` has a process
//! of its own, so that one's memory is not another's.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice::resource::Keyring;
use sluice::secret::{Secrets, Settings as SecretSettings};
use sluice::snapshot::compile::{Compiler, Settings};
use sluice::store::Entry;
use sluice::upstream::Keepalive;
use sluice::upstream::dns::{Dns, Settings as DnsSettings};

use crate::process::{self, Seat};
use crate::table::{Report, Table, micros};
use crate::{matching, names};

/// How many routes there are, one run each.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// How many changes of each kind are timed.
const CHANGES: usize = 1_000;

/// The first key of APISIX's own default: ssls keep their private keys encrypted.
const KEY: &str = "qeddd145sfvddff3";

/// What a run of its own process found out.
#[derive(Serialize, Deserialize)]
struct Found {
    routes: usize,
    load_ms: f64,
    /// What the process has grown by.
    memory_mib: f64,
    route: Times,
    upstream: Times,
    ssl: Times,
}

/// Times of one kind of change, in microseconds.
#[derive(Serialize, Deserialize)]
struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

/// The resources as they are stored, and their private key.
struct Config {
    routes: usize,
    key: rcgen::KeyPair,
    keyring: Keyring,
}

/// Runs W10 for every size, then the finding of certificates and of routes.
pub fn run(report: &mut Report) -> Result<()> {
    let mut table = Table::new(
        "W10  config: n routes, n/10 upstreams, n/10 ssls; one change, from bytes to snapshot",
        &["routes", "load ms", "MiB", "change of", "p50 µs", "p99 µs", "max µs"],
    );
    let mut all = Vec::new();
    for routes in SIZES {
        let found = in_a_process_of_its_own(routes)?;
        for (kind, times) in
            [("a route", &found.route), ("an upstream", &found.upstream), ("an ssl", &found.ssl)]
        {
            table.row([
                routes.to_string(),
                format!("{:.0}", found.load_ms),
                format!("{:.1}", found.memory_mib),
                kind.to_owned(),
                micros(times.p50),
                micros(times.p99),
                micros(times.max),
            ]);
        }
        all.push(serde_json::to_value(found)?);
    }
    report.add("W10", table, Value::from(all));
    names::run(report)?;
    matching::run(report)
}

fn in_a_process_of_its_own(routes: usize) -> Result<Found> {
    let output = process::command(&std::env::current_exe()?, Seat::Proxy)
        .args(["--routes", &routes.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "W10 with {routes} routes: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One run, in a process that does nothing else; its result is JSON.
pub fn measure(routes: usize) -> Result<Value> {
    // What the listing takes counts too: a node that starts has it in memory as well.
    let before = resident()?;
    let config = Config::new(routes)?;
    let entries = config.entries()?;
    let (secrets, _changed) = Secrets::new(
        SecretSettings {
            ttl: Duration::from_secs(300),
            neg_ttl: Duration::from_secs(60),
            trusted: None,
        },
        tokio::runtime::Handle::current(),
        |_, _| {},
    );
    let server = "127.0.0.1:53".parse()?;
    let dns = Dns::new(DnsSettings { servers: vec![server], ..DnsSettings::default() })?;
    let settings = Settings {
        keepalive: Keepalive { size: 320, idle: Duration::from_secs(60), requests: 1000 },
        protocols: vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()],
        http2: true,
        terms: sluice::tls::Terms::default(),
        trusted: None,
        fallback_sni: None,
        router: sluice::router::Kind::HostUri,
        plugins: None,
        lua: sluice::lua::Limits::default(),
        encrypt_fields: true,
    };
    let mut compiler = Compiler::new(settings, config.keyring.clone(), secrets, dns);

    let began = Instant::now();
    compiler.load(1, entries);
    let published = ArcSwap::from_pointee(compiler.snapshot().clone());
    let load = began.elapsed();
    let memory = resident()?.saturating_sub(before);
    if let Some((kind, id, why)) = compiler.rejected().next() {
        bail!("{}/{id} was rejected: {:?}", kind.dir(), why.reasons);
    }
    ensure!(published.load().router.len() == routes, "not every route was taken");

    let mut revision = 1;
    let mut times = |change: &dyn Fn(usize) -> Result<(String, String)>| -> Result<Times> {
        let mut took = Vec::with_capacity(CHANGES);
        for turn in 0..CHANGES {
            revision += 1;
            let (key, value) = change(turn)?;
            let changes = vec![(key.into(), Some((Bytes::from(value), revision)))];
            let began = Instant::now();
            compiler.apply(revision, changes);
            // As the road does it; the old snapshot's last holder drops it.
            drop(published.swap(Arc::new(compiler.snapshot().clone())));
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        ensure!(compiler.rejected().next().is_none(), "a change was rejected");
        Ok(Times::of(took))
    };
    // Any route, far from the one before; an odd step visits every one.
    let pick = |turn: usize, of: usize| turn * 7919 % of;
    let parts = routes / 10;
    let found = Found {
        routes,
        load_ms: load.as_secs_f64() * 1e3,
        memory_mib: memory as f64 / f64::from(1 << 20),
        route: times(&|turn| Ok(config.route(pick(turn, routes), turn + 1)))?,
        upstream: times(&|turn| Ok(config.upstream(pick(turn, parts), turn + 1)))?,
        ssl: times(&|turn| config.ssl(pick(turn, parts), turn + 1))?,
    };
    black_box(published.load().revision);
    Ok(serde_json::to_value(found)?)
}

// === impl Config ===

impl Config {
    fn new(routes: usize) -> Result<Self> {
        Ok(Self { routes, key: rcgen::KeyPair::generate()?, keyring: Keyring::new([KEY])? })
    }

    /// Everything, as listed by a store.
    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut add = |(key, value): (String, String)| {
            entries.push(Entry {
                key: key.into(),
                value: value.into(),
                create_revision: 1,
                mod_revision: 1,
            });
        };
        for n in 0..self.routes / 10 {
            add(self.ssl(n, 0)?);
            add(self.upstream(n, 0));
        }
        for n in 0..self.routes {
            add(self.route(n, 0));
        }
        entries.sort_by(|a: &Entry, b: &Entry| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Route `n` in its `version`: ten paths a host, two plugins, an upstream by id.
    fn route(&self, n: usize, version: usize) -> (String, String) {
        let value = json!({
            "id": n.to_string(),
            "name": format!("route-{n}"),
            "uri": format!("/api/v1/service-{n}/*"),
            "host": format!("host-{}.example.com", n / 10),
            "upstream_id": (n / 10).to_string(),
            "plugins": {
                "prometheus": {},
                "limit-count": { "count": 1000 + version, "time_window": 60 },
            },
        });
        (format!("routes/{n}"), value.to_string())
    }

    fn upstream(&self, n: usize, version: usize) -> (String, String) {
        let (high, low) = (n / 250 % 250, n % 250);
        let value = json!({
            "id": n.to_string(),
            "type": "roundrobin",
            "nodes": {
                (format!("10.0.{high}.{low}:8080")): 1,
                (format!("10.1.{high}.{low}:8080")): 1 + version,
            },
        });
        (format!("upstreams/{n}"), value.to_string())
    }

    /// A certificate of its own for each; all share a private key, which costs the bench less and
    /// the compiler as much.
    fn ssl(&self, n: usize, version: usize) -> Result<(String, String)> {
        let name = format!("host-{n}.example.com");
        let mut params = rcgen::CertificateParams::new(vec![name.clone()])?;
        params.serial_number = Some((version as u64 + 1).into());
        let certificate = params.self_signed(&self.key).context("signing a certificate")?;
        let value = json!({
            "id": n.to_string(),
            "snis": [name],
            "cert": certificate.pem(),
            "key": self.keyring.encrypt(&self.key.serialize_pem()),
        });
        Ok((format!("ssls/{n}"), value.to_string()))
    }
}

// === impl Times ===

impl Times {
    fn of(mut micros: Vec<f64>) -> Self {
        micros.sort_by(f64::total_cmp);
        let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Resident memory of this process in bytes.
pub fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = process::kilobytes(&status, "VmRSS:").context("no VmRSS")?;
    Ok(kilobytes * 1024)
}
