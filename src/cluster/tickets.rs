//! The keys of session tickets, shared by the nodes of a store.
//!
//! They stand beside the config, sealed by the keyring, and leave the store by themselves when
//! nobody renews them. Whichever node first finds them due puts the next one, and the others take
//! it over; a node that cannot reach the store goes on with what it has. Without a keyring they
//! would lie there for everybody to read who reads the store, so then each node keeps its own.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::resource::Keyring;
use crate::store::{BESIDE, ConfigStore, Entry, Expect, StoreError, Written};
use crate::tls::tickets::{KeySet, ROTATION, Tickets};

/// How often a node looks at what is stored: often enough to have a new key before it is used.
const LOOK: Duration = Duration::from_secs(5);

/// How long the keys stand in the store when nobody renews them: as long as a ticket may be good.
const LIFE_S: i64 = 3 * ROTATION.as_secs() as i64;

/// How long after its time the store's next key is waited for while the store is away.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// The keys as they are stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// When the newest was made, in seconds since 1970.
    made: u64,
    /// Sealed by the keyring.
    keys: String,
}

/// A node's share in the keys.
pub struct TicketKeys {
    /// Where the keys are shared; `None` when they are this node's own.
    store: Option<Arc<dyn ConfigStore>>,
    keyring: Keyring,
    tickets: Arc<Tickets>,
    /// Whether keys have been shared before.
    has_shared: bool,
    /// Whether it has been said that what is stored cannot be read.
    has_complained: bool,
    refusals: u32,
}

/// The key that they are stored at.
fn key() -> String {
    format!("{BESIDE}ticket_keys")
}

// === impl TicketKeys ===

impl TicketKeys {
    /// Keeps the keys of `tickets` the same as those of the other nodes of `store`; `None` for a
    /// store that keeps nothing beside the config.
    pub fn new(
        store: Option<Arc<dyn ConfigStore>>,
        keyring: Keyring,
        tickets: Arc<Tickets>,
    ) -> Self {
        let reason = match &store {
            None => Some("nothing can be kept beside this node's config"),
            Some(_) if keyring.is_empty() => {
                Some("there is no apisix.data_encryption.keyring to seal them by")
            }
            Some(_) => None,
        };
        if let Some(reason) = reason {
            tracing::info!(reason, "the keys of session tickets are this node's own");
        }
        Self {
            store: store.filter(|_| reason.is_none()),
            keyring,
            tickets,
            has_shared: false,
            has_complained: false,
            refusals: 0,
        }
    }

