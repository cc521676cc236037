//! When keys with a time to live are over.
//!
//! That is by the monotonic clock for as long as the process runs: a calendar that is set forward
//! takes no key away, and one that is set back keeps none for a day, as it would the claim of a node
//! that has to wait a second. Only over a restart the calendar has to be believed, and then no key
//! lives longer than it was given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableTable as _, Table, TableDefinition};

use super::REVISIONS;
use crate::clock;
use crate::store::{Action, Life, Step};

/// Key → the life that it was given, in seconds.
pub(super) const LIVES: TableDefinition<'_, &str, u64> = TableDefinition::new("lives");

/// The ends of the keys that have one.
#[derive(Debug, Default)]
pub(super) struct Ends(HashMap<String, End>);

#[derive(Debug)]
struct End {
    at: Instant,
    /// What was written then; a later revision has a life of its own.
    revision: i64,
}

// === impl Ends ===

impl Ends {
    /// The ends of the keys of a store that is opened when the calendar says `now`, in seconds
    /// since 1970.
    pub(super) fn read(transaction: &ReadTransaction, now: i64) -> Result<Self, redb::Error> {
        let revisions = transaction.open_table(REVISIONS)?;
        let lives = transaction.open_table(LIVES)?;
        let mut ends = Self::default();
        for item in revisions.iter()? {
            let (key, value) = item?;
            let (_, revision, end) = value.value();
            if end != 0 {
                let given = lives.get(key.value())?.map(|life| life.value());
                let left = end.saturating_sub(now.cast_unsigned());
                let life = given.map_or(left, |given| left.min(given));
                ends.put(key.value(), life, revision);
            }
        }
        Ok(ends)
    }

    /// Notes what `steps`, which were carried out as `revision`, mean for the ends of their keys.
    pub(super) fn follow(&mut self, steps: &[Step], revision: i64) {
        for step in steps {
            match &step.action {
                Action::Put { life: Life::Seconds(life), .. } => {
                    self.put(&step.key, seconds(*life), revision);
                }
                Action::Put { life: Life::AsBefore, .. } => {
                    if let Some(end) = self.0.get_mut(&step.key) {
                        end.revision = revision;
                    }
                }
                Action::Put { life: Life::Endless, .. } | Action::Delete => {
                    self.0.remove(&step.key);
                }
            }
        }
    }

    /// The keys that are over now, each with the revision that is.
    pub(super) fn over(&self) -> Vec<(String, i64)> {
        let now = Instant::now();
        let over = self.0.iter().filter(|(_, end)| end.at <= now);
        over.map(|(key, end)| (key.clone(), end.revision)).collect()
    }

    fn put(&mut self, key: &str, life: u64, revision: i64) {
        match Instant::now().checked_add(Duration::from_secs(life)) {
            Some(at) => self.0.insert(key.to_owned(), End { at, revision }),
            None => self.0.remove(key),
        };
    }
}

/// Keeps the life that `step` gives its key in `lives`, for the next start; returns the end by the
/// calendar in seconds since 1970, 0 where it has none, `None` where it is the one that it had.
pub(super) fn write(
    lives: &mut Table<'_, &str, u64>,
    step: &Step,
) -> Result<Option<u64>, redb::Error> {
    match &step.action {
        Action::Put { life: Life::Seconds(life), .. } => {
            lives.insert(step.key.as_str(), seconds(*life))?;
            Ok(Some(clock::unix().cast_unsigned().saturating_add(seconds(*life))))
        }
        Action::Put { life: Life::AsBefore, .. } => Ok(None),
        Action::Put { life: Life::Endless, .. } | Action::Delete => {
            lives.remove(step.key.as_str())?;
            Ok(Some(0))
        }
    }
}

fn seconds(life: i64) -> u64 {
    u64::try_from(life).unwrap_or(0)
}
