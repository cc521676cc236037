//! One table of counters for the rate limits of the process, without a lock. A limit may have one
//! [`Slot`] of its own besides.
//!
//! A counter is a 64-bit hash of whose it is and a packed window: end and count. The table has a
//! fixed size, as APISIX's shared dictionary has; when a neighbourhood is full of live windows,
//! the one that ends first makes room.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

/// Counters in the table: 16 bytes each.
const SLOTS: usize = 1 << 20;

/// How far from its home slot a counter may live.
const NEIGHBOURHOOD: usize = 16;

/// Bits of a packed window that hold the count; the others hold its end in milliseconds since
/// the table was made, which lasts for two years, and a count of up to 268 million.
const COUNT_BITS: u32 = 28;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const END_MAX: u64 = (1 << (64 - COUNT_BITS)) - 1;

/// The table.
pub struct Counters {
    /// Made with the first counter: a node that limits nothing does not pay for the table.
    slots: LazyLock<Box<[Slot]>>,
    hasher: SeedableRandomState,
    epoch: Instant,
}

/// Whose counter it is: a hash that outsiders cannot aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// The owner as a part of another owner's name.
    pub fn as_key(self) -> u64 {
        self.0
    }
}

/// A counter after it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What has been counted in this window, this time included.
    pub count: u64,
    /// Until the window ends.
    pub reset: Duration,
}

/// What the hashes of owners begin with, as random as the system's: clients choose what is hashed,
/// and one that knew this could aim at the counter of another.
static SEED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));

/// Where a counter is: in the table, or apart as that of whoever comes first, for good.
#[derive(Default)]
pub struct Slot {
    owner: AtomicU64,
    window: AtomicU64,
}

