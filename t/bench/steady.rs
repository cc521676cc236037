//! W8: latency at a fixed rate, half of what saturates, on 10,000 routes; and the same while one of
//! them changes every 10 ms through the Admin API.
//!
//! Requests fall due at fixed times whatever the answers do, and latency counts from when one fell
//! due: a proxy that stalls is charged for everything that it holds up. Only the clock's own
//! lateness (a timer of 1 ms) is not charged to the proxy.
//!
//! p99 is what the machine's worst moments make it, and these come in spells. So short turns of all
//! cases follow each other, over the same connections, each time in another order, and p99 is
//! compared with that at rest of the same round: the ratio's median and quartiles are the result.
//! Half of all rounds' ratios lie between the quartiles: a difference within them is none.
//!
//! In a third case the same changes are made at another node, which takes no requests and has the
//! same core. What differs between this and the first is what writing costs the machine (the one
//! who writes, the disk, the core); what differs between the second and this, that the node under
//! load is the one that changes. How long its worker waited for the core tells the same without
//! what client and origin do.

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

/// Turns that each case takes for one round of other works.
const TURNS: usize = 4;

/// Where routes change while a node is under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    Nowhere,
    Here,
    Elsewhere,
}

/// What a turn showed.
struct Turn {
    load: Load,
    cpu_us: f64,
    /// How long the worker waited for the core, in milliseconds a second.
    waited: f64,
    /// How long changes took at the Admin API, if there were any.
    changes: Option<Load>,
}

/// A gateway, and where its Admin API is.
struct Filled {
    peer: Peer,
    admin: u16,
}

/// The connections of the load.
struct Pace {
    clients: Vec<Client>,
    rate: f64,
}

pub async fn run(site: &Site, report: &mut Report) -> Result<()> {
    let node = Filled::start(site).await?;
    let elsewhere = Filled::start(site).await?;
    let length = Duration::from_secs(site.seconds);
    let mut pace = Pace::connect(node.peer.ports.http).await?;
    pace.rate = pace.load(length).await?.per_second() / 2.0;
    let mut turns = Changes::ALL.map(|_| Vec::new());
    // One turn more than counts, to warm up.
    for number in 0..=site.rounds * TURNS {
        for case in (0..turns.len()).map(|case| (case + number) % Changes::ALL.len()) {
            let at = match Changes::ALL[case] {
                Changes::Nowhere => None,
                Changes::Here => Some(&node),
                Changes::Elsewhere => Some(&elsewhere),
            };
            let turn = node.turn(&mut pace, length, at).await?;
            if number > 0 {
                turns[case].push(turn);
            }
        }
    }
    let title =
        format!("W8  sluice at {:.0} requests/s, half of saturation, {ROUTES} routes", pace.rate);
    let mut table = Table::new(
        &title,
        &[
            "changes",
            "µs/req",
            "req/s",
            "p50 µs",
            "p99 min",
            "median",
            "max",
            "× at rest",
            "quartiles",
            "waited ms/s",
            "change p50",
            "p99",
        ],
    );
    let mut figures = Vec::new();
    let at_rest = &turns[0];
    for (case, turns) in Changes::ALL.into_iter().zip(&turns) {
        let of = |what: &dyn Fn(&Turn) -> f64| Spread::of(turns.iter().map(what).collect());
        let p99 = of(&|turn| turn.load.p99_us);
        let (cpu, p50) = (of(&|turn| turn.cpu_us).median, of(&|turn| turn.load.p50_us).median);
        let waited = of(&|turn| turn.waited).median;
        let pairs = turns.iter().zip(at_rest);
        let ratio =
            Spread::of(pairs.map(|(turn, rest)| turn.load.p99_us / rest.load.p99_us).collect());
        let change = |what: &dyn Fn(&Load) -> f64| {
            let times: Vec<f64> =
                turns.iter().filter_map(|turn| turn.changes.as_ref().map(what)).collect();
            (!times.is_empty()).then(|| Spread::of(times).median)
        };
        let (change_p50, change_p99) = (change(&|load| load.p50_us), change(&|load| load.p99_us));
        let or_none = |figure: Option<f64>| figure.map_or("-".to_owned(), micros);
        table.row([
            case.name().to_owned(),
            micros(cpu),
            format!("{:.0}", of(&|turn| turn.load.per_second()).median),
            micros(p50),
            micros(p99.min),
            micros(p99.median),
            micros(p99.max),
            format!("{:.2}", ratio.median),
            format!("{:.2}-{:.2}", ratio.quartiles[0], ratio.quartiles[1]),
            format!("{waited:.1}"),
            or_none(change_p50),
            or_none(change_p99),
        ]);
        figures.push(json!({
            "changes": case.name(), "rate": pace.rate, "cpu_us": cpu, "p50_us": p50,
            "p99_us": { "min": p99.min, "median": p99.median, "max": p99.max },
            "p99_ratio": { "median": ratio.median, "quartiles": ratio.quartiles },
            "waited_ms_per_second": waited,
            "change_p50_us": change_p50, "change_p99_us": change_p99,
        }));
    }
    report.add("W8", table, Value::from(figures));
    Ok(())
}

// === impl Changes ===

impl Changes {
    /// The first is what the others are compared with.
    const ALL: [Self; 3] = [Self::Nowhere, Self::Here, Self::Elsewhere];

    fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "none",
            Self::Here => "one every 10 ms",
            Self::Elsewhere => "the same at another node",
        }
    }
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

    /// Takes requests for `length` while routes change at the node `at`, if at one.
    async fn turn(&self, pace: &mut Pace, length: Duration, at: Option<&Self>) -> Result<Turn> {
        let worker = || self.peer.process.waited("worker");
        let (cpu, waited) = (self.peer.process.cpu()?, worker()?);
        let load = pace.load(length);
        let (load, changes) = match at {
            None => (load.await?, None),
            Some(node) => {
                let (load, changes) = join(load, node.changes(length)).await;
                (load?, Some(changes?))
            }
        };
        let cpu = self.peer.process.cpu()?.saturating_sub(cpu);
        let waited = worker()?.saturating_sub(waited);
        Ok(Turn {
            cpu_us: cpu.as_secs_f64() * 1e6 / load.requests as f64,
            waited: waited.as_secs_f64() * 1e3 / load.seconds,
            load,
            changes,
        })
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

// === impl Pace ===

impl Pace {
    async fn connect(port: u16) -> Result<Self> {
        let clients = try_join_all((0..CONNECTIONS).map(|_| Client::connect(port))).await?;
        Ok(Self { clients, rate: SATURATING })
    }

    /// So many requests a second for `length`, spread evenly over the connections and over time.
    async fn load(&mut self, length: Duration) -> Result<Load> {
        let interval = Duration::from_secs_f64(CONNECTIONS as f64 / self.rate);
        let began = Instant::now();
        let end = began + length;
        let one = async |(index, client): (usize, &mut Client)| -> Result<(Vec<f64>, u64)> {
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
        let all = try_join_all(self.clients.iter_mut().enumerate().map(one)).await?;
        let errors = all.iter().map(|(_, errors)| errors).sum();
        let micros: Vec<f64> = all.into_iter().flat_map(|(micros, _)| micros).collect();
        Load::of(micros, errors, began.elapsed().as_secs_f64())?.sound()
    }
}
