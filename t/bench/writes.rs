//! W11: 10,000 routes created through the Admin API, by one caller and by 16 at once, with the
//! embedded store and with etcd where there is one; and what the node has grown by.
//!
//! A PUT is answered when the store has it. Every write is checked, keeps a version, and is
//! compiled and published before the next check of the same caller.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::load::client::Client;
use crate::peers::Ports;
use crate::peers::sluice::{Node, upstream};
use crate::process::{self, Process, Seat, find, free_port};
use crate::site::Site;
use crate::steady::put;
use crate::table::{Report, Table, say};

const ROUTES: usize = 10_000;

/// Callers at once.
const CALLERS: [usize; 2] = [1, 16];

/// How long a node may take until its Admin API answers.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(site: &Site, report: &mut Report) -> Result<()> {
    let title = format!("W11  {ROUTES} routes created through the Admin API");
    let mut table =
        Table::new(&title, &["store", "callers", "routes/s", "MiB before", "MiB after"]);
    let mut figures = Vec::new();
    for store in ["embedded", "etcd"] {
        for callers in CALLERS {
            let Some((rate, memory)) = fill(site, store, callers).await? else {
                say("W11 without etcd: it is not there\n");
                break;
            };
            let [before, after] = memory.map(|bytes| bytes as f64 / f64::from(1 << 20));
            table.row([
                store.to_owned(),
                callers.to_string(),
                format!("{rate:.0}"),
                format!("{before:.1}"),
                format!("{after:.1}"),
            ]);
            figures.push(json!({ "store": store, "callers": callers, "routes_per_second": rate,
                "before_mib": before, "after_mib": after }));
        }
    }
    report.add("W11", table, Value::from(figures));
    Ok(())
}

/// Routes a second, and the node's memory before and after; `None` where the store is not there.
async fn fill(site: &Site, store: &str, callers: usize) -> Result<Option<(f64, [u64; 2])>> {
    let admin = free_port()?;
    let mut node = Node::embedded(Ports::free()?, admin)?;
    let _etcd = if store == "etcd" {
        let Some((process, port)) = etcd(site)? else {
            return Ok(None);
        };
        node = node.etcd(port);
        Some(process)
    } else {
        None
    };
    let mut peer = node.start(site, None).await?;
    let mut clients = Vec::new();
    let end = Instant::now() + PATIENCE;
    while clients.len() < callers {
        peer.process.check()?;
        match Client::connect(admin).await {
            Ok(client) => clients.push(client),
            Err(error) if Instant::now() > end => return Err(error).context("the Admin API"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let before = peer.process.memory()?;
    let start = Instant::now();
    let work = clients.into_iter().enumerate().map(|(caller, mut client)| async move {
        for number in (caller..ROUTES).step_by(callers) {
            let body = json!({ "uri": format!("/r{number}/*"), "upstream": upstream(site) });
            put(&mut client, &format!("/apisix/admin/routes/{number}"), &body).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(work).await?;
    let rate = ROUTES as f64 / start.elapsed().as_secs_f64();
    Ok(Some((rate, [before, peer.process.memory()?])))
}

fn etcd(site: &Site) -> Result<Option<(Process, u16)>> {
    let Some(program) = find("etcd") else {
        return Ok(None);
    };
    let (port, peers) = (free_port()?, free_port()?);
    let folder = site.folder("etcd")?;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let mut command: Command = process::command(&program, Seat::Rest);
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--listen-client-urls", &url(port), "--advertise-client-urls", &url(port)]);
    command.args(["--listen-peer-urls", &url(peers), "--log-level", "error"]);
    Ok(Some((Process::start("etcd", command, &folder.join("output.log"))?, port)))
}
