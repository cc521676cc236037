//! History: the last versions of each resource, and the way back to one.
//!
//! A version stands beside the config, as the resource is stored (secrets encrypted), and is
//! written in the same transaction, so its revision is the write's own. What another gateway wrote
//! meanwhile is noted with the next write, without a name. Of what is deleted the last
//! version stays for a month. A store that gives no room beside the
//! config keeps no history, and is written to all the same.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Answered};
use super::path::Place;
use super::{Admin, Call};
use crate::clock;
use crate::store::{BESIDE, Entry, Expect, Life, Read, Step, StoreError, Transacted};

/// For how long the last version of a deleted resource is kept, and that it was deleted: ids that
/// come and go must not fill the store. No more than that, since it is written once more then, and
/// etcd takes 1.5 MiB a transaction.
const AFTERLIFE: Life = Life::Seconds(30 * 24 * 3600);
const AFTERLIFE_MOST: usize = 2;

/// Larger versions are not kept: with the resource itself they would be more than etcd takes.
const LARGEST_BYTES: usize = 512 * 1024;

/// A version as it is kept.
#[derive(Serialize, Deserialize)]
struct Version {
    /// Of the write, where that is not the one that kept the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// Seconds since 1970, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
    /// The name of the writer's key, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Nothing where the resource was deleted.
    value: Option<Value>,
}

/// What a write leaves of a resource.
pub(super) struct Kept<'k> {
    pub(super) key: &'k str,
    /// What stood there before.
    pub(super) current: Option<&'k Entry>,
    /// What stands there after, as stored; nothing where it is deleted.
    pub(super) value: Option<&'k Value>,
}

// === impl Version ===

impl Version {
    fn of(entry: &Entry) -> Option<(i64, Self)> {
        let version: Self = serde_json::from_slice(&entry.value).ok()?;
        Some((version.revision.unwrap_or(entry.mod_revision), version))
    }
}

// === impl Admin ===

impl Admin {
    /// The versions that are kept of each of `keys`, oldest first; nothing where none are.
    pub(super) async fn versions<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<Vec<Vec<Entry>>, StoreError> {
        let reads: Vec<Read> = keys.map(|key| Read::Below(folder(key))).collect();
        let none = vec![Vec::new(); reads.len()];
        if self.settings.history == 0 || self.history_refused.load(Ordering::Relaxed) {
            return Ok(none);
        }
        let mut found = self.store.read(&reads).await;
        if matches!(found, Err(StoreError::Unauthenticated { .. })) {
            // It may have been the token's end; the second time there is a new one.
            found = self.store.read(&reads).await;
        }
        match found {
            Err(StoreError::Unauthenticated { .. }) => {
                self.give_up_history();
                Ok(none)
            }
            found => found,
        }
    }

    /// The steps that keep what one write leaves.
    pub(super) async fn keep_one(
        &self,
        kept: &Kept<'_>,
        call: &Call<'_>,
    ) -> Result<Vec<Step>, StoreError> {
        let versions = self.versions([kept.key].into_iter()).await?;
        Ok(versions.first().map(|versions| self.keep(kept, versions, call)).unwrap_or_default())
    }

    /// The steps that keep what a write leaves beside `versions`, and let go of what is too old.
    pub(super) fn keep(&self, kept: &Kept<'_>, versions: &[Entry], call: &Call<'_>) -> Vec<Step> {
        let is_end = kept.value.is_none();
        let most = self.settings.history;
        let most = if is_end { most.min(AFTERLIFE_MOST) } else { most };
        if most == 0 || self.history_refused.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let newest = versions.last().and_then(Version::of);
        let time = nanos().max(after(versions));
        let mut fresh = Vec::new();
        let unknown = kept.current.filter(|current| {
            newest.as_ref().is_none_or(|(revision, _)| *revision != current.mod_revision)
        });
        if let Some(current) = unknown {
            let value = serde_json::from_slice(&current.value).ok();
            let version =
                Version { revision: Some(current.mod_revision), time: None, by: None, value };
            fresh.push((time.saturating_sub(1), version));
        }
        let by = Some(call.caller.to_owned());
        let value = kept.value.cloned();
        fresh.push((time, Version { revision: None, time: Some(clock::unix()), by, value }));
        let too_many = (versions.len() + fresh.len()).saturating_sub(most);
        let old = versions.iter().take(too_many);
        let mut steps: Vec<Step> =
            old.map(|entry| Step::delete(&*entry.key, Expect::Any)).collect();
        let life = if is_end { AFTERLIFE } else { Life::Endless };
        let put = |key: String, version: &Version| {
            let bytes = serde_json::to_vec(version).unwrap_or_default();
            if bytes.len() > LARGEST_BYTES {
                let bytes = bytes.len();
                tracing::warn!(resource = kept.key, bytes, "too large a version to be kept");
                return None;
            }
            Some(Step::put_for(key, bytes, life, Expect::Any))
        };
        if is_end {
            let left = versions.iter().skip(too_many);
            steps.extend(left.filter_map(|entry| {
                let (revision, version) = Version::of(entry)?;
                let version = Version { revision: Some(revision), ..version };
                put(entry.key.to_string(), &version)
            }));
        }
        let fresh = fresh.into_iter().skip(too_many.saturating_sub(versions.len()));
        steps.extend(fresh.filter_map(|(time, version)| {
            put(format!("{}{time:020}", folder(kept.key)), &version)
        }));
        steps
    }

