//! How references stand, for people; and reading them at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Entry, Known, Lookup, Secrets, Source};
use crate::secret::{Reference, SecretError};

/// How a reference stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its value is fresh.
    Ready,
    /// The last good value is served, since the last read failed.
    Stale,
    /// It is being read for the first time.
    Pending,
    /// There is no value.
    Failed,
}

/// A reference in use, for people.
#[derive(Debug, Clone)]
pub struct Status {
    pub reference: Reference,
    pub manager: Arc<str>,
    pub state: State,
    /// Since the last good read, `None` before the first.
    pub age: Option<Duration>,
    /// Until the next read, `None` while one is under way or where there is no manager.
    pub next: Option<Duration>,
    /// What the last read failed with, if it did, or what it lacked.
    pub error: Option<SecretError>,
    /// When its value was another than before, or came.
    pub changed: Option<SystemTime>,
    /// How many reads have failed since the last good one.
    pub failures: u32,
}

/// What became of a reference that was read at once.
#[derive(Debug, Clone)]
pub enum Outcome {
    Changed,
    Unchanged,
    Failed(SecretError),
    /// The answer has not come in time; it will be taken when it comes.
    Pending,
}

// === impl Secrets ===

impl Secrets {
    /// Every reference in use to what a manager holds.
    pub fn status(&self) -> Vec<Status> {
        let state = self.0.lock();
        let entries = state.entries.iter();
        entries.flat_map(|(source, entry)| entry.status(source)).collect()
    }

    /// Reads at once what those references name that `wanted` picks, each path once, and waits for
    /// the answers, at most for `limit`. Who asks meanwhile waits for the same reads.
    pub async fn refresh(
        &self,
        wanted: impl Fn(&Reference) -> bool,
        limit: Duration,
    ) -> Vec<(Reference, Outcome)> {
        let mut asked: Vec<(Source, u64)> = Vec::new();
        let mut before: BTreeMap<Reference, Option<SystemTime>> = BTreeMap::new();
        for (source, entry) in &self.0.lock().entries {
            let picked: Vec<_> = entry.users.iter().filter(|user| wanted(user)).collect();
            if !picked.is_empty() && entry.task.is_some() {
                asked.push((source.clone(), entry.begun + 1));
                entry.wake.notify_one();
            }
            let changed = |user: &Reference| entry.changes.get(user).copied();
            before.extend(picked.into_iter().map(|user| (user.clone(), changed(user))));
        }
        let ended = async {
            loop {
                let notified = self.0.settled.notified();
                if !self.0.lock().are_due(&asked) {
                    return;
                }
                notified.await;
            }
        };
        let in_time = tokio::time::timeout(limit, ended).await.is_ok();
        let state = self.0.lock();
        let outcome = |(reference, before): (Reference, Option<SystemTime>)| {
            let source = Source::of(&reference)?;
            let entry = state.entries.get(&source)?;
            let read = asked.iter().find(|(one, _)| *one == source).map_or(0, |(_, read)| *read);
            let outcome = if !in_time && entry.ended < read {
                Outcome::Pending
            } else if let Some(error) = entry.error_of(&source, &reference) {
                Outcome::Failed(error)
            } else if entry.changes.get(&reference).copied() == before {
                Outcome::Unchanged
            } else {
                Outcome::Changed
            };
            Some((reference, outcome))
        };
        before.into_iter().filter_map(outcome).collect()
    }
}

// === impl Known ===

impl Known {
    /// Whether one of those reads, by their number, is still to end.
    fn are_due(&self, reads: &[(Source, u64)]) -> bool {
        reads.iter().any(|(source, read)| {
            let entry = self.entries.get(source);
            entry.is_some_and(|entry| entry.task.is_some() && entry.ended < *read)
        })
    }
}

// === impl Entry ===

impl Entry {
    /// Why `reference` has no fresh value.
    fn error_of(&self, source: &Source, reference: &Reference) -> Option<SecretError> {
        let Reference::Managed { field, .. } = reference else {
            return None;
        };
        self.error.clone().or_else(|| match self.lookup(source, field.as_deref()) {
            Lookup::Failed(error) => Some(error),
            Lookup::Ready(_) | Lookup::Pending => None,
        })
    }

    fn status(&self, source: &Source) -> impl Iterator<Item = Status> {
        self.users.iter().map(|user| {
            let field = match user {
                Reference::Managed { field, .. } => field.as_deref(),
                Reference::Env { .. } => None,
            };
            let state = match (self.lookup(source, field), &self.error) {
                (Lookup::Ready(_), None) => State::Ready,
                (Lookup::Ready(_), Some(_)) => State::Stale,
                (Lookup::Pending, _) => State::Pending,
                (Lookup::Failed(_), _) => State::Failed,
            };
            Status {
                reference: user.clone(),
                manager: source.manager.clone(),
                state,
                age: self.read_at.map(|at| at.elapsed()),
                next: self.next.map(|at| at.saturating_duration_since(Instant::now())),
                error: self.error_of(source, user),
                changed: self.changes.get(user).copied(),
                failures: self.failures,
            }
        })
    }
}

// === impl State ===

impl State {
    /// As the control API and metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stale => "stale",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}
