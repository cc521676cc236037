//! Secrets: references to them, the managers that hold them, and a cache that outlives both.
//!
//! [`Secrets::lookup`] never waits: what is not known yet is fetched in the background, and who
//! asked is told when it has come. A value that is in use is refreshed before it is too old; if
//! its manager does not answer, the last good value goes on being served. A request never comes
//! here.
//!
//! Source: APISIX `docs/en/latest/terminology/secret.md`.

mod cache;
mod reference;
pub(crate) mod vault;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::cache::{Lookup, Secrets, Settings, Status};
pub use self::reference::{Reference, ReferenceError};

/// A secret's value. Prints as `(hidden)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// Where secrets are kept: one of these a `secrets` object, asked off the request road only.
#[async_trait]
pub(crate) trait Manager: Send + Sync {
    /// Reads everything that stands at `path`.
    ///
    /// # Errors
    /// Why there is no answer, or none that can be used.
    async fn read(&self, path: &str) -> Result<Fields, SecretError>;

    /// The manager as the Vault that it is, for what only a Vault does.
    fn into_vault(self: Arc<Self>) -> Option<Arc<vault::Vault>> {
        None
    }
}

/// What stands at one path of a manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The whole text, where the manager keeps text rather than fields.
    pub(crate) whole: Option<Secret>,
    pub(crate) named: BTreeMap<String, Secret>,
}

/// Why a secret could not be read. Names the place; never a token or a value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SecretError {
    #[error("no secret manager {0} is configured")]
    NoManager(String),
    #[error("{0}: this version cannot read from AWS and Google Cloud yet, only from Vault")]
    Unsupported(String),
    #[error("environment variable {0} is not set")]
    NoVariable(String),
    #[error("{place} holds no field {field}")]
    NoField { place: String, field: String },
    #[error("{0} holds fields; expected one of them to be named")]
    NoWhole(String),
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} answered {status}: {reason}")]
    Refused { url: String, status: u16, reason: String },
}

// === impl Secret ===

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

// === impl Fields ===

impl Fields {
    /// The value of `field`, or the whole text where no field is named.
    pub(crate) fn get(&self, field: Option<&str>) -> Option<&Secret> {
        match field {
            None => self.whole.as_ref(),
            Some(field) => self.named.get(field),
        }
    }
}

// === impl SecretError ===

impl SecretError {
    /// Whether the manager may answer better soon, without anybody changing anything: it is away,
    /// sealed, not the active node, or busy.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::NoManager(_)
            | Self::Unsupported(_)
            | Self::NoVariable(_)
            | Self::NoField { .. }
            | Self::NoWhole(_) => false,
        }
    }
}
