//! W1 to W6: plain forwarding, every proxy side by side.

use anyhow::Result;

use crate::load::handshakes::Sessions;
use crate::load::{Load, h2load, handshakes, wrk};
use crate::peers::{Peer, Ports};
use crate::process::Process;
use crate::sample::{COLUMNS, interleave, rows};
use crate::site::{HOST, Site};
use crate::table::{Report, Table};

/// What is forwarded in a work.
#[derive(Debug, Clone, Copy)]
enum Traffic {
    Get { path: &'static str, tls: bool },
    Post { bytes: usize },
    Handshakes(Sessions),
    Http2,
}

/// The work that is done by peers that give out session tickets.
pub const RESUMED: &str = "W5r";

const WORKS: [(&str, &str, Traffic); 7] = [
    ("W1", "HTTP/1.1, 1 KiB, 64 connections", Traffic::Get { path: "/1k", tls: false }),
    ("W2", "100 KiB responses", Traffic::Get { path: "/100k", tls: false }),
    ("W3", "POST of 10 KiB", Traffic::Post { bytes: 10 << 10 }),
    ("W4", "W1 over TLS 1.3", Traffic::Get { path: "/1k", tls: true }),
    ("W5", "full TLS handshakes, one request each", Traffic::Handshakes(Sessions::Forgotten)),
    (RESUMED, "W5 with every session resumed", Traffic::Handshakes(Sessions::Resumed)),
    ("W6", "HTTP/2 over TLS, 32 streams on each of 4 connections", Traffic::Http2),
];

/// The names of these works.
pub fn names() -> impl Iterator<Item = &'static str> {
    WORKS.iter().map(|(name, ..)| *name)
}

/// Runs those of the works that are `wanted`.
pub async fn run(
    site: &Site,
    peers: &[Peer],
    wanted: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Result<()> {
    let processes: Vec<(String, &Process)> =
        peers.iter().map(|peer| (peer.kind.name().to_owned(), &peer.process)).collect();
    for (name, what, traffic) in WORKS {
        if !wanted(name) {
            continue;
        }
        let turn = |index: usize| traffic.load(site, peers[index].ports);
        let samples = interleave(site.rounds, &processes, turn).await?;
        let mut table = Table::new(&format!("{name}  {what}"), &COLUMNS);
        let figures = rows(&mut table, name, &samples);
        report.add(name, table, figures);
    }
    Ok(())
}

// === impl Traffic ===

impl Traffic {
    async fn load(self, site: &Site, ports: Ports) -> Result<Load> {
        let Ports { http, https } = ports;
        match self {
            Self::Get { path, tls: false } => {
                wrk::run(site, &format!("http://127.0.0.1:{http}{path}"), "")
            }
            // wrk sends the name as SNI; an address would be none.
            Self::Get { path, tls: true } => {
                wrk::run(site, &format!("https://{HOST}:{https}{path}"), "")
            }
            Self::Post { bytes } => {
                let script = format!(
                    "wrk.method = 'POST'\nwrk.body = string.rep('x', {bytes})\n\
                     wrk.headers['Content-Type'] = 'application/octet-stream'\n"
                );
                wrk::run(site, &format!("http://127.0.0.1:{http}/post"), &script)
            }
            Self::Handshakes(sessions) => handshakes::run(site, https, "/1k", sessions).await,
            Self::Http2 => h2load::run(site, https, "/1k"),
        }
    }
}
