//! What is known of every order on this node, and where its records are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::acme::Acme;
use super::keeper::Keeper;
use super::record::{Place, Record};
use super::sealed::Sealed;
use super::{Challenges, Order};
use crate::secret::Secrets;

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
}

/// An order with what there is of it.
pub(super) struct Kept {
    pub(super) order: Order,
    pub(super) task: JoinHandle<()>,
    pub(super) record: Option<Arc<Record>>,
    pub(super) error: Option<String>,
    /// Whether the store has been asked for the record.
    pub(super) looked: bool,
    pub(super) challenges: BTreeMap<String, String>,
}

// === impl Desk ===

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self, state: &State, ssl: &str, order: &Order) -> Place {
        let acme = state.acme.get(order.issuer.manager());
        let salt = acme.map(|acme| acme.salt()).unwrap_or_default();
        Place::new(ssl, &order.digest(&salt))
    }

    /// Starts the task of an order. With `at_once` it does not wait for what failed before.
    pub(super) fn start(
        self: &Arc<Self>,
        state: &State,
        ssl: &Arc<str>,
        order: &Order,
        at_once: bool,
    ) -> JoinHandle<()> {
        let keeper = Keeper::new(
            self.clone(),
            ssl.clone(),
            order.clone(),
            self.place(state, ssl, order),
            at_once,
        );
        self.runtime.spawn(keeper.run())
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
        let is_news = change(kept);
        state.gather();
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
    pub(super) fn of(&mut self, ssl: &str, order: &Order) -> Option<&mut Kept> {
        self.kept.get_mut(ssl)?.iter_mut().find(|kept| kept.order == *order)
    }

    /// Puts together what is to be answered.
    pub(super) fn gather(&mut self) {
        let all = self.kept.values().flatten().flat_map(|kept| kept.challenges.clone());
        let all: BTreeMap<String, String> = all.collect();
        if all != *self.challenges {
            self.challenges = Arc::new(all);
        }
    }
}
