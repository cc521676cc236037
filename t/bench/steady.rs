//! W8: latency at a fixed rate, half of what saturates, on 10,000 routes; then the same while one
//! of them changes every 10 ms through the Admin API.
//!
//! Requests fall due at fixed times whatever the answers do, and latency counts from when one fell
//! due: a proxy that stalls is charged for everything that it holds up. Only the clock's own
//! lateness (a timer of 1 ms) is not charged to the proxy.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join, try_join_all};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::load::Load;
use crate::load::client::{Client, request};
use crate::peers::sluice::{ADMIN_KEY, Node, upstream};
use crate::peers::{Peer, Ports};
use crate::plugins::ROUTES;
use crate::process::free_port;
use crate::sample::Spread;
use crate::site::Site;
use crate::table::{Report, Table, micros};

/// A route changes this often.
const EVERY: Duration = Duration::from_millis(10);

/// Requests a second that nothing here answers in time: each connection is always busy. What does
/// get answered is the saturation of proxy, origin and this client together; wrk would drive the
/// proxy further, and half of that might be more than this client can send on time.
const SATURATING: f64 = 1e6;

/// Connections that share the rate.
const CONNECTIONS: usize = 64;

/// Callers of the Admin API while it is filled.
const WRITERS: usize = 16;

/// What the routes do in a round.
#[derive(Clone, Copy)]
enum Routes {
    AtRest,
    Changing,
}

/// What a round showed.
struct Round {
    load: Load,
    cpu_us: f64,
    /// How long changes took at the Admin API, if there were any.
    changes: Option<Load>,
}

/// A gateway, and where its Admin API is.
struct Filled {
    peer: Peer,
    admin: u16,
}

pub async fn run(site: &Site, report: &mut Report) -> Result<()> {
    let node = Filled::start(site).await?;
    let saturating = paced(node.peer.ports.http, SATURATING, Duration::from_secs(site.seconds));
    let rate = saturating.await?.per_second() / 2.0;
    let (mut quiet, mut changing) = (Vec::new(), Vec::new());
    for _ in 0..site.rounds {
        quiet.push(node.round(site, rate, Routes::AtRest).await?);
        changing.push(node.round(site, rate, Routes::Changing).await?);
    }
    let title = format!("W8  sluice at {rate:.0} requests/s, half of saturation, {ROUTES} routes");
    let mut table = Table::new(
        &title,
        &["routes", "µs/req", "req/s", "p50 µs", "p99 min", "median", "max", "change p50", "p99"],
    );
    let mut figures = Vec::new();
    for (name, rounds) in [("at rest", &quiet), ("one changes every 10 ms", &changing)] {
        let of = |what: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(what).collect());
        let p99 = of(&|round| round.load.p99_us);
        let p50 = of(&|round| round.load.p50_us).median;
        let cpu = of(&|round| round.cpu_us).median;
        let change = |what: &dyn Fn(&Load) -> f64| {
            let times: Vec<f64> =
                rounds.iter().filter_map(|round| round.changes.as_ref().map(what)).collect();
            (!times.is_empty()).then(|| Spread::of(times).median)
        };
        let (change_p50, change_p99) = (change(&|load| load.p50_us), change(&|load| load.p99_us));
        let or_none = |figure: Option<f64>| figure.map_or("-".to_owned(), micros);
        table.row([
            name.to_owned(),
            micros(cpu),
            format!("{:.0}", of(&|round| round.load.per_second()).median),
            micros(p50),
            micros(p99.min),
            micros(p99.median),
            micros(p99.max),
            or_none(change_p50),
            or_none(change_p99),
        ]);
        figures.push(json!({
            "routes": name, "rate": rate, "cpu_us": cpu, "p50_us": p50,
            "p99_us": { "min": p99.min, "median": p99.median, "max": p99.max },
            "change_p50_us": change_p50, "change_p99_us": change_p99,
        }));
    }
    report.add("W8", table, Value::from(figures));
    Ok(())
}

// === impl Filled ===

