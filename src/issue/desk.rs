//! What is known of every order on this node, and where its records are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::acme::Acme;
use super::keeper::Keeper;
use super::record::{Answers, Known, Place, Record};
use super::sealed::Sealed;
use super::{Challenges, Order};
use crate::secret::Secrets;
use crate::store::{Expect, Written};
use crate::tls::proof::Proofs;

/// The parts with what they are at.
pub(super) struct Desk {
    pub(super) sealed: Sealed,
    pub(super) secrets: Secrets,
    pub(super) node: String,
    pub(super) is_shared: bool,
    pub(super) is_writable: bool,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) state: Mutex<State>,
    pub(super) looked: Notify,
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) acme: HashMap<Arc<str>, Arc<Acme>>,
    /// By ssl object: the one that is served, and the one that is to be.
    pub(super) kept: HashMap<Arc<str>, Vec<Kept>>,
    pub(super) challenges: Challenges,
    pub(super) proofs: Proofs,
}

/// An order with what there is of it.
pub(super) struct Kept {
    pub(super) order: Order,
    /// Where its records are, by its issuer's settings as they were last seen.
    pub(super) place: Place,
    /// What of them this node has seen.
    pub(super) known: Known,
    pub(super) task: JoinHandle<()>,
    pub(super) record: Option<Arc<Record>>,
    pub(super) error: Option<String>,
    /// Whether the store has been asked for the record.
    pub(super) looked: bool,
    /// By what its names are being proved.
    pub(super) answers: Answers,
}

// === impl Desk ===

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the task of an order. With `at_once` it does not wait for what failed before.
    pub(super) fn start(
        self: &Arc<Self>,
        ssl: &Arc<str>,
        order: &Order,
        place: &Place,
        at_once: bool,
    ) -> JoinHandle<()> {
        let keeper = Keeper::new(self.clone(), ssl.clone(), order.clone(), place.clone(), at_once);
        self.runtime.spawn(keeper.run())
    }

    /// Starts the tasks of all orders anew that the secret manager `id` issues for, once `moved` has
    /// been shown where each belongs by now.
    pub(super) fn restart(
        self: &Arc<Self>,
        state: &mut State,
        id: &Arc<str>,
        mut moved: impl FnMut(&mut Kept, Place),
    ) {
        let State { acme, kept, .. } = state;
        for (ssl, all) in kept {
            for kept in all.iter_mut().filter(|kept| kept.order.issuer.manager() == id) {
                kept.task.abort();
                moved(kept, place(acme, ssl, &kept.order));
                kept.task = self.start(ssl, &kept.order, &kept.place, true);
            }
        }
    }

    /// Throws away the records at `place`, which the config needs no more as of revision `as_of`.
    ///
    /// Only those go that are still what this node has seen, and had seen before that revision: one
    /// that is written later is of an order that was placed again, of which this node is yet to
    /// hear.
    pub(super) fn discard(self: &Arc<Self>, place: Place, known: Known, as_of: i64) {
        let desk = self.clone();
        self.runtime.spawn(async move {
            let seen = [(place.certificate, known.certificate), (place.claim, known.claim)];
            for (key, revision) in seen {
                let Some(revision) = revision.filter(|revision| *revision <= as_of) else {
                    continue;
                };
                // What is left ends by itself, with the certificate.
                match desk.sealed.store.delete(&key, Expect::Revision(revision)).await {
                    Ok(Written::Done { .. } | Written::Conflict { current: None }) => {}
                    Ok(Written::Conflict { current: Some(_) }) => {
                        tracing::debug!(key, revision, "another record stands there by now");
                    }
                    Err(error) => tracing::debug!(key, %error, "a record is left to its end"),
                }
            }
        });
    }

    /// Changes what is known of an order, and tells whoever holds it when `change` says so.
    pub(super) fn learn(
        &self,
        ssl: &Arc<str>,
        order: &Order,
        change: impl FnOnce(&mut Kept) -> bool,
    ) {
        let mut state = self.lock();
        let Some(kept) = state.of(ssl, order) else {
            return;
        };
        let before = kept.answers.clone();
        let is_news = change(kept);
        if kept.answers != before {
            state.gather();
        }
        if is_news {
            // Told before the lock is let go: who sees that all have looked finds it told.
            self.secrets.tell(&order.reference());
        }
        drop(state);
        self.looked.notify_waiters();
    }
}

// === impl State ===

impl State {
    /// Where the records of an order are, by its issuer's settings as they are now.
    pub(super) fn place(&self, ssl: &str, order: &Order) -> Place {
        place(&self.acme, ssl, order)
    }

    pub(super) fn of(&mut self, ssl: &str, order: &Order) -> Option<&mut Kept> {
        self.kept.get_mut(ssl)?.iter_mut().find(|kept| kept.order == *order)
    }

    /// Puts together what is to be answered and shown.
    pub(super) fn gather(&mut self) {
        let kept = || self.kept.values().flatten();
        let all: BTreeMap<String, String> =
            kept().flat_map(|kept| kept.answers.challenges.clone()).collect();
        let proofs = kept().flat_map(|kept| kept.answers.proofs.clone()).collect();
        self.proofs = self.proofs.of(&proofs);
        if all != *self.challenges {
            self.challenges = Arc::new(all);
        }
    }
}

fn place(acme: &HashMap<Arc<str>, Arc<Acme>>, ssl: &str, order: &Order) -> Place {
    let acme = acme.get(order.issuer.manager());
    let salt = acme.map(|acme| acme.salt()).unwrap_or_default();
    Place::new(ssl, &order.digest(&salt))
}
