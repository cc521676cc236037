//! Certificates that the gateway gets for itself: from Vault's PKI engine or by ACME.
//!
//! An ssl object whose certificate and key are one reference to an issuer places an [`Order`].
//! Each order has a task on each node ([`keeper`]); the nodes share one certificate through a
//! record in the store, and a claim there says whose turn it is to ask: a hundred nodes ask once.
//! What was issued goes down the config road as a secret does: whoever holds the reference is
//! compiled again. A request never comes here.

mod order;
mod desk;
mod keeper;
mod pki;
mod acme;
mod record;
mod sealed;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use self::acme::Acme;
use self::desk::{Desk, Kept};
pub use self::order::{Issuer, Order};
use self::record::{Answers, Known};
use self::sealed::Sealed;
use crate::resource::{self, Invalid, Keyring};
use crate::secret::{SecretError, Secrets};
use crate::store::{ConfigStore, StoreError};
use crate::tls::proof::Proofs;

/// Where ACME servers look for answers; a token follows.
pub const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// What answers an ACME server's challenges, by token.
pub type Challenges = Arc<BTreeMap<String, String>>;

/// Every certificate that this node keeps ordered. Clones share everything.
#[derive(Clone, Default)]
pub struct Issued(Option<Arc<Desk>>);

/// What getting certificates takes.
pub struct Parts {
    pub store: Arc<dyn ConfigStore>,
    pub keyring: Keyring,
    pub secrets: Secrets,
    /// This node's id.
    pub node: String,
    /// Whether other nodes have the same store.
    pub is_shared: bool,
    /// Whether the store takes writes.
    pub is_writable: bool,
    /// What the tasks run on.
    pub runtime: tokio::runtime::Handle,
}

/// What there is of an order.
#[derive(Debug, Clone)]
pub enum Found {
    /// Chain and key, PEM.
    Ready(String, resource::hidden::Hidden),
    /// It is being got for the first time.
    Pending,
    /// There is none, and why; that goes on being tried.
    Failed(String),
}

/// How an order stands, for the control API.
#[derive(Debug, Clone)]
pub struct Status {
    pub ssl: Arc<str>,
    /// The reference that placed it.
    pub reference: String,
    pub serial: Option<String>,
    /// Who signed the certificate.
    pub issuer: Option<String>,
    /// Seconds since 1970.
    pub renew_at: Option<i64>,
    /// The node that asked for it.
    pub by: Option<String>,
    /// Why it could not be got or renewed, if it could not.
    pub error: Option<String>,
}

/// Why there is no certificate. Names the place; never a key.
#[derive(Debug, thiserror::Error)]
enum IssueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{0} was written with another key; expected every node to have the same \
         apisix.data_encryption.keyring"
    )]
    Unreadable(String),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("no secret manager {0} is configured")]
    NoIssuer(String),
    #[error("there is no name to ask for")]
    Nameless,
    #[error("{place}: the answer holds no {field}")]
    Lacks { place: String, field: String },
    #[error("what was issued cannot be served: {0}")]
    Unusable(String),
    #[error(
        "what was issued cannot be served: it ended {ago_s} s ago by the clock of node {node}; is \
         that clock right?"
    )]
    Ended { ago_s: i64, node: String },
    #[error("{directory}: {reason}")]
    Acme { directory: String, reason: String },
    #[error("not done within {0:?}")]
    Late(Duration),
    #[error("another node took over")]
    TakenOver,
}

// === impl Issued ===

