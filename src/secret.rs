//! Secrets: references to them, the managers that hold them, and a cache that outlives both.
//!
//! [`Secrets::lookup`] never waits: what is not known yet is fetched in the background, and who
//! asked is told when it has come. A value that is in use is refreshed before it is too old; if
//! its manager does not answer, the last good value goes on being served. A request never comes
//! here.
//!
//! Source: APISIX `docs/en/latest/terminology/secret.md`.

mod aws;
mod cache;
mod gcp;
mod reference;
pub(crate) mod vault;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use zeroize::Zeroizing;

pub use self::cache::{Lookup, Outcome, Secrets, Settings, State, Status};
pub use self::reference::{Reference, ReferenceError};

/// A secret's value. Prints as `(hidden)`; overwritten when the last clone goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

/// Where secrets are kept: one of these a `secrets` object, asked off the request road only.
#[async_trait]
pub(crate) trait Manager: Send + Sync {
    /// Reads everything that stands at `path`.
    ///
    /// # Errors
    /// Why there is no answer, or none that can be used.
    async fn read(&self, path: &str) -> Result<Fields, SecretError>;

    /// Reads what `version` of a path held, where the manager keeps versions.
    ///
    /// # Errors
    /// As [`Manager::read`], and that there are no versions, or no such one.
    async fn read_version(&self, path: &str, version: u32) -> Result<Fields, SecretError> {
        Err(SecretError::Unversioned { place: path.to_owned(), version })
    }

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
    #[error("environment variable {0} is not set")]
    NoVariable(String),
    #[error("{place} holds no field {field}")]
    NoField { place: String, field: String },
    #[error("{place} is no JSON object; expected one with the field {field}")]
    NoFields { place: String, field: String },
    #[error("{0} holds fields; expected one of them to be named")]
    NoWhole(String),
    #[error("{path}: {reason}")]
    NoFile { path: String, reason: String },
    /// A field of the manager that cannot be used as it is.
    #[error("{field} of the secret manager: {reason}")]
    Unusable { field: String, reason: String },
    #[error("{place}: it has no versions (KV version 1?), expected no ?version={version}")]
    Unversioned { place: String, version: u32 },
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} answered {status}: {reason}")]
    Refused { url: String, status: u16, reason: String },
    #[error("{url} is asked too often: {reason}")]
    Busy { url: String, reason: String },
    #[error("the service account cannot be used: {0}")]
    Account(String),
}

/// What `text` stands for, written into `field` of a secret manager: itself, or what the
/// environment variable holds that it refers to.
///
/// # Errors
/// There is no such variable; any other reference: a manager is not read by another.
pub(crate) fn plain(field: &str, text: &str) -> Result<Secret, SecretError> {
    match Reference::parse(text) {
        None => Ok(Secret::new(text)),
        Some(Ok(Reference::Env { name, key })) => match cache::env(&name, key.as_deref()) {
            Lookup::Ready(secret) => Ok(secret),
            Lookup::Failed(error) => Err(error),
            Lookup::Pending => Err(SecretError::NoVariable(name.to_string())),
        },
        Some(_) => Err(SecretError::Unusable {
            field: field.to_owned(),
            reason: "expected a value or $env://name".to_owned(),
        }),
    }
}

// === impl Secret ===

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(value.into())))
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
    /// sealed, not the active node, or busy, or a file is not written yet.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoFile { .. } | Self::Busy { .. } => true,
            Self::Refused { status, .. } => matches!(*status, 307 | 308 | 429) || *status >= 500,
            Self::NoManager(_)
            | Self::NoVariable(_)
            | Self::Unusable { .. }
            | Self::Unversioned { .. }
            | Self::NoField { .. }
            | Self::NoFields { .. }
            | Self::NoWhole(_)
            | Self::Account(_) => false,
        }
    }
}
