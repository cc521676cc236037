//! h2load: HTTP/2 over TLS for a while, and exact counts of requests.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Load;
use crate::process::find;
use crate::site::{HOST, Site, output};

/// Connections over which the streams are spread.
pub const CONNECTIONS: usize = 4;

/// Streams at once on each.
pub const STREAMS: usize = 32;

/// Loads `path` at the TLS port `port` by HTTP/2 for the seconds of `site`.
pub fn run(site: &Site, port: u16, path: &str) -> Result<Load> {
    let log = site.folder("h2load")?.join("requests.tsv");
    let mut command = h2load()?;
    command
        .args(["--clients", &CONNECTIONS.to_string()])
        .args(["--max-concurrent-streams", &STREAMS.to_string()])
        .args(["--duration", &site.seconds.to_string()])
        .arg(format!("--log-file={}", log.display()))
        .arg(format!("--connect-to=127.0.0.1:{port}"))
        .arg(format!("https://{HOST}:{port}{path}"));
    let began = Instant::now();
    let text = output(command)?;
    let took = began.elapsed().as_secs_f64();
    ensure!(text.contains("Application protocol: h2"), "HTTP/2 was not agreed on:\n{text}");
    let (mut micros, mut errors) = (Vec::new(), 0);
    for line in fs::read_to_string(&log)?.lines() {
        // Start, status, microseconds.
        let mut columns = line.split('\t').skip(1);
        match (columns.next(), columns.next().and_then(|time| time.parse().ok())) {
            (Some("200"), Some(time)) => micros.push(time),
            _ => errors += 1,
        }
    }
    fs::remove_file(log)?;
    // Streams that the end of the run cut off are no errors of the proxy's.
    errors = if errors <= (CONNECTIONS * STREAMS) as u64 { 0 } else { errors };
    let seconds = (site.seconds as f64).min(took);
    Load::of(micros, errors, seconds)?.sound()
}

/// Sends exactly `count` requests over one connection, in the way that `arguments` of h2load tell;
/// returns what it printed.
pub fn count(count: usize, arguments: &[String]) -> Result<String> {
    let mut command = h2load()?;
    command.args(["--clients", "1", "--requests", &count.to_string()]).args(arguments);
    let text = output(command)?;
    ensure!(text.contains(&format!(" {count} 2xx")), "not all were answered with 2xx:\n{text}");
    Ok(text)
}

fn h2load() -> Result<Command> {
    let program = find("h2load").context("h2load is missing; `ci/tools.sh bench` installs it")?;
    Ok(Command::new(program))
}
