//! Failed logins by peer: who guesses keys has to wait.
//!
//! Each peer may fail a number of times in a row and gets one back every so often. While it has
//! none, its guesses tell it nothing: `auth` says who is admitted all the same.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures that a peer may have in a row.
const MOST: u32 = 10;

/// How long until one of them is forgotten.
const EACH: Duration = Duration::from_secs(2);

/// Peers that are remembered; beyond that those whose failures are the oldest are forgotten.
const PEERS: usize = 4096;

/// Failures by peer: when all of them will be forgotten.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Instant>>);

// === impl Attempts ===

impl Attempts {
    /// Whether `peer` may try a key at `now`.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn may_try(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let free = self.lock().get(&network(peer)).copied().unwrap_or(now);
        let pause = free.saturating_duration_since(now);
        let room = EACH * (MOST - 1);
        if pause > room { Err(pause - room) } else { Ok(()) }
    }

    /// Notes a failure; returns whether it was the last that `peer` may have for now.
    pub(super) fn failed(&self, peer: IpAddr, now: Instant) -> bool {
        let mut peers = self.lock();
        if peers.len() >= PEERS {
            peers.retain(|_, free| *free > now);
            let oldest = peers.iter().min_by_key(|(_, free)| **free).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest.filter(|_| peers.len() >= PEERS) {
                peers.remove(&oldest);
            }
        }
        let free = peers.entry(network(peer)).or_insert(now);
        *free = (*free).max(now) + EACH;
        free.saturating_duration_since(now) > EACH * (MOST - 1)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has one IPv6 address has the other 2^64 of its network.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let bits = ip.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_a_peer_fail_so_often_and_then_now_and_then() {
        let attempts = Attempts::default();
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let start = Instant::now();
        for number in 1..=MOST {
            attempts.may_try(peer, start).unwrap();
            assert_eq!(attempts.failed(peer, start), number == MOST);
        }
        assert_eq!(attempts.may_try(peer, start), Err(EACH));
        attempts.may_try("192.0.2.2".parse().unwrap(), start).unwrap();
        attempts.may_try(peer, start + EACH).unwrap();
        attempts.failed(peer, start + EACH);
        assert_eq!(attempts.may_try(peer, start + EACH), Err(EACH));
        attempts.may_try(peer, start + EACH * 30).unwrap();
    }

    #[test]
    fn takes_a_network_of_ipv6_for_one_peer_and_remembers_so_many() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for number in 0..MOST {
            attempts.failed(format!("2001:db8::{number}").parse().unwrap(), now);
        }
        assert!(attempts.may_try("2001:db8::ffff".parse().unwrap(), now).is_err());
        attempts.may_try("2001:db8:0:1::1".parse().unwrap(), now).unwrap();
        for number in 0..10_000_u32 {
            attempts.failed(IpAddr::V4(number.into()), now);
        }
        assert!(attempts.lock().len() <= PEERS);
        assert!(attempts.may_try("2001:db8::ffff".parse().unwrap(), now).is_err());
    }
}
