//! W9: W1 again with a gateway's daily work: key-auth, limit-count, prometheus and an access log,
//! on 10,000 routes; compared with Sluice without all that and with one route, at the same requests.
//!
//! The same, because making requests from a script slows the load tool, and who is asked less often
//! finds fewer requests at each wake-up.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::load::handshakes::Sessions;
use crate::load::{Load, wrk};
use crate::peers::sluice::{Node, resources, upstream};
use crate::peers::{Kind, Ports};
use crate::sample::{COLUMNS, interleave, rows};
use crate::site::{HOST, Site};
use crate::table::{Report, Table};

/// How many routes there are; requests go to all of them.
pub const ROUTES: usize = 10_000;

/// What the consumer of the bench shows.
pub const API_KEY: &str = "key-of-the-bench";

/// Measures both nodes side by side.
pub async fn run(site: &Site, report: &mut Report) -> Result<()> {
    let plain = Kind::Sluice.start(site, Sessions::Forgotten).await?.context("sluice")?;
    let full = Node::standalone(Ports::free()?, everything(site, ROUTES))?.access_log();
    // Without a key the answer is 401, so readiness is another route's business.
    let full = full.start(site, Some("/ready")).await?;
    let script = script();
    let turn = async |index: usize| -> Result<Load> {
        let port = [plain.ports.http, full.ports.http][index];
        wrk::run(site, &format!("http://127.0.0.1:{port}"), &script)
    };
    let proxies = [
        ("sluice, plain".to_owned(), &plain.process),
        ("sluice, plugins".to_owned(), &full.process),
    ];
    let samples = interleave(site.rounds, &proxies, turn).await?;
    let title = format!("W9  key-auth, limit-count, prometheus, access log, {ROUTES} routes");
    let mut table = Table::new(&title, &COLUMNS);
    let figures = rows(&mut table, "W9", &samples);
    report.add("W9", table, figures);
    Ok(())
}

/// `routes` routes with all of it, and `/ready`, which asks for no key.
pub fn everything(site: &Site, routes: usize) -> Value {
    let mut all = resources(site);
    let route = |n: usize| {
        json!({
            "id": n.to_string(),
            "uri": format!("/service-{n}/*"),
            "upstream_id": "1",
            "plugins": {
                "key-auth": {},
                "limit-count": {
                    "count": 1_000_000_000, "time_window": 3600,
                    "key": "consumer_name",
                },
                "prometheus": {},
            },
        })
    };
    let ready = json!({ "id": "ready", "uri": "/ready", "upstream_id": "1" });
    all["routes"] = (0..routes).map(route).chain([ready]).collect();
    all["upstreams"] = json!([upstream(site)]);
    all["upstreams"][0]["id"] = json!("1");
    all["consumers"] =
        json!([{ "username": "bench", "plugins": { "key-auth": { "key": API_KEY } } }]);
    all
}

/// Requests made before the load begins; each names the next route.
fn script() -> String {
    format!(
        "local requests, next = {{}}, 0
init = function()
  for n = 0, {last} do
    requests[n] = 'GET /service-' .. n .. '/1k HTTP/1.1\\r\\nHost: {HOST}\\r\\napikey: {API_KEY}\\r\\n\\r\\n'
  end
end
request = function()
  next = (next + 7919) % {ROUTES}
  return requests[next]
end
",
        last = ROUTES - 1,
    )
}
