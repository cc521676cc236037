//! W7: memory of a proxy that has just started, and of one that 10,000 clients are connected to.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::load::client::Client;
use crate::load::handshakes::Sessions;
use crate::peers::{ALL, Kind};
use crate::site::Site;
use crate::table::{Report, Table, say};

/// Idle keep-alive connections, each of which has had one request answered.
const CONNECTIONS: usize = 10_000;

/// How long they are left alone before they are weighed: by then a proxy has let go of what it
/// lets go of when nobody asks. Sluice lets 1,000 a second go dormant, after five seconds.
const LEFT_ALONE: Duration = Duration::from_secs(20);

/// Connections being made at the same time.
const AT_ONCE: usize = 100;

/// Gives every proxy a new process and weighs it.
pub async fn run(site: &Site, report: &mut Report) -> Result<()> {
    let title = format!("W7  memory, idle and with {CONNECTIONS} idle connections");
    let mut table = Table::new(&title, &["proxy", "idle MiB", "connected MiB", "KiB/connection"]);
    let mut figures = Vec::new();
    for kind in ALL {
        match weigh(kind, site).await {
            Ok(Some([idle, connected])) => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let each = connected.saturating_sub(idle) as f64 / 1024.0 / CONNECTIONS as f64;
                table.row([
                    kind.name().to_owned(),
                    format!("{:.1}", mib(idle)),
                    format!("{:.1}", mib(connected)),
                    format!("{each:.2}"),
                ]);
                figures.push(json!({
                    "proxy": kind.name(), "idle_bytes": idle, "connected_bytes": connected,
                    "connections": CONNECTIONS,
                }));
            }
            Ok(None) => {}
            Err(error) => say(&format!("{} left out: {error:#}\n", kind.name())),
        }
    }
    report.add("W7", table, Value::from(figures));
    Ok(())
}

async fn weigh(kind: Kind, site: &Site) -> Result<Option<[u64; 2]>> {
    let Some(peer) = kind.start(site, Sessions::Forgotten).await? else {
        return Ok(None);
    };
    let idle = peer.process.memory()?;
    let port = peer.ports.http;
    let connect = async || -> Result<Client> {
        let mut client = Client::connect(port).await?;
        client.get("/1k").await?;
        client.rest();
        Ok(client)
    };
    let mut clients = Vec::with_capacity(CONNECTIONS);
    while clients.len() < CONNECTIONS {
        let more = try_join_all((0..AT_ONCE).map(|_| connect())).await;
        let limit = "are 10,100 open files allowed (ulimit -Hn)?";
        clients
            .extend(more.with_context(|| format!("after {} connections; {limit}", clients.len()))?);
    }
    tokio::time::sleep(LEFT_ALONE).await;
    let connected = peer.process.memory()?;
    // Still there? A proxy that closed them would weigh less.
    for client in &mut clients {
        client.get("/1k").await.context("an idle connection was closed")?;
    }
    Ok(Some([idle, connected]))
}
