//! How the values that [`read`](super::read) leaves behind become Rust types.
//!
//! After reading, a time is a count of milliseconds and a path a text.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A time in milliseconds.
pub(super) fn millis<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_millis)
}

/// A time in milliseconds, or `null`.
pub(super) fn optional_millis<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(value)?.map(Duration::from_millis))
}

/// The path of a file, or `system` for the trust store of the machine.
pub(super) fn path_or_system<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(value)?;
    Ok((text != "system").then(|| PathBuf::from(text)))
}
