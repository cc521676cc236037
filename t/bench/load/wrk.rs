//! wrk: HTTP/1.1 over keep-alive connections, as fast as they are answered.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Load;
use crate::process::find;
use crate::site::{Site, output};

/// Connections that wrk keeps busy.
pub const CONNECTIONS: usize = 64;

/// Prints the figures in a line of their own, so that nobody has to read wrk's prose.
const DONE: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("\nFIGURES %d %d %d %d %d\n",
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
"#;

/// Loads `url` for the seconds of `site`; `script` is Lua that shapes the requests.
pub fn run(site: &Site, url: &str, script: &str) -> Result<Load> {
    let wrk = find("wrk").context("wrk is missing; `ci/tools.sh bench` installs it")?;
    let file = site.folder("wrk")?.join("load.lua");
    fs::write(&file, format!("{script}{DONE}"))?;
    let mut command = Command::new(wrk);
    command
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{}s", site.seconds)])
        .arg("--script")
        .arg(file)
        .arg(url);
    let text = output(command)?;
    figures(&text).with_context(|| format!("wrk did not give its figures:\n{text}"))?.sound()
}

fn figures(text: &str) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "))?;
    let figures: Vec<u64> = line.split(' ').filter_map(|figure| figure.parse().ok()).collect();
    let [requests, errors, micros, p50, p99] = figures[..] else {
        return None;
    };
    Some(Load {
        requests: requests.saturating_sub(errors),
        errors,
        seconds: micros as f64 / 1e6,
        p50_us: p50 as f64,
        p99_us: p99 as f64,
    })
}
