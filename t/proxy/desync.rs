//! Messages whose end, target or fields can be read in two ways. Each is refused, or reaches the
//! other side in a form that has one reading; compared byte by byte with what a recording node
//! gets, and with what a client gets from a node that lies.
//!
//! Sources: RFC 9112, sections 2.2, 3, 5, 6, 7 and 11; RFC 9113, sections 8.2 and 8.3; the request
//! smuggling classics (CL.TE, TE.CL, TE.TE, CL.0, H2.CL, H2.TE); what nginx does with each.

mod bodies;
mod heads;
mod responses;
mod streams;

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw;
use crate::support::recorder::{Recorder, is_complete};

/// What must never be executed: it stands behind, or in, what is refused.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway of one worker, so that nothing overtakes anything, in front of a recording node.
struct Site {
    gateway: Gateway,
    recorder: Recorder,
    /// Everything that was not as it should be.
    wrong: Vec<String>,
}

/// What of a request reaches the node.
enum Reaches {
    Nothing,
    Exactly(String),
    /// So much of it, so that the node knows that it is not all.
    Broken(String),
}

// === impl Site ===

impl Site {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let recorder = Recorder::start().await;
        let builder = Gateway::builder().config(|config| {
            config["nginx_config"]["worker_processes"] = json!(1);
            change(config);
        });
        let gateway = builder.start().await;
        let route = json!({ "uri": "/*", "upstream": recorder.upstream() });
        gateway.put_route("1", route).await;
        gateway.served("/").await;
        Self { gateway, recorder, wrong: Vec::new() }
    }

    fn port(&self) -> u16 {
        self.gateway.ports().http
    }

    /// Sends `sent` and expects answers of the statuses `told`, and the connection's end.
    async fn check(&mut self, name: &str, sent: impl AsRef<[u8]>, told: &[u16], reaches: Reaches) {
        self.recorder.taken().await;
        let Some(answer) = raw::until_closed(self.port(), sent.as_ref()).await else {
            self.wrong.push(format!("{name}: the connection was not closed"));
            return;
        };
        let statuses = raw::statuses(&answer);
        if statuses != told {
            self.wrong.push(format!("{name}: told {statuses:?} and not {told:?}"));
        }
        self.reached(name, &reaches).await;
    }

    async fn reached(&mut self, name: &str, reaches: &Reaches) {
        let reached = self.recorder.taken().await;
        let text = String::from_utf8_lossy(&reached).into_owned();
        let right = match reaches {
            Reaches::Nothing => text.is_empty(),
            Reaches::Exactly(expected) => text == *expected,
            Reaches::Broken(start) => text.starts_with(start.as_str()) && !is_complete(&reached),
        };
        if !right || text.contains("smuggled") {
            self.wrong.push(format!("{name}: reached {text:?}"));
        }
    }

    /// What is to reach the node of a request to host `a` whose fields and framing are `fields`.
    fn request(&self, line: &str, fields: &str, body: &str) -> String {
        self.request_to("a", line, fields, body)
    }

    fn request_to(&self, host: &str, line: &str, fields: &str, body: &str) -> String {
        let port = self.port();
        format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\n{fields}x-real-ip: 127.0.0.1\r\n\
             x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: {host}\r\nx-forwarded-port: {port}\r\n\r\n{body}"
        )
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}