    /// Carries out `steps` together with those of the history.
    pub(super) async fn transact(
        &self,
        steps: Vec<Step>,
        history: Vec<Step>,
    ) -> Result<Transacted, StoreError> {
        if history.is_empty() {
            return self.store.transact(steps).await;
        }
        let all: Vec<Step> = steps.iter().cloned().chain(history).collect();
        let mut outcome = self.store.transact(all.clone()).await;
        if matches!(outcome, Err(StoreError::Unauthenticated { .. })) {
            // It may have been the token's end; the second time there is a new one.
            outcome = self.store.transact(all).await;
        }
        match outcome {
            // An etcd user may have rights below the prefix only.
            Err(StoreError::Unauthenticated { .. }) => {
                let done = self.store.transact(steps).await?;
                self.give_up_history();
                Ok(done)
            }
            outcome => outcome,
        }
    }

    fn give_up_history(&self) {
        if !self.history_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the store refuses keys beside the config: no history is kept; grant the user the \
                 prefix that ends in -sluice/ too, or set sluice.history.keep to 0"
            );
        }
    }

    /// The versions of a resource, newest first, secrets hidden.
    pub(super) async fn history(&self, place: &Place) -> Answered {
        let key = format!("{}/{}", place.kind.dir(), place.one()?);
        let versions = self.store.list(&folder(&key)).await?.entries;
        let newest = versions.last().and_then(Version::of);
        // Another gateway has deleted it, and keeps no history.
        let is_gone = newest.is_some_and(|(_, version)| version.value.is_some())
            && self.store.get(&key).await?.is_none();
        let end = is_gone.then(|| {
            json!({ "revision": null, "time": null, "by": null, "deleted": true, "value": null })
        });
        let list = versions.iter().rev().filter_map(Version::of).map(|(revision, version)| {
            let mut value = version.value.unwrap_or_default();
            self.compiler.lock().hide(place.kind, &mut value);
            json!({ "revision": revision, "time": version.time, "by": version.by,
                "deleted": value.is_null(), "value": value })
        });
        let list: Vec<Value> = end.into_iter().chain(list).collect();
        Ok(Answer::json(json!({ "total": list.len(), "list": list })))
    }

    /// Writes the version of `?revision=` anew; checked as any other write.
    pub(super) async fn rollback(&self, place: &Place, call: &Call<'_>) -> Answered {
        let id = place.one()?;
        let key = format!("{}/{id}", place.kind.dir());
        let text = call.args.get("revision").unwrap_or_default();
        let wanted: i64 = text.parse().map_err(|_| {
            Answer::bad(format!(
                "invalid argument revision: expected one of {key}/history, got {text:?}"
            ))
        })?;
        let versions = self.store.list(&folder(&key)).await?.entries;
        let found = versions.iter().filter_map(Version::of).find(|(at, _)| *at == wanted);
        let found = found.and_then(|(_, version)| version.value).ok_or_else(|| {
            let said = format!("{key} has no version of revision {wanted} that is kept");
            Answer::error(http::StatusCode::NOT_FOUND, said)
        })?;
        let mut value = found;
        self.compiler.lock().open(place.kind, &mut value);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("create_time");
            fields.remove("update_time");
        }
        let whole = Place::of_key(&key).ok_or_else(Answer::key_not_found)?;
        self.put(&whole, call, Some(value)).await
    }
}

/// What the versions of a resource are kept under. No id holds an `@`.
fn folder(key: &str) -> String {
    format!("{BESIDE}history/{key}@")
}

/// The key of the resource that a version is of.
pub(super) fn resource_of(key: &str) -> Option<&str> {
    let (resource, _) = key.strip_prefix(BESIDE)?.strip_prefix("history/")?.split_once('@')?;
    Some(resource)
}

/// The least number of a version that comes after `versions`, with room for one before it: the
/// calendar may have been set back since they were written.
fn after(versions: &[Entry]) -> u64 {
    let number = |entry: &Entry| entry.key.rsplit_once('@')?.1.parse::<u64>().ok();
    versions.last().and_then(number).map_or(0, |newest| newest.saturating_add(2))
}

/// Nanoseconds since 1970: in the order of writes, and no two alike.
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
