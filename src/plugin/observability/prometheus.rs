//! prometheus: counts the exchanges of the routes that enable it.
//!
//! Source: APISIX `docs/en/latest/plugins/prometheus.md`. What is exported otherwise
//! (connections, store, certificates) does not depend on this plugin.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::Ctx;
use crate::metrics::Sample;
use crate::plugin::{Build, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// Settings of `prometheus`.
#[derive(Deserialize, JsonSchema)]
pub struct Config {
    /// Whether the labels `route` and `service` hold names instead of ids.
    #[serde(default)]
    prefer_name: bool,
}

/// The compiled plugin.
pub struct Prometheus {
    prefer_name: bool,
}

// === impl Prometheus ===

impl Spec for Prometheus {
    const NAME: &'static str = "prometheus";
    const PRIORITY: i32 = 500;
    const PHASES: Phases = Phases::LOG;
    const STATELESS: bool = true;
    const PREFER_ROUTE: bool = true;
    type Config = Config;

    fn compile(config: Config, _: &Build<'_>) -> Result<Self, Invalid> {
        Ok(Self { prefer_name: config.prefer_name })
    }
}

impl Plugin for Prometheus {
    fn log(&self, ctx: &Ctx) {
        let last = ctx.attempts.last();
        ctx.metrics.record(Sample {
            route: &ctx.route,
            prefers_names: self.prefer_name,
            consumer: ctx.consumer.as_ref().map(|consumer| &consumer.name),
            node: last.map(|attempt| &attempt.node),
            status: ctx.response.status.as_u16(),
            from_upstream: ctx.response.from_upstream,
            latency: ctx.elapsed(),
            upstream_latency: ctx.upstream_time(),
            ingress_bytes: ctx.bytes_received,
            egress_bytes: ctx.bytes_sent(),
        });
    }
}