impl Filled {
    /// Starts a node on the embedded store and fills it through the Admin API.
    async fn start(site: &Site) -> Result<Self> {
        let admin = free_port()?;
        let peer = Node::embedded(Ports::free()?, admin)?.start(site, None).await?;
        let mut node = Self { peer, admin };
        node.wait_for_admin().await?;
        node.put("/apisix/admin/upstreams/1", &upstream(site)).await?;
        let writer = async |first: usize| -> Result<()> {
            let mut client = Client::connect(admin).await?;
            for n in (first..ROUTES).step_by(WRITERS) {
                put(&mut client, &format!("/apisix/admin/routes/{n}"), &route(n, 0)).await?;
            }
            Ok(())
        };
        try_join_all((0..WRITERS).map(writer)).await.context("filling the Admin API")?;
        let last = format!("/service-{}/1k", ROUTES - 1);
        crate::site::wait_for(&mut node.peer.process, node.peer.ports.http, &last).await?;
        Ok(node)
    }

    async fn wait_for_admin(&mut self) -> Result<()> {
        for _ in 0..600 {
            self.peer.process.check()?;
            if Client::connect(self.admin).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the Admin API did not listen within 30 s")
    }

    async fn put(&self, path: &str, value: &Value) -> Result<()> {
        put(&mut Client::connect(self.admin).await?, path, value).await
    }

    async fn round(&self, site: &Site, rate: f64, routes: Routes) -> Result<Round> {
        // p99 of a second would be a handful of requests; three are the least.
        let length = Duration::from_secs(site.seconds.max(3));
        let before = self.peer.process.cpu()?;
        let load = paced(self.peer.ports.http, rate, length);
        let (load, changes) = match routes {
            Routes::AtRest => (load.await?, None),
            Routes::Changing => {
                let (load, changes) = join(load, self.changes(length)).await;
                (load?, Some(changes?))
            }
        };
        let spent = self.peer.process.cpu()?.saturating_sub(before);
        let cpu_us = spent.as_secs_f64() * 1e6 / load.requests as f64;
        Ok(Round { load, cpu_us, changes })
    }

    /// Changes one route after the other.
    async fn changes(&self, length: Duration) -> Result<Load> {
        let mut client = Client::connect(self.admin).await?;
        let mut random = fastrand::Rng::with_seed(1);
        let mut ticks = tokio::time::interval(EVERY);
        let began = Instant::now();
        let mut micros = Vec::new();
        while began.elapsed() < length {
            let start = ticks.tick().await;
            // Route 1 is the one under load, and changes as the others do.
            let n = random.usize(..ROUTES);
            let value = route(n, micros.len() + 1);
            put(&mut client, &format!("/apisix/admin/routes/{n}"), &value).await?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Load::of(micros, 0, began.elapsed().as_secs_f64())
    }
}

fn route(n: usize, version: usize) -> Value {
    json!({
        "uri": format!("/service-{n}/*"),
        "desc": format!("version {version}"),
        "upstream_id": "1",
    })
}

/// PUTs `value` and takes nothing but success.
pub async fn put(client: &mut Client, path: &str, value: &Value) -> Result<()> {
    let headers = format!("X-API-KEY: {ADMIN_KEY}\r\nContent-Type: application/json\r\n");
    let status =
        client.exchange(request("PUT", path, &headers, &value.to_string()).as_bytes()).await?;
    ensure!(status == 200 || status == 201, "PUT {path}: {status}\n{}", client.response());
    Ok(())
}

/// `rate` requests a second for `length`, spread evenly over the connections and over time.
async fn paced(port: u16, rate: f64, length: Duration) -> Result<Load> {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(port).await?);
    }
    let began = Instant::now();
    let end = began + length;
    let one = async |(index, mut client): (usize, Client)| -> Result<(Vec<f64>, u64)> {
        let request = request("GET", "/service-1/1k", "", "");
        let (mut micros, mut errors) = (Vec::new(), 0);
        let mut due = began + interval.mul_f64(index as f64 / CONNECTIONS as f64);
        while due < end && Instant::now() < end {
            let mut start = due;
            if Instant::now() < due {
                sleep_until(due).await;
                start = Instant::now();
            }
            match client.exchange(request.as_bytes()).await? {
                200 => micros.push(start.elapsed().as_secs_f64() * 1e6),
                _ => errors += 1,
            }
            due += interval;
        }
        Ok((micros, errors))
    };
    let all = try_join_all(clients.into_iter().enumerate().map(one)).await?;
    let errors = all.iter().map(|(_, errors)| errors).sum();
    let micros: Vec<f64> = all.into_iter().flat_map(|(micros, _)| micros).collect();
    Load::of(micros, errors, began.elapsed().as_secs_f64())?.sound()
}
