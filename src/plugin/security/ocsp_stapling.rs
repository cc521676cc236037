//! ocsp-stapling: lets ssl objects have the field `ocsp_stapling`; does nothing on a request.
//!
//! What is stapled is the business of the `tls` room, when handshakes are.
//!
//! Source: APISIX `docs/en/latest/plugins/ocsp-stapling.md`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::{Build, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// Settings of `ocsp-stapling`: none, they stand in ssl objects.
#[derive(Deserialize, JsonSchema)]
pub struct Config {}

/// The compiled plugin.
pub struct OcspStapling;

// === impl OcspStapling ===

impl Spec for OcspStapling {
    const NAME: &'static str = "ocsp-stapling";
    const PRIORITY: i32 = -44;
    const PHASES: Phases = Phases::NONE;
    const STATELESS: bool = true;
    type Config = Config;

    fn compile(_: Config, _: &Build<'_>) -> Result<Self, Invalid> {
        Ok(Self)
    }
}

impl Plugin for OcspStapling {}
