//! The node itself: state, rejections, certificates; and which others there are.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Control};
use crate::clock;
use crate::issue;
use crate::resource::{Invalid, Kind};
use crate::tls::staple;

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

    pub(super) fn certificates(&self) -> Value {
        let now = clock::unix();
        let compiler = self.parts.compiler.lock();
        let issued = compiler.issued().status();
        let told = compiler.served().flat_map(|(id, snis, served)| {
            let order = issued.iter().find(|order| *order.ssl == *id);
            let shown = served.certificates.iter().zip(served.shown()).enumerate();
            shown.map(move |(index, (certificate, shown))| {
                let mut warnings = certificate.warnings(snis, now);
                warnings.extend(unstapled(shown).map(str::to_owned));
                let mut told = json!({
                    "ssl": id,
                    "snis": snis,
                    "subject": certificate.subject,
                    "names": certificate.names,
                    "not_before": certificate.not_before,
                    "not_after": certificate.not_after,
                    "days_left": certificate.days_left(now),
                    "key": certificate.kind,
                    "warnings": warnings,
                    "sha256": certificate.fingerprint,
                    "must_staple": shown.must_staple,
                    "staple": shown.status().map(|status| staple(&status)),
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

fn staple(status: &staple::Status) -> Value {
    json!({ "until": status.until, "last_error": status.error })
}

/// What clients that go by it will think of a certificate that has no staple.
fn unstapled(shown: &staple::Shown) -> Option<&'static str> {
    let is_stapled = shown.status().is_some_and(|status| status.until.is_some());
    (shown.must_staple && !is_stapled)
        .then_some("must-staple, and nothing is stapled: clients may refuse it")
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