// === impl Counters ===

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            slots: LazyLock::new(|| std::iter::repeat_with(Slot::default).take(SLOTS).collect()),
            hasher: SeedableRandomState::with_seed(random(), &SEED),
            epoch: Instant::now(),
        }
    }

    /// The owner that `parts` name together.
    pub fn owner(&self, parts: impl std::hash::Hash) -> Owner {
        // Zero marks a free slot.
        Owner(self.hasher.hash_one(parts).max(1))
    }

    /// The time of `at` on the table's clock: what windows are aligned to.
    pub fn clock(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Adds `cost` to the owner's counter; a window that is over, or was never opened, opens at
    /// `at` and lasts `window`.
    pub fn add(&self, owner: Owner, cost: u64, window: Duration, at: Instant) -> Count {
        let now = self.now(at);
        count_in(self.slot(owner, now), cost, window, now)
    }

    /// As [`Counters::add`], but in `own` if that is the owner's, or nobody's until now: whoever has
    /// one counter needs none of the table, which is seldom at hand where there are many.
    pub fn add_in(
        &self,
        own: &Slot,
        owner: Owner,
        cost: u64,
        window: Duration,
        at: Instant,
    ) -> Count {
        let now = self.now(at);
        let first = match own.owner.load(Ordering::Relaxed) {
            0 => own.owner.compare_exchange(0, owner.0, Ordering::Relaxed, Ordering::Relaxed),
            other => Err(other),
        };
        let is_owners = first.is_ok() || first == Err(owner.0);
        count_in(if is_owners { own } else { self.slot(owner, now) }, cost, window, now)
    }

    /// The milliseconds of `at`.
    fn now(&self, at: Instant) -> u64 {
        millis(self.clock(at)).min(END_MAX)
    }

    /// The owner's counter as it is, zero when its window is over.
    pub fn get(&self, owner: Owner, at: Instant) -> Count {
        let now = self.now(at);
        let found =
            self.neighbourhood(owner).find(|slot| slot.owner.load(Ordering::Relaxed) == owner.0);
        match found.map(|slot| slot.window.load(Ordering::Relaxed)) {
            Some(packed) if unpack(packed).0 > now => seen(packed, now),
            _ => Count { count: 0, reset: Duration::ZERO },
        }
    }

    fn neighbourhood(&self, owner: Owner) -> impl Iterator<Item = &Slot> {
        let home = owner.0 as usize;
        (0..NEIGHBOURHOOD).map(move |step| &self.slots[(home + step) % SLOTS])
    }

    /// The owner's slot; a free one, or the one that ends first, becomes it when there is none.
    fn slot(&self, owner: Owner, now: u64) -> &Slot {
        loop {
            let mut victim: Option<(&Slot, u64, u64)> = None;
            for slot in self.neighbourhood(owner) {
                let other = slot.owner.load(Ordering::Relaxed);
                if other == owner.0 {
                    return slot;
                }
                let (end, _) = unpack(slot.window.load(Ordering::Relaxed));
                // Windows that are over count as ending now, so that the first of them wins and
                // racing threads agree on it.
                let end = end.max(now);
                if victim.is_none_or(|(_, _, best)| end < best) {
                    victim = Some((slot, other, end));
                }
            }
            let Some((slot, other, end)) = victim else {
                // A neighbourhood is never empty.
                return &self.slots[0];
            };
            let claimed =
                slot.owner.compare_exchange(other, owner.0, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() {
                if end > now {
                    slot.window.store(0, Ordering::Relaxed);
                }
                return slot;
            }
        }
    }
}

/// Adds to what is counted there.
fn count_in(slot: &Slot, cost: u64, window: Duration, now: u64) -> Count {
    let mut packed = slot.window.load(Ordering::Relaxed);
    loop {
        let (end, count) = unpack(packed);
        let next = if end <= now {
            (now.saturating_add(millis(window).max(1)).min(END_MAX), cost)
        } else {
            (end, count.saturating_add(cost))
        };
        let next = pack(next.0, next.1);
        let swapped =
            slot.window.compare_exchange_weak(packed, next, Ordering::Relaxed, Ordering::Relaxed);
        match swapped {
            Ok(_) => return seen(next, now),
            Err(current) => packed = current,
        }
    }
}

fn seen(packed: u64, now: u64) -> Count {
    let (end, count) = unpack(packed);
    Count { count, reset: Duration::from_millis(end - now) }
}

/// A number of the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

fn pack(end: u64, count: u64) -> u64 {
    (end << COUNT_BITS) | count.min(COUNT_MAX)
}

fn unpack(packed: u64) -> (u64, u64) {
    (packed >> COUNT_BITS, packed & COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn counts_within_a_window_and_starts_anew_after_it() {
        let counters = Counters::new();
        let owner = counters.owner(("routes/1", "10.0.0.1"));
        let start = Instant::now();
        assert_eq!(counters.add(owner, 1, MINUTE, start).count, 1);
        let later = start + Duration::from_secs(30);
        let second = counters.add(owner, 2, MINUTE, later);
        assert_eq!(second.count, 3);
        assert_eq!(second.reset, Duration::from_secs(30));
        assert_eq!(counters.get(owner, later).count, 3);
        let after = start + Duration::from_secs(61);
        assert_eq!(counters.get(owner, after).count, 0);
        assert_eq!(counters.add(owner, 1, MINUTE, after).count, 1);
    }

    #[test]
    fn owners_do_not_share_counters() {
        let counters = Counters::new();
        let now = Instant::now();
        for client in 0..1000 {
            let owner = counters.owner(("routes/1", client));
            assert_eq!(counters.add(owner, 1, MINUTE, now).count, 1);
        }
        assert_eq!(counters.get(counters.owner(("routes/1", 7)), now).count, 1);
    }

    #[test]
    fn the_first_owner_has_the_counter_apart_and_others_the_table() {
        let (counters, own, now) = (Counters::new(), Slot::default(), Instant::now());
        let (first, other) = (counters.owner("first"), counters.owner("other"));
        for count in 1..=3 {
            assert_eq!(counters.add_in(&own, first, 1, MINUTE, now).count, count);
            assert_eq!(counters.add_in(&own, other, 1, MINUTE, now).count, count);
        }
        assert_eq!((counters.get(first, now).count, counters.get(other, now).count), (0, 3));
        let after = now + MINUTE;
        assert_eq!(counters.add_in(&own, first, 1, MINUTE, after).count, 1);
        // The end of its window does not make it another's.
        assert_eq!(counters.add_in(&own, other, 1, MINUTE, after).count, 1);
        assert_eq!(counters.add_in(&own, first, 1, MINUTE, after).count, 2);
    }

    #[test]
    fn loses_no_count_when_threads_race() {
        let counters = Counters::new();
        let now = Instant::now();
        let owner = counters.owner("shared");
        // The counter exists before the race: its creation is the one step that may count twice.
        counters.add(owner, 0, MINUTE, now);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counters.add(owner, 1, MINUTE, now);
                    }
                });
            }
        });
        assert_eq!(counters.get(owner, now).count, 40_000);
    }

    #[test]
    fn a_full_neighbourhood_gives_up_the_window_that_ends_first() {
        let counters = Counters::new();
        let now = Instant::now();
        for step in 0..NEIGHBOURHOOD as u64 {
            let window = Duration::from_secs(100 + step);
            counters.add(Owner(5 + step * SLOTS as u64), 1, window, now);
        }
        let newcomer = Owner(5 + 99 * SLOTS as u64);
        assert_eq!(counters.add(newcomer, 1, MINUTE, now).count, 1);
        assert_eq!(counters.get(Owner(5), now).count, 0);
        assert_eq!(counters.get(Owner(5 + SLOTS as u64), now).count, 1);
    }
}
