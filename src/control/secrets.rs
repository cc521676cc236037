//! Secrets in use: how each stands, who uses it, and a pull at once. Never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, Control};
use crate::secret::{Lookup, Outcome, Reference, State, Status};

/// Where secrets are pulled: the one path here that takes a POST.
pub(super) const REFRESH: &str = "/v1/secrets/refresh";

/// For how long a pull is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

// === impl Control ===

impl Control {
    /// Every reference in use, in order of its text.
    pub(super) fn secrets(&self) -> Value {
        let users = self.parts.compiler.lock().secret_users();
        let mut told = BTreeMap::new();
        for status in self.parts.secrets.status() {
            let users = users.get(&status.reference);
            told.insert(status.reference.to_string(), managed(&status, users));
        }
        for (reference, users) in &users {
            if let Reference::Env { .. } = reference {
                let lookup = self.parts.secrets.lookup(reference);
                told.insert(reference.to_string(), environment(reference, &lookup, users));
            }
        }
        told.into_values().collect()
    }

    /// Pulls the secrets that `query` picks by `reference`, `manager` or both, or all; tells what
    /// has changed and what failed when the answers are there.
    pub(super) async fn refresh_secrets(&self, headers: &HeaderMap, query: &str) -> Answer {
        let bad = |said: String| (StatusCode::BAD_REQUEST, json!({ "error_msg": said }));
        // Browsers name the page that a POST comes from, and nobody else does: a page elsewhere
        // may not make this node ask its managers.
        if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
            let said = "refused: a request of a web page";
            return (StatusCode::FORBIDDEN, json!({ "error_msg": said }));
        }
        let (mut reference, mut manager) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "reference" => match Reference::parse(&value) {
                    Some(Ok(parsed @ Reference::Managed { .. })) => reference = Some(parsed),
                    Some(Err(error)) => return bad(format!("reference: {error}, got {value}")),
                    _ => {
                        let expected = "expected $secret://manager/id/path/field";
                        return bad(format!("reference: {expected}, got {value}"));
                    }
                },
                "manager" => manager = Some(value.into_owned()),
                _ => return bad(format!("{name}: expected reference or manager")),
            }
        }
        let wanted = |one: &Reference| {
            let Reference::Managed { manager: of, .. } = one else {
                return false;
            };
            reference.as_ref().is_none_or(|wanted| wanted == one)
                && manager.as_ref().is_none_or(|wanted| is_of(of, wanted))
        };
        let outcomes = self.parts.secrets.refresh(wanted, PATIENCE).await;
        if outcomes.is_empty() && (reference.is_some() || manager.is_some()) {
            let said = "no such secret is in use";
            return (StatusCode::NOT_FOUND, json!({ "error_msg": said }));
        }
        let count = |wanted: &str| outcomes.iter().filter(|(_, one)| word(one) == wanted).count();
        let told: Vec<_> = outcomes.iter().map(|(reference, one)| pulled(reference, one)).collect();
        let body = json!({
            "changed": count("changed"),
            "unchanged": count("unchanged"),
            "failed": count("failed"),
            "pending": count("pending"),
            "secrets": told,
        });
        (StatusCode::OK, body)
    }
}

/// Whether a manager's id is `wanted`, or of that kind: `vault/1` and `vault`.
fn is_of(id: &str, wanted: &str) -> bool {
    id == wanted || id.split_once('/').is_some_and(|(kind, _)| kind == wanted)
}

fn managed(status: &Status, users: Option<&BTreeSet<String>>) -> Value {
    let seconds = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
    };
    json!({
        "reference": status.reference.to_string(),
        "manager": status.manager,
        "state": status.state.name(),
        "age_seconds": status.age.map(|age| age.as_secs()),
        "next_refresh_seconds": status.next.map(|next| next.as_secs()),
        "last_error": status.error.as_ref().map(ToString::to_string),
        "failures": status.failures,
        "last_change": status.changed.map(seconds),
        "used_by": users.into_iter().flatten().collect::<Vec<_>>(),
    })
}

fn environment(reference: &Reference, lookup: &Lookup, users: &BTreeSet<String>) -> Value {
    let (state, error) = match lookup {
        Lookup::Ready(_) => (State::Ready, None),
        Lookup::Pending => (State::Pending, None),
        Lookup::Failed(error) => (State::Failed, Some(error.to_string())),
    };
    json!({
        "reference": reference.to_string(),
        "manager": "env",
        "state": state.name(),
        "age_seconds": null,
        "next_refresh_seconds": null,
        "last_error": error,
        "failures": 0,
        "last_change": null,
        "used_by": users,
    })
}

fn pulled(reference: &Reference, outcome: &Outcome) -> Value {
    let error = match outcome {
        Outcome::Failed(error) => Some(error.to_string()),
        Outcome::Changed | Outcome::Unchanged | Outcome::Pending => None,
    };
    json!({ "reference": reference.to_string(), "result": word(outcome), "error": error })
}

const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Changed => "changed",
        Outcome::Unchanged => "unchanged",
        Outcome::Failed(_) => "failed",
        Outcome::Pending => "pending",
    }
}
