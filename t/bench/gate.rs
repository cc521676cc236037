//! The gate of CI: instructions for a request of W1, against a figure that is checked in.
//!
//! Time is noisy on a shared machine, instructions hardly. The node runs below callgrind, once
//! for few requests and once for many, over one connection; what start and stop cost is in both,
//! and the difference is the requests'. One connection, because how many requests a wake-up finds
//! is chance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::load::h2load;
use crate::peers::Ports;
use crate::peers::sluice::{Node, resources};
use crate::process::{self, Process, Seat, find};
use crate::site::{Site, wait_for};
use crate::table::say;

/// Requests of the two runs.
const FEW: usize = 1_000;
const MANY: usize = 11_000;

/// How much more than the figure is let through.
const TOLERANCE: f64 = 0.03;

/// Makes what is found now the figure.
pub async fn record(site: &Site) -> Result<()> {
    let figure = json!({ "w1_instructions_per_request": measure(site).await?.round() });
    let file = file();
    fs::write(&file, serde_json::to_string_pretty(&figure)? + "\n")?;
    say(&format!("recorded in {}\n", file.display()));
    Ok(())
}

/// Compares with the figure; an error when it is exceeded by more than the tolerance.
pub async fn compare(site: &Site) -> Result<()> {
    let found = measure(site).await?;
    let file = file();
    let Ok(text) = fs::read(&file) else {
        say("no figure yet: record one with `make bench-gate RECORD=1`\n");
        return Ok(());
    };
    let figure: Value = serde_json::from_slice(&text)?;
    let figure = figure["w1_instructions_per_request"]
        .as_f64()
        .with_context(|| format!("{}: w1_instructions_per_request is no number", file.display()))?;
    let change = found / figure - 1.0;
    say(&format!("the figure is {figure:.0}: {:+.1}%\n", change * 100.0));
    ensure!(
        change <= TOLERANCE,
        "W1 takes {:.1}% more instructions, {:.0}% are allowed; if that is meant, record it with \
         `make bench-gate RECORD=1`",
        change * 100.0,
        TOLERANCE * 100.0
    );
    Ok(())
}

/// Instructions a request.
async fn measure(site: &Site) -> Result<f64> {
    let valgrind =
        find("valgrind").context("valgrind is missing; `ci/tools.sh gate` installs it")?;
    let (few, many) =
        (instructions(site, &valgrind, FEW).await?, instructions(site, &valgrind, MANY).await?);
    let found = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
    say(&format!("W1: {found:.0} instructions a request\n"));
    Ok(found)
}

/// Instructions of a node from start to end that answers `requests`.
async fn instructions(site: &Site, valgrind: &Path, requests: usize) -> Result<u64> {
    let folder = site.folder("gate")?;
    let ports = Ports::free()?;
    let node = Node::standalone(ports, resources(site))?;
    let command = node.command(&folder, |program| below(valgrind, program))?;
    let mut process = Process::start("sluice", command, &folder.join("output.log"))?;
    wait_for(&mut process, ports.http, "/1k").await?;
    h2load::count(ports.http, "/1k", requests)?;
    let text = process.end().await?;
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.and_then(|figure| figure.trim().parse().ok());
    collected.with_context(|| format!("callgrind gave no figure:\n{text}"))
}

fn below(valgrind: &Path, program: &Path) -> Command {
    let mut command = process::command(valgrind, Seat::Proxy);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/bench-gate.json")
}
