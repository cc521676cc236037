//! Records of Sluice's own in the store: beside the config, and encrypted with the keyring.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IssueError;
use crate::resource::Keyring;
use crate::store::{ConfigStore, Entry};

/// A store whose values nobody reads without the keyring (`apisix.data_encryption.keyring`).
pub(super) struct Sealed {
    pub(super) store: Arc<dyn ConfigStore>,
    pub(super) keyring: Keyring,
}

// === impl Sealed ===

impl Sealed {
    /// The record at `key` with the entry that holds it, if there is one.
    ///
    /// # Errors
    /// The store does not answer; the record was written with a key that this node does not have.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Entry)>, IssueError> {
        let Some(entry) = self.store.get(key).await? else {
            return Ok(None);
        };
        Ok(Some((self.open(&entry)?, entry)))
    }

    /// What `entry` holds.
    ///
    /// # Errors
    /// It was written with a key that this node does not have.
    pub(super) fn open<T: DeserializeOwned>(&self, entry: &Entry) -> Result<T, IssueError> {
        let unreadable = || IssueError::Unreadable(entry.key.to_string());
        let text = std::str::from_utf8(&entry.value).map_err(|_| unreadable())?;
        // In clear where there is no keyring, as everything else in such a store.
        let plain = self.keyring.decrypt(text).unwrap_or_else(|| text.to_owned());
        serde_json::from_str(&plain).map_err(|_| unreadable())
    }

    /// `value` as it is stored.
    pub(super) fn seal<T: Serialize>(&self, value: &T) -> Bytes {
        let plain = serde_json::to_string(value).unwrap_or_default();
        self.keyring.encrypt(&plain).into()
    }
}
