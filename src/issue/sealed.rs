//! Records of Sluice's own in the store: beside the config, and encrypted with the keyring.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

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
        let plain = self.keyring.decrypt(text).map(Zeroizing::new);
        let plain = plain.as_ref().map_or(text, |plain| plain.as_str());
        serde_json::from_str(plain).map_err(|_| unreadable())
    }

    /// `value` as it is stored.
    pub(super) fn seal<T: Serialize>(&self, value: &T) -> Bytes {
        // Made large enough at once: a text that grows leaves copies behind.
        let mut length = Length(0);
        let _ = serde_json::to_writer(&mut length, value);
        let mut plain = Zeroizing::new(Vec::with_capacity(length.0));
        let _ = serde_json::to_writer(&mut *plain, value);
        let plain = std::str::from_utf8(&plain).unwrap_or_default();
        self.keyring.encrypt(plain).into()
    }
}

/// Counts what is written to it.
struct Length(usize);

// === impl Length ===

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
