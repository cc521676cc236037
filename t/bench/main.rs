//! The bench: what a request costs the proxy, side by side with nginx and others.
//!
//! `cargo bench --bench bench -- [W1 W4 …] [--rounds N] [--seconds S] [--json FILE]`
//!
//! | work | what | measured |
//! |---|---|---|
//! | W1 | HTTP/1.1 GET, 1 KiB response, 64 keep-alive connections | CPU, rate, latency |
//! | W2 | the same with 100 KiB responses | |
//! | W3 | the same with POSTs of 10 KiB | |
//! | W4 | W1 over TLS 1.3, ECDSA P-256 | |
//! | W5 | full TLS handshakes, a connection for each request, no resumption | |
//! | W5r | the same, each connection resuming the session before by a ticket | |
//! | W6 | HTTP/2 over TLS, 32 streams on each of 4 connections | |
//! | W7 | 10,000 idle keep-alive connections | memory |
//! | W8 | half the rate that saturates, with and without a route changing every 10 ms | latency |
//! | W9 | W1 with key-auth, limit-count, prometheus and access log on 10,000 routes | as W1 |
//! | W10 | 1,000 to 100,000 routes through the compiler; finding a route | time, memory |
//! | W11 | 10,000 routes created through the Admin API, embedded store and etcd | rate, memory |
//!
//! # Method
//!
//! *The figure* is the proxy's own CPU time for a request: what all its threads spent on a core
//! (`schedstat`, in nanoseconds, user and kernel) during the load, over the answers that the load
//! tool counted. It depends little on what the load tool and the origin cost. Rate and latency are
//! the load tool's word.
//!
//! *Side by side*: all proxies run at once, each with one worker, on a core that is theirs alone,
//! and take turns in every round, so that a machine's good and bad minutes fall on all; there is
//! one round more than counts, to warm up. A table gives the smallest, the median and the greatest
//! round, and the ratio of medians to the first row. Ratios hold from machine to machine, figures
//! do not. A proxy that fails a single request in a work is told and left out of that work.
//!
//! *Fair*: the same origin (nginx, one worker, on the other core with the load), the same
//! certificate, kept connections on both sides with no limit of requests, no access log (W9 apart),
//! no TLS session kept (W5r apart, for which all are started again with tickets). The configs stand in `peers/`. nginx runs as one process, without a master.
//! Memory is resident memory with shared pages in proportion; what the kernel holds is not in it.
//!
//! Sluice is this build's binary, or the one that `SLUICE_BIN` names. `-- gate [W1 W6 …]` counts
//! instructions instead of time and compares them with ci/bench-gate.json: see `gate`.

#![allow(unreachable_pub, reason = "a program of several files: nothing is published")]

mod config_road;
mod forward;
mod gate;
mod load;
mod matching;
mod memory;
mod names;
mod peers;
mod plugins;
mod process;
mod sample;
mod site;
mod steady;
mod table;
mod weight;
mod writes;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::load::handshakes::Sessions;
use self::site::Site;
use self::table::{Report, say};

/// The allocator of the `sluice` binary, whose code W10 runs, and what it is weighed with.
#[global_allocator]
static ALLOCATOR: weight::Scales = weight::Scales;

/// Measures what a request costs.
#[derive(Parser)]
struct Arguments {
    /// Works to run, such as W1 and W4 (default: all); `gate` before them counts instructions
    works: Vec<String>,
    /// Rounds that count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Where the figures go as JSON (default: bench.json in the target folder)
    #[arg(long)]
    json: Option<PathBuf>,
    /// Makes what `gate` finds the figure to compare with
    #[arg(long)]
    record: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by the bench to itself: one run of W10
    #[arg(long, hide = true)]
    routes: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(routes) = arguments.routes {
        say(&config_road::measure(routes)?.to_string());
        return Ok(());
    }
    // A bench that is told to end goes through its guards, so that no process stays behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => bail!("terminated"),
        _ = interrupt.recv() => bail!("interrupted"),
        outcome = start(arguments) => outcome,
    }
}

async fn start(arguments: Arguments) -> Result<()> {
    let site = Site::open(arguments.rounds, arguments.seconds).await?;
    if let [first, works @ ..] = &arguments.works[..]
        && first == "gate"
    {
        return match arguments.record {
            true => gate::record(&site, works).await,
            false => gate::compare(&site, works).await,
        };
    }
    let mut report = Report::default();
    run(&arguments.works, &site, &mut report).await?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let file = target.unwrap_or(Path::new(".")).join("bench.json");
    report.write(&arguments.json.unwrap_or(file))
}

async fn run(works: &[String], site: &Site, report: &mut Report) -> Result<()> {
    let names: Vec<&str> = forward::names().chain(["W7", "W8", "W9", "W10", "W11"]).collect();
    for work in works {
        ensure!(names.contains(&work.as_str()), "{work} is no work: expected {}", names.join(", "));
    }
    let wanted = |name: &str| works.is_empty() || works.iter().any(|work| work == name);
    let plain = |name: &str| wanted(name) && name != forward::RESUMED;
    if forward::names().any(plain) {
        let peers = peers::start_all(site, Sessions::Forgotten).await;
        forward::run(site, &peers, plain, report).await?;
    }
    if wanted(forward::RESUMED) {
        let peers = peers::start_all(site, Sessions::Resumed).await;
        forward::run(site, &peers, |name| name == forward::RESUMED, report).await?;
    }
    if wanted("W7") {
        memory::run(site, report).await?;
    }
    // Sluice alone; while it cannot do a work, the others still count.
    if wanted("W8") {
        told("W8", steady::run(site, report).await);
    }
    if wanted("W9") {
        told("W9", plugins::run(site, report).await);
    }
    if wanted("W10") {
        config_road::run(report)?;
    }
    if wanted("W11") {
        told("W11", writes::run(site, report).await);
    }
    Ok(())
}

fn told(work: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        say(&format!("{work} left out: {error:#}\n"));
    }
}
