//! The gate of CI: instructions for a request, against figures that are checked in.
//!
//! Time is noisy on a shared machine, instructions hardly. For each work a node runs below
//! callgrind, once for few requests and once for many, over one connection; what start, handshake
//! and stop cost is in both, and the difference is the requests'.
//!
//! | work | what of it is counted |
//! |---|---|
//! | W1 | one request after the other |
//! | W4 | the same over TLS 1.3 |
//! | W6 | 32 streams at once |
//! | W9 | one request after the other, on 100 routes, so that the node starts soon |
//!
//! One connection, because how many of several a wake-up finds is chance. How many streams of W6 it
//! finds is chance too, but evens out: five runs lay within 0.3%, so that all have one tolerance.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::load::h2load;
use crate::peers::Ports;
use crate::peers::sluice::{Node, resources};
use crate::plugins::{API_KEY, everything};
use crate::process::{self, Process, Seat, find};
use crate::site::{HOST, Site, wait_for};
use crate::table::say;

/// Requests of the two runs.
const FEW: usize = 1_000;
const MANY: usize = 11_000;

/// How much more than its figure a work may take; what is that much less should be recorded.
const TOLERANCE: f64 = 0.03;

/// Routes of W9.
const ROUTES: usize = 100;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    W1,
    W4,
    W6,
    W9,
}

/// Instructions a request, by the name of the work.
type Figures = BTreeMap<String, u64>;

/// Makes what is found now the figures of `works`; of all, if none is named.
pub async fn record(site: &Site, works: &[String]) -> Result<()> {
    let mut figures = read()?;
    for work in named(works)? {
        figures.insert(work.name().to_owned(), work.measure(site).await?);
    }
    let file = file();
    fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    say(&format!("recorded in {}\n", file.display()));
    Ok(())
}

/// Compares `works` with their figures; all, if none is named.
///
/// # Errors
/// Those that exceed their figures by more than they may, or have none.
pub async fn compare(site: &Site, works: &[String]) -> Result<()> {
    let figures = read()?;
    let mut exceeded = Vec::new();
    for work in named(works)? {
        let found = work.measure(site).await?;
        let Some(&figure) = figures.get(work.name()) else {
            exceeded.push(format!("{} has no figure", work.name()));
            continue;
        };
        let change = found as f64 / figure as f64 - 1.0;
        say(&format!("    {:+.1}% of the figure, {figure}\n", change * 100.0));
        if change < -TOLERANCE {
            say("    that much less is worth recording, by RECORD=1\n");
        }
        if change > TOLERANCE {
            exceeded.push(format!(
                "{} takes {found} instructions a request, {:.1}% more than its figure {figure}",
                work.name(),
                change * 100.0
            ));
        }
    }
    ensure!(
        exceeded.is_empty(),
        "{}\n{:.0}% more are let through; if it is meant, record it by RECORD=1",
        exceeded.join("\n"),
        TOLERANCE * 100.0
    );
    Ok(())
}

fn named(works: &[String]) -> Result<Vec<Work>> {
    let find = |name: &String| {
        let found = Work::ALL.into_iter().find(|work| work.name() == name);
        found.with_context(|| {
            let all = Work::ALL.map(Work::name).join(", ");
            format!("{name} is not counted: expected {all}")
        })
    };
    match works {
        [] => Ok(Work::ALL.to_vec()),
        works => works.iter().map(find).collect(),
    }
}

fn read() -> Result<Figures> {
    let file = file();
    match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{}: expected an object of whole numbers by works", file.display())
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Figures::new()),
        Err(error) => bail!("{}: {error}", file.display()),
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/bench-gate.json")
}

// === impl Work ===

impl Work {
    const ALL: [Self; 4] = [Self::W1, Self::W4, Self::W6, Self::W9];

    fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W4 => "W4",
            Self::W6 => "W6",
            Self::W9 => "W9",
        }
    }

    /// Instructions a request.
    async fn measure(self, site: &Site) -> Result<u64> {
        let few = self.instructions(site, FEW).await?;
        let many = self.instructions(site, MANY).await?;
        let found = many.saturating_sub(few) / (MANY - FEW) as u64;
        say(&format!("{}: {found} instructions a request\n", self.name()));
        Ok(found)
    }

    /// Instructions of a node from start to end that answers `requests`.
    async fn instructions(self, site: &Site, requests: usize) -> Result<u64> {
        let valgrind =
            find("valgrind").context("valgrind is missing; `ci/tools.sh gate` installs it")?;
        let folder = site.folder("gate")?;
        let ports = Ports::free()?;
        let (node, ready) = match self {
            Self::W1 | Self::W4 | Self::W6 => (Node::standalone(ports, resources(site))?, "/1k"),
            // Without a key the answer is 401, so readiness is another route's business.
            Self::W9 => {
                let node = Node::standalone(ports, everything(site, ROUTES))?;
                (node.access_log(), "/ready")
            }
        };
        let command = node.command(&folder, |program| below(&valgrind, program))?;
        let mut process = Process::start("sluice", command, &folder.join("output.log"))?;
        wait_for(&mut process, ports.http, ready).await?;
        self.load(&folder, ports, requests)?;
        let text = process.end().await?;
        let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
        let collected = collected.and_then(|figure| figure.trim().parse().ok());
        collected.with_context(|| format!("callgrind gave no figure:\n{text}"))
    }

    /// Sends `requests`, and sees that it was by the protocols that are to be counted.
    fn load(self, folder: &Path, Ports { http, https }: Ports, requests: usize) -> Result<()> {
        let over_tls =
            [format!("--connect-to=127.0.0.1:{https}"), format!("https://{HOST}:{https}/1k")];
        let http1 = "--h1".to_owned();
        let (arguments, protocols): (Vec<String>, &[&str]) = match self {
            Self::W1 => (vec![http1, format!("http://127.0.0.1:{http}/1k")], &[]),
            Self::W4 => ([http1].into_iter().chain(over_tls).collect(), &["TLSv1.3", "http/1.1"]),
            Self::W6 => {
                let streams = format!("--max-concurrent-streams={}", h2load::STREAMS);
                ([streams].into_iter().chain(over_tls).collect(), &["TLSv1.3", "h2"])
            }
            Self::W9 => {
                let url = |n: usize| format!("http://127.0.0.1:{http}/service-{n}/1k\n");
                let file = folder.join("urls");
                fs::write(&file, (0..ROUTES).map(url).collect::<String>())?;
                let key = format!("--header=apikey: {API_KEY}");
                (vec![http1, key, format!("--input-file={}", file.display())], &[])
            }
        };
        let text = h2load::count(requests, &arguments)?;
        for protocol in protocols {
            let agreed = text
                .lines()
                .any(|line| line.contains("rotocol: ") && line.ends_with(&format!(": {protocol}")));
            ensure!(agreed, "{protocol} was not agreed on:\n{text}");
        }
        Ok(())
    }
}

fn below(valgrind: &Path, program: &Path) -> Command {
    let mut command = process::command(valgrind, Seat::Proxy);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command
}
