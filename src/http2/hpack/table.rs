//! The dynamic table: the newest fields first, the oldest leave when it is full.
//!
//! Source: RFC 7541, sections 2.3.2 and 4.

use std::collections::VecDeque;

/// A dynamic table; what it keeps of a field is its owner's business.
pub(super) struct Table<T> {
    /// Each with the size that it counts, which is at least that of its overhead: so they are no
    /// more than an eighth of a kilobyte of [`Table::limit`] has bytes.
    entries: VecDeque<(usize, T)>,
    bytes: usize,
    limit: usize,
}

// === impl Table ===

impl<T> Table<T> {
    /// A table of at most `limit` bytes, empty.
    pub(super) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The entry that was put in after `age` others.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<&(usize, T)> {
        self.entries.get(age)
    }

    /// Puts in a field that counts `size`, and makes room for it. One that is larger than the
    /// table empties it and is not kept; that is no error (section 4.4).
    pub(super) fn insert(&mut self, size: usize, kept: T) {
        self.shrink(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.bytes += size;
            self.entries.push_front((size, kept));
        }
    }

    /// Sets how many bytes it may have (section 4.3).
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.shrink(limit);
    }

    /// The sizes of the entries, the newest first.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.entries.iter().map(|(size, _)| *size).collect()
    }

    fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            match self.entries.pop_back() {
                Some((size, _)) => self.bytes -= size,
                None => break,
            }
        }
    }
}