    /// Looks after the keys until `stop` ends.
    pub async fn keep(mut self, stop: impl Future) {
        let mut stop = std::pin::pin!(stop);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stop => return,
                _ = looks.tick() => {}
            }
            if let Err(error) = self.look(clock::unix().cast_unsigned()).await {
                tracing::error!(%error, "there is no new key for session tickets");
            }
        }
    }

    /// Takes over what is stored, and renews it when it is time.
    async fn look(&mut self, now: u64) -> Result<(), rustls::Error> {
        let own = self.tickets.keys();
        let Some(store) = self.store.clone() else {
            return self.renew_own(&own, own.is_due(now), now);
        };
        let entry = match store.get(&key()).await {
            Ok(entry) => entry,
            Err(error) => {
                self.note(&error);
                let is_overdue = own.is_due(now.saturating_sub(GRACE.as_secs()));
                return self.renew_own(&own, is_overdue, now);
            }
        };
        let next = match entry.as_ref().map(|entry| self.read(entry)) {
            // Taken away on purpose: no ticket from before is to be good any more.
            None if self.has_shared => KeySet::fresh(now)?,
            None if own.is_due(now) => own.rotated(now)?,
            None => own,
            Some(Ok(stored)) if stored.is_due(now) => stored.rotated(now)?,
            Some(Ok(stored)) => {
                self.has_shared = true;
                self.has_complained = false;
                self.refusals = 0;
                self.take(&stored, now);
                return Ok(());
            }
            Some(Err(made)) => {
                if !self.has_complained {
                    self.has_complained = true;
                    tracing::warn!(
                        key = key(),
                        "the keys of session tickets that other nodes have stored cannot be read; \
                         is apisix.data_encryption.keyring the same on every node?"
                    );
                }
                if now < made.saturating_add(ROTATION.as_secs()) {
                    return self.renew_own(&own, own.is_due(now), now);
                }
                // Nobody who can read them is there any more, or would have renewed them.
                if own.is_due(now) { own.rotated(now)? } else { own }
            }
        };
        self.put(&*store, next, entry.as_ref(), now).await;
        Ok(())
    }

    /// Goes on with keys of this node's own, with a new one when that `is_due`, or would hardly
    /// ever be since the calendar was set back. (Those that are shared leave the store in time by
    /// the store's clock: nodes whose calendars differ would have them renewed all the time.)
    fn renew_own(&self, own: &KeySet, is_due: bool, now: u64) -> Result<(), rustls::Error> {
        if is_due || own.is_ahead(now) {
            self.take(&own.rotated(now)?, now);
        } else {
            self.take(own, now);
        }
        Ok(())
    }

    fn take(&self, set: &KeySet, now: u64) {
        if self.tickets.set(set, now) {
            tracing::info!(made = set.made, "other keys for session tickets");
        }
    }

    /// Stores `set` in place of `old`. If another node was faster, its keys are seen with the next
    /// look.
    async fn put(&mut self, store: &dyn ConfigStore, set: KeySet, old: Option<&Entry>, now: u64) {
        let keys = self.keyring.encrypt(&STANDARD.encode(set.to_bytes()));
        let value = serde_json::to_vec(&Stored { made: set.made, keys }).unwrap_or_default();
        let expect = Expect::unchanged(old);
        match store.put(&key(), value.into(), expect, Some(LIFE_S)).await {
            Ok(Written::Done { .. }) => {
                self.has_shared = true;
                self.take(&set, now);
            }
            Ok(Written::Conflict { .. }) => {}
            // A node that may only read: others renew what is there.
            Err(StoreError::Unauthenticated { .. }) if old.is_some() => {}
            Err(error) => self.note(&error),
        }
    }

    /// The keys of a stored value, or when they were made that cannot be read.
    fn read(&self, entry: &Entry) -> Result<KeySet, u64> {
        let stored: Stored = serde_json::from_slice(&entry.value).map_err(|_| 0_u64)?;
        let open = || {
            let bytes = STANDARD.decode(self.keyring.decrypt(&stored.keys)?).ok()?;
            KeySet::from_bytes(stored.made, &bytes)
        };
        open().ok_or(stored.made)
    }

    /// Goes on alone where the store will never have the keys. Its other failures pass, and are
    /// told where it is watched.
    fn note(&mut self, error: &StoreError) {
        match error {
            StoreError::ReadOnly { .. } => {}
            // Once it may have been the token's end. Asking on for what one may not have would cost
            // the connection each time.
            StoreError::Unauthenticated { .. } if self.refusals > 0 => {}
            StoreError::Unauthenticated { .. } => {
                self.refusals += 1;
                return;
            }
            _ => return,
        }
        tracing::warn!(
            reason = %error,
            "the keys of session tickets are this node's own: other nodes cannot resume its sessions"
        );
        self.store = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    const NOON: u64 = 1_800_000_000;
    const HALF_A_DAY: u64 = ROTATION.as_secs();

    struct Nodes {
        store: Arc<Embedded>,
        _dir: tempfile::TempDir,
    }

    // === impl Nodes ===

    impl Nodes {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { store: Embedded::open(&dir.path().join("config.redb")).unwrap(), _dir: dir }
        }

        /// A node that has just started, with the keyring `keyring`.
        fn node(&self, keyring: &[&str], now: u64) -> TicketKeys {
            let tickets = Tickets::new(KeySet::fresh(now).unwrap());
            let keyring = Keyring::new(keyring.iter().copied()).unwrap();
            TicketKeys::new(Some(self.store.clone()), keyring, tickets)
        }

        async fn stored(&self) -> Option<Stored> {
            let entry = self.store.get(&key()).await.unwrap()?;
            serde_json::from_slice(&entry.value).ok()
        }
    }

    const OURS: &[&str] = &["qeddd145sfvddff3"];
    const THEIRS: &[&str] = &["0123456789abcdef"];

    fn bytes(node: &TicketKeys) -> Vec<u8> {
        node.tickets.keys().to_bytes()
    }

    #[tokio::test]
    async fn nodes_take_over_what_is_stored_and_one_renews_it() {
        let nodes = Nodes::new();
        let (mut one, mut two) = (nodes.node(OURS, NOON), nodes.node(OURS, NOON + 1));
        assert_ne!(bytes(&one), bytes(&two));
        one.look(NOON + 2).await.unwrap();
        two.look(NOON + 2).await.unwrap();
        let first = bytes(&one);
        assert_eq!(first, bytes(&two));
        assert!(!nodes.stored().await.unwrap().keys.contains(&STANDARD.encode(&first)));

        two.look(NOON + HALF_A_DAY).await.unwrap();
        one.look(NOON + HALF_A_DAY).await.unwrap();
        assert_eq!(bytes(&one), bytes(&two));
        assert!(bytes(&one).ends_with(&first) && bytes(&one).len() == 2 * first.len());
    }

    #[tokio::test]
    async fn taking_them_away_makes_all_tickets_worthless() {
        let nodes = Nodes::new();
        let mut one = nodes.node(OURS, NOON);
        one.look(NOON).await.unwrap();
        let first = bytes(&one);
        nodes.store.delete(&key(), Expect::Any).await.unwrap();
        one.look(NOON + 5).await.unwrap();
        assert_eq!(bytes(&one).len(), first.len());
        assert_ne!(bytes(&one), first);
    }

    #[tokio::test]
    async fn nodes_with_other_keyrings_leave_each_other_in_peace() {
        let nodes = Nodes::new();
        let (mut one, mut two) = (nodes.node(OURS, NOON), nodes.node(THEIRS, NOON));
        one.look(NOON).await.unwrap();
        let own = bytes(&two);
        two.look(NOON + 5).await.unwrap();
        assert_eq!(bytes(&two), own);
        assert_eq!(nodes.stored().await.unwrap().made, NOON);
        // Nobody renews them: the keyring was changed, or those nodes are gone.
        two.look(NOON + HALF_A_DAY).await.unwrap();
        assert_eq!(nodes.stored().await.unwrap().made, NOON + HALF_A_DAY);
        assert!(bytes(&two).ends_with(&own));
    }

    #[tokio::test]
    async fn without_a_keyring_or_a_store_the_keys_are_a_nodes_own_and_still_change() {
        let nodes = Nodes::new();
        let mut bare = nodes.node(&[], NOON);
        let keyring = Keyring::new(OURS.iter().copied()).unwrap();
        let tickets = Tickets::new(KeySet::fresh(NOON).unwrap());
        let mut alone = TicketKeys::new(None, keyring, tickets);
        for node in [&mut bare, &mut alone] {
            let own = bytes(node);
            node.look(NOON).await.unwrap();
            assert_eq!(bytes(node), own);
            node.look(NOON + HALF_A_DAY).await.unwrap();
            assert!(bytes(node).ends_with(&own) && bytes(node).len() > own.len());
        }
        // The calendar was a year ahead, and is right again.
        for node in [&mut bare, &mut alone] {
            node.look(NOON + 700 * HALF_A_DAY).await.unwrap();
            let ahead = bytes(node);
            node.look(NOON + 2 * HALF_A_DAY).await.unwrap();
            assert_eq!(node.tickets.keys().made, NOON + 2 * HALF_A_DAY);
            assert_ne!(bytes(node), ahead);
        }
        assert!(nodes.stored().await.is_none());
    }

    #[tokio::test]
    async fn nothing_that_is_stored_is_taken_for_keys_that_is_none() {
        let nodes = Nodes::new();
        let mut one = nodes.node(OURS, NOON);
        nodes.store.put(&key(), "nonsense".into(), Expect::Any, None).await.unwrap();
        let own = bytes(&one);
        one.look(NOON).await.unwrap();
        assert_eq!(bytes(&one), own);
        assert_eq!(nodes.stored().await.unwrap().made, NOON, "it is replaced");
    }
}
