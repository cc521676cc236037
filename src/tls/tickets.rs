//! Session tickets and the keys that seal them.
//!
//! A ticket is the name of a key, a nonce and the session, sealed by AES-256-GCM; rustls compares
//! the server name that stands in the session. The keys change by [`Tickets::set`]; a handshake
//! only loads them.
//!
//! Source: RFC 5077 section 4, RFC 8446 section 4.6.1.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key seals tickets before the next one does.
pub const ROTATION: Duration = Duration::from_secs(12 * 60 * 60);

/// How long a new key is known before it seals: other nodes have to have heard of it.
const LEAD: Duration = Duration::from_secs(30);

/// Keys of a set: the one that seals and two before it, so that a ticket is good for two rotations.
const KEPT: usize = 3;

const NAME: usize = 16;
const SECRET: usize = 32;
const NONCE: usize = 12;

/// The keys of one time, newest first. Prints without them.
#[derive(Clone)]
pub struct KeySet {
    /// When the newest was made, in seconds since 1970.
    pub made: u64,
    keys: Vec<Arc<Key>>,
}

struct Key {
    name: [u8; NAME],
    secret: Zeroizing<[u8; SECRET]>,
    seals: RandomizedNonceKey,
}

/// The keys in use, for every configuration of the node.
#[derive(Debug)]
pub struct Tickets(ArcSwap<Ring>);

#[derive(Debug)]
struct Ring {
    set: KeySet,
    /// Which of the keys seals.
    sealing: usize,
}

/// Seals and opens tickets.
#[derive(Debug)]
struct Ticketer(Arc<Tickets>);

// === impl KeySet ===

impl KeySet {
    /// One new key, made `now`.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn fresh(now: u64) -> Result<Self, rustls::Error> {
        Ok(Self { made: now, keys: vec![Arc::new(Key::fresh()?)] })
    }

    /// With a new key, made `now`, and without the oldest.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn rotated(&self, now: u64) -> Result<Self, rustls::Error> {
        let mut keys = vec![Arc::new(Key::fresh()?)];
        keys.extend(self.keys.iter().take(KEPT - 1).cloned());
        Ok(Self { made: now, keys })
    }

    /// Whether it is time for the next key.
    pub fn is_due(&self, now: u64) -> bool {
        now >= self.made.saturating_add(ROTATION.as_secs())
    }

    /// Whether it was made when the calendar was ahead, so that it would not be due for longer than
    /// a ticket is good.
    pub fn is_ahead(&self, now: u64) -> bool {
        self.made > now.saturating_add(ROTATION.as_secs())
    }

    /// The keys as bytes, to be kept where nobody reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.keys.iter().flat_map(|key| key.name.iter().chain(key.secret.iter()).copied()).collect()
    }

    /// The other way round; `None` for what was not written so.
    pub fn from_bytes(made: u64, bytes: &[u8]) -> Option<Self> {
        let (parts, rest) = bytes.as_chunks::<{ NAME + SECRET }>();
        if parts.is_empty() || parts.len() > KEPT || !rest.is_empty() {
            return None;
        }
        let keys = parts.iter().map(|part| {
            let (name, secret) = part.split_at(NAME);
            Key::new(name.try_into().ok()?, secret.try_into().ok()?).map(Arc::new)
        });
        Some(Self { made, keys: keys.collect::<Option<_>>()? })
    }

    /// Whether it has the same keys.
    fn is(&self, other: &Self) -> bool {
        let names = |set: &Self| set.keys.iter().map(|key| key.name).collect::<Vec<_>>();
        self.made == other.made && names(self) == names(other)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys, made {})", self.keys.len(), self.made)
    }
}

// === impl Key ===

impl Key {
    fn fresh() -> Result<Self, rustls::Error> {
        let mut bytes = [0; NAME + SECRET];
        let drawn = aws_lc_rs::rand::fill(&mut bytes);
        let (name, secret) = bytes.split_at(NAME);
        let key = name.try_into().ok().zip(secret.try_into().ok());
        drawn
            .ok()
            .and(key)
            .and_then(|(name, secret)| Self::new(name, secret))
            .ok_or(rustls::Error::FailedToGetRandomBytes)
    }

    fn new(name: [u8; NAME], secret: [u8; SECRET]) -> Option<Self> {
        // Drawn nonces of 96 bits may repeat after some 2^32 tickets of a key: at two a handshake
        // that is 50,000 handshakes a second, all the cluster's, for the whole of a rotation.
        let seals = RandomizedNonceKey::new(&AES_256_GCM, &secret).ok()?;
        Some(Self { name, secret: Zeroizing::new(secret), seals })
    }

