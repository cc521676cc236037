//! Key rotation: everything that is encrypted at rest, encrypted anew with the newest key.
//!
//! Each resource and each kept version is read, decrypted by whichever key of the keyring fits and
//! put back if it reads otherwise now, as long as nobody was faster. What no key fits is left as
//! it is and named. Afterwards the old keys can go.

use serde_json::{Value, json};

use super::answer::{Answer, Answered};
use super::history;
use super::write::TRIES;
use super::{Admin, Call};
use crate::resource::Kind;
use crate::store::{BESIDE, Entry, Expect, Life, Step, Transacted};

/// Records that are encrypted as a whole: certificates that the nodes got for themselves, and the
/// accounts that they got them by.
const ISSUED: &str = "issued/";
const ISSUERS: &str = "issuers/";

/// What came of one key.
enum Outcome {
    Resealed(i64),
    Same,
    Unreadable,
    Overtaken,
}

// === impl Admin ===

impl Admin {
    /// Encrypts everything anew, and tells how much that was.
    pub(super) async fn reseal(&self, call: &Call<'_>) -> Answered {
        let mut entries = self.store.list("").await?.entries;
        for folder in ["history/", ISSUED, ISSUERS] {
            entries.extend(self.store.list(&format!("{BESIDE}{folder}")).await?.entries);
        }
        let (mut resealed, mut newest) = (0, None);
        let mut unreadable = Vec::new();
        let mut overtaken = Vec::new();
        for entry in entries {
            let key = entry.key.clone();
            match self.reseal_one(entry).await? {
                Outcome::Same => {}
                Outcome::Resealed(revision) => {
                    resealed += 1;
                    newest = Some(revision);
                    self.note(&key, "PUT", revision, call);
                }
                Outcome::Unreadable => unreadable.push(key),
                Outcome::Overtaken => overtaken.push(key),
            }
        }
        let body = json!({
            "resealed": resealed,
            "unreadable": unreadable,
            "overtaken": overtaken,
        });
        Ok(match newest {
            Some(revision) => Answer::done(body, revision),
            None => Answer::json(body),
        })
    }

    async fn reseal_one(&self, mut entry: Entry) -> Result<Outcome, Answer> {
        for _ in 0..TRIES {
            if is_whole(&entry.key) {
                let resealed = self.compiler.lock().reseal_whole(&entry.value);
                let Some(value) = resealed else {
                    return Ok(Outcome::Unreadable);
                };
                if value.as_bytes() == entry.value {
                    return Ok(Outcome::Same);
                }
                let expect = Expect::Revision(entry.mod_revision);
                let step = Step::put_for(&*entry.key, value, Life::AsBefore, expect);
                return Ok(match self.store.transact(vec![step]).await? {
                    Transacted::Done { revision } => Outcome::Resealed(revision),
                    // Whoever was faster wrote it with the newest key.
                    Transacted::Conflict { .. } => Outcome::Same,
                });
            }
            let Some((kind, mut whole)) = read(&entry) else {
                return Ok(Outcome::Same);
            };
            let is_version = entry.key.starts_with(BESIDE);
            let value = if is_version { &mut whole["value"] } else { &mut whole };
            if value.is_null() {
                return Ok(Outcome::Same);
            }
            let before = value.clone();
            let is_readable = self.compiler.lock().reseal(kind, value);
            if *value == before {
                return Ok(if is_readable { Outcome::Same } else { Outcome::Unreadable });
            }
            if is_version && whole.get("revision").is_none() {
                // Its own revision is about to be another than that of the write it tells of.
                whole["revision"] = entry.mod_revision.into();
            }
            let expect = Expect::Revision(entry.mod_revision);
            let step = Step::put_for(&*entry.key, whole.to_string(), Life::AsBefore, expect);
            match self.store.transact(vec![step]).await? {
                Transacted::Done { revision } if is_readable => {
                    return Ok(Outcome::Resealed(revision));
                }
                Transacted::Done { .. } => return Ok(Outcome::Unreadable),
                Transacted::Conflict { .. } => match self.store.get(&entry.key).await? {
                    Some(current) => entry = current,
                    None => return Ok(Outcome::Same),
                },
            }
        }
        Ok(Outcome::Overtaken)
    }
}

/// Whether what stands at `key` is encrypted as a whole. Claims are not worth it: they end soon.
fn is_whole(key: &str) -> bool {
    key.strip_prefix(BESIDE).is_some_and(|key| {
        key.starts_with(ISSUERS) || key.starts_with(ISSUED) && key.ends_with("/certificate")
    })
}

/// The kind and the content of what stands at a key, if it is a resource or a version of one.
fn read(entry: &Entry) -> Option<(Kind, Value)> {
    let key = history::resource_of(&entry.key).unwrap_or(&entry.key);
    let (kind, _) = Kind::of_key(key)?;
    Some((kind, serde_json::from_slice(&entry.value).ok()?))
}
