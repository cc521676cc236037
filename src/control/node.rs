//! The node itself: state, rejections, secrets, certificates; and which others there are.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Control};
use crate::issue;
use crate::resource::{Invalid, Kind};
use crate::secret::Status;

/// Stored for other gateways and for the tools; this version does nothing by them.
const NOT_ACTED_ON: [Kind; 3] = [Kind::StreamRoute, Kind::Proto, Kind::CostDecoration];

// === impl Control ===

impl Control {
    pub(super) fn node_status(&self) -> Value {
        let parts = &self.parts;
        let compiler = parts.compiler.lock();
        json!({
            "version": parts.version,
            "id": parts.node_id,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "config_provider": parts.provider,
            "store_reachable": parts.store.is_reachable(),
            "ready": *parts.ready.borrow(),
            "revision": parts.published.load().revision,
            "resources": compiler.counts(),
            "not_acted_on": NOT_ACTED_ON.map(Kind::name),
            "rejected": compiler.rejected().count(),
            "ignored": compiler.ignored().collect::<Vec<_>>(),
        })
    }

    /// Every live node of the cluster and what it has applied.
    pub(super) async fn nodes(&self) -> Answer {
        match self.parts.cluster.nodes().await {
            Ok(nodes) => {
                let told = nodes.iter().map(|node| {
                    let mut shown = node.shown();
                    shown["self"] = (node.id == self.parts.node_id).into();
                    shown
                });
                (StatusCode::OK, told.collect())
            }
            Err(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, json!({ "error_msg": error.to_string() }))
            }
        }
    }

    pub(super) fn rejected(&self) -> Value {
        let compiler = self.parts.compiler.lock();
        let told = compiler.rejected().map(|(kind, id, why)| {
            json!({
                "key": format!("{}/{id}", kind.dir()),
                "serves_last_good": why.serves_last_good,
                "reasons": why.reasons.iter().map(reason).collect::<Vec<_>>(),
            })
        });
        told.collect()
    }

    pub(super) fn secrets(&self) -> Value {
        self.parts.secrets.status().iter().map(secret).collect()
    }

    pub(super) fn certificates(&self) -> Value {
        let compiler = self.parts.compiler.lock();
        let issued = compiler.issued().status();
        let told = compiler.served().flat_map(|(id, snis, served)| {
            let order = issued.iter().find(|order| *order.ssl == *id);
            served.certificates.iter().enumerate().map(move |(index, certificate)| {
                let mut told = json!({
                    "ssl": id,
                    "snis": snis,
                    "subject": certificate.subject,
                    "names": certificate.names,
                    "not_before": certificate.not_before,
                    "not_after": certificate.not_after,
                    "sha256": certificate.fingerprint,
                });
                if let Some(order) = order.filter(|_| index == 0) {
                    told["issued"] = order_shown(order);
                }
                told
            })
        });
        told.collect()
    }
}

/// How the certificate was got, and whether it can be renewed.
fn order_shown(status: &issue::Status) -> Value {
    json!({
        "reference": status.reference,
        "serial": status.serial,
        "issuer": status.issuer,
        "renew_at": status.renew_at,
        "by": status.by,
        "last_error": status.error,
    })
}

fn reason(invalid: &Invalid) -> Value {
    json!({
        "path": invalid.path,
        "value": invalid.value,
        "expected": invalid.expected,
        "message": invalid.to_string(),
    })
}

fn secret(status: &Status) -> Value {
    let state = match (status.age, &status.error) {
        (Some(_), None) => "ready",
        (Some(_), Some(_)) => "stale",
        (None, None) => "pending",
        (None, Some(_)) => "failed",
    };
    json!({
        "manager": status.manager,
        "path": status.path,
        "references": status.references,
        "state": state,
        "age_seconds": status.age.map(|age| age.as_secs()),
        "last_error": status.error.as_ref().map(ToString::to_string),
    })
}
