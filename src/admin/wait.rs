//! `?wait=applied`: the answer to a write comes when every live node's workers have it.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answer, Answered};
use super::request::Args;
use crate::cluster::Node;

/// How long is waited where the caller does not say.
const USUAL: Duration = Duration::from_secs(5);

/// The longest that may be asked for, in seconds.
const LONGEST_S: f64 = 300.0;

/// That somebody waits, and for how long at most.
pub(super) struct Wait(Duration);

// === impl Wait ===

impl Wait {
    /// Reads `wait` and `timeout`; `None` when nobody waits.
    ///
    /// # Errors
    /// 400: they are something else than `applied` and seconds.
    pub(super) fn of(args: &Args) -> Result<Option<Self>, Answer> {
        match args.get("wait") {
            None => return Ok(None),
            Some("applied") => {}
            Some(other) => {
                let said = format!("invalid argument wait: expected applied, got {other}");
                return Err(Answer::bad(said));
            }
        }
        let Some(text) = args.get("timeout") else {
            return Ok(Some(Self(USUAL)));
        };
        let seconds = text.parse().ok().filter(|seconds| (0.0..=LONGEST_S).contains(seconds));
        match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(limit) => Ok(Some(Self(limit))),
            None => Err(Answer::bad(format!(
                "invalid argument timeout: expected seconds from 0 to {LONGEST_S}, got {text}"
            ))),
        }
    }
}

// === impl Admin ===

impl Admin {
    /// Hands on `answer` when every live node has applied what it tells of; of those that are late,
    /// the answer tells too. What is written stays written.
    pub(super) async fn wait_for(&self, wait: &Wait, answer: Answer) -> Answered {
        let Some(revision) = answer.revision() else {
            return Ok(answer);
        };
        let late = match self.cluster.applied(revision, wait.0).await {
            Ok(late) if late.is_empty() => return Ok(answer),
            Ok(late) => late,
            Err(error) => {
                let said = format!("written, but which nodes have it is not known: {error}");
                let more = json!({ "error_msg": said, "revision": revision });
                return Err(answer.but(StatusCode::GATEWAY_TIMEOUT, more));
            }
        };
        let names: Vec<String> = late
            .iter()
            .map(|node| format!("{} ({}) at revision {}", node.id, node.hostname, node.revision))
            .collect();
        let lagging: Value = late.iter().map(Node::shown).collect();
        let said = format!(
            "written at revision {revision}, but not applied within {:?} by {}",
            wait.0,
            names.join(", ")
        );
        let more = json!({ "error_msg": said, "revision": revision, "lagging": lagging });
        Err(answer.but(StatusCode::GATEWAY_TIMEOUT, more))
    }
}