impl Issued {
    /// No orders yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, keyring, secrets, node, is_shared, is_writable, runtime } = parts;
        Self(Some(Arc::new(Desk {
            sealed: Sealed { store, keyring },
            secrets,
            node,
            is_shared,
            is_writable,
            runtime,
            state: Mutex::default(),
            looked: Notify::new(),
        })))
    }

    /// Whether orders can be taken at all.
    ///
    /// # Errors
    /// The node has no place for certificates, or no key to hide them from other readers of it.
    pub fn admits(&self) -> Result<(), Invalid> {
        let Some(desk) = &self.0 else {
            return Ok(());
        };
        if !desk.is_writable {
            let expected = "a certificate: one that is issued needs the config provider etcd or \
                            embedded, to be kept in";
            return Err(Invalid::new("/cert", "an order for a certificate", expected));
        }
        if desk.is_shared && desk.sealed.keyring.is_empty() {
            let expected = "apisix.data_encryption.keyring to be set, since the nodes share what \
                            is issued through the store";
            return Err(Invalid::new("/cert", "an order for a certificate", expected));
        }
        Ok(())
    }

    /// What there is of `order`, placed by the ssl object `ssl`. Never waits; the first lookup
    /// places it.
    pub fn lookup(&self, ssl: &Arc<str>, order: &Order) -> Found {
        let Some(desk) = &self.0 else {
            return Found::Failed("nothing is issued here".to_owned());
        };
        let mut state = desk.lock();
        if let Some(kept) = state.of(ssl, order) {
            return match (&kept.record, &kept.error) {
                (Some(record), _) => Found::Ready(record.chain.clone(), record.key.clone()),
                (None, Some(error)) => Found::Failed(error.clone()),
                (None, None) => Found::Pending,
            };
        }
        let place = state.place(ssl, order);
        let task = desk.start(ssl, order, &place, false);
        let kept = Kept {
            order: order.clone(),
            place,
            known: Known::default(),
            task,
            record: None,
            error: None,
            looked: false,
            answers: Answers::default(),
        };
        state.kept.entry(ssl.clone()).or_default().push(kept);
        Found::Pending
    }

    /// Says that of all the orders of `ssl` only `order` is left, or none, as of this revision of
    /// the config. What was issued for the others is thrown away.
    pub fn retain(&self, ssl: &str, order: Option<&Order>, as_of: i64) {
        let Some(desk) = &self.0 else {
            return;
        };
        let mut state = desk.lock();
        let Some(kept) = state.kept.get_mut(ssl) else {
            return;
        };
        let (left, gone): (Vec<Kept>, Vec<Kept>) =
            std::mem::take(kept).into_iter().partition(|kept| Some(&kept.order) == order);
        *kept = left;
        if kept.is_empty() {
            state.kept.remove(ssl);
        }
        for kept in gone {
            kept.task.abort();
            desk.discard(kept.place, kept.known, as_of);
        }
        state.gather();
    }

    /// Adds or changes the secret manager `id` as of this revision of the config: what waits for it
    /// is tried at once, and what is not its certificate any more is thrown away.
    pub fn set_issuer(&self, id: &Arc<str>, written: &resource::Secret, as_of: i64) {
        let Some(desk) = &self.0 else {
            return;
        };
        let mut state = desk.lock();
        match written {
            resource::Secret::Acme(acme) => {
                state.acme.insert(id.clone(), Arc::new(Acme::new(id, acme)));
            }
            _ => drop(state.acme.remove(id)),
        }
        desk.restart(&mut state, id, |kept, place| {
            if kept.place != place {
                let old = std::mem::replace(&mut kept.place, place);
                desk.discard(old, std::mem::take(&mut kept.known), as_of);
            }
        });
    }

    /// Takes the secret manager `id` away. What it has issued is served on.
    pub fn remove_issuer(&self, id: &Arc<str>) {
        let Some(desk) = &self.0 else {
            return;
        };
        let mut state = desk.lock();
        state.acme.remove(id);
        desk.restart(&mut state, id, |_, _| {});
    }

    /// Waits until the store has been asked for the certificates of all orders, at most for
    /// `limit`. What has to be issued first comes later, by the same road.
    pub async fn settle(&self, limit: Duration) {
        let Some(desk) = &self.0 else {
            return;
        };
        let settled = async {
            loop {
                let notified = desk.looked.notified();
                let all_looked = {
                    let state = desk.lock();
                    state.kept.values().flatten().all(|kept| kept.looked)
                };
                if all_looked {
                    return;
                }
                notified.await;
            }
        };
        // Too late is not lost.
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// What is to be answered and shown to ACME servers now.
    pub fn challenges(&self) -> (Challenges, Proofs) {
        let Some(desk) = &self.0 else {
            return Default::default();
        };
        let state = desk.lock();
        (state.challenges.clone(), state.proofs.clone())
    }

    /// Every order.
    pub fn status(&self) -> Vec<Status> {
        let Some(desk) = &self.0 else {
            return Vec::new();
        };
        let state = desk.lock();
        let all = state.kept.iter().flat_map(|(ssl, all)| all.iter().map(move |kept| (ssl, kept)));
        all.map(|(ssl, kept)| {
            let record = kept.record.as_ref();
            Status {
                ssl: ssl.clone(),
                reference: kept.order.issuer.to_string(),
                serial: record.map(|record| record.serial.clone()),
                issuer: record.map(|record| record.issuer.clone()),
                renew_at: record.map(|record| record.renew_at),
                by: record.map(|record| record.by.clone()),
                error: kept.error.clone(),
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