    fn aad(&self) -> Aad<[u8; NAME]> {
        Aad::from(self.name)
    }
}

// === impl Tickets ===

impl Tickets {
    /// Tickets by the keys of `set`.
    pub fn new(set: KeySet) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Ring { set, sealing: 0 })))
    }

    /// The keys in use.
    pub fn keys(&self) -> KeySet {
        self.0.load().set.clone()
    }

    /// Uses the keys of `set` from now on; whether they are others than before. To be called again
    /// as time passes: the newest key does not seal at once.
    pub fn set(&self, set: &KeySet, now: u64) -> bool {
        let is_known = set.keys.len() == 1 || now >= set.made.saturating_add(LEAD.as_secs());
        let sealing = usize::from(!is_known);
        let before = self.0.load();
        let is_same = before.set.is(set);
        if !is_same || before.sealing != sealing {
            self.0.store(Arc::new(Ring { set: set.clone(), sealing }));
        }
        !is_same
    }

    /// What gives tickets out.
    pub fn ticketer(self: &Arc<Self>) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer(self.clone()))
    }
}

// === impl Ticketer ===

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // What is sealed at the end of a key's time is still opened for two rotations.
        u32::try_from(ROTATION.as_secs() * 2).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.0.0.load();
        let key = ring.set.keys.get(ring.sealing)?;
        let tag_bytes = AES_256_GCM.tag_len();
        let mut ticket = Vec::with_capacity(NAME + NONCE + plain.len() + tag_bytes);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&[0; NONCE]);
        ticket.extend_from_slice(plain);
        let aad = key.aad();
        let (head, body) = ticket.split_at_mut(NAME + NONCE);
        let (nonce, tag) = key.seals.seal_in_place_separate_tag(aad, body).ok()?;
        head[NAME..].copy_from_slice(nonce.as_ref());
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE)?;
        let ring = self.0.0.load();
        // Names are no secret: they stand in the ticket.
        let key = ring.set.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = key.seals.open_in_place(nonce, key.aad(), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 1_800_000_000;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let ours = Tickets::new(KeySet::fresh(DAY).unwrap()).ticketer();
        let ticket = ours.encrypt(b"session").unwrap();
        assert_eq!(ours.decrypt(&ticket).unwrap(), b"session");
        assert_ne!(ours.encrypt(b"session").unwrap(), ticket, "the nonce is new each time");
        for length in 0..ticket.len() {
            assert!(ours.decrypt(&ticket[..length]).is_none(), "cut to {length}");
        }
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert!(ours.decrypt(&broken).is_none(), "changed at {at}");
        }
        let others = Tickets::new(KeySet::fresh(DAY).unwrap()).ticketer();
        assert!(others.decrypt(&ticket).is_none());
    }

    #[test]
    fn old_keys_open_for_two_rotations_and_a_new_one_waits_to_be_known() {
        let mut set = KeySet::fresh(DAY).unwrap();
        let tickets = Tickets::new(set.clone());
        let ours = tickets.ticketer();
        let ticket = ours.encrypt(b"session").unwrap();
        for turn in 1..=KEPT as u64 {
            let now = DAY + turn * ROTATION.as_secs();
            assert!(set.is_due(now) && !set.is_due(now - 1));
            set = set.rotated(now).unwrap();
            assert!(tickets.set(&set, now));
            let newest = set.keys[0].name;
            assert_ne!(ours.encrypt(b"session").unwrap()[..NAME], newest, "others may not have it");
            assert!(!tickets.set(&set, now + LEAD.as_secs()));
            assert_eq!(ours.encrypt(b"session").unwrap()[..NAME], newest);
            assert_eq!(ours.decrypt(&ticket).is_some(), turn < KEPT as u64, "turn {turn}");
        }
    }

    #[test]
    fn travels_as_bytes_and_is_never_printed() {
        let set = KeySet::fresh(DAY).unwrap().rotated(DAY).unwrap();
        let bytes = set.to_bytes();
        let read = KeySet::from_bytes(DAY, &bytes).unwrap();
        assert!(read.is(&set));
        let ticket = Tickets::new(set.clone()).ticketer().encrypt(b"session").unwrap();
        assert!(Tickets::new(read).ticketer().decrypt(&ticket).is_some());
        assert!(KeySet::from_bytes(DAY, &bytes[1..]).is_none());
        assert!(KeySet::from_bytes(DAY, b"").is_none());
        assert_eq!(format!("{set:?}"), "KeySet(2 keys, made 1800000000)");
    }
}
