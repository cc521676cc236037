//! Candidates in order, in chunks that versions share.

use std::sync::Arc;

use smallvec::SmallVec;

use super::candidates::Candidate;
use super::matcher::Rank;

/// The greatest number of candidates that one change copies.
const CHUNK: usize = 64;

/// Candidates in order. There are as many of these as there are values to look up, and most of
/// them hold one.
pub(super) enum Sorted<T> {
    One(Candidate<T>),
    Chunks(SmallVec<[Arc<Vec<Candidate<T>>>; 1]>),
}

// === impl Sorted ===

impl<T> Sorted<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate<T>> {
        let (one, chunks) = match self {
            Self::One(one) => (Some(one), [].as_slice()),
            Self::Chunks(chunks) => (None, chunks.as_slice()),
        };
        one.into_iter().chain(chunks.iter().flat_map(|chunk| chunk.iter()))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Chunks(chunks) => chunks.iter().map(|chunk| chunk.len()).sum(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Chunks(chunks) if chunks.is_empty())
    }

    pub(super) fn insert(&mut self, candidate: Candidate<T>) {
        let chunks = match self {
            Self::Chunks(chunks) if chunks.is_empty() => {
                *self = Self::One(candidate);
                return;
            }
            Self::Chunks(chunks) => chunks,
            Self::One(one) => {
                let mut both = vec![one.clone(), candidate];
                both.sort_by(|one, other| one.rank().cmp(&other.rank()));
                *self = Self::Chunks([Arc::new(both)].into());
                return;
            }
        };
        let at = chunk_of(chunks, &candidate.rank()).min(chunks.len() - 1);
        let chunk = Arc::make_mut(&mut chunks[at]);
        let within = chunk.partition_point(|other| other.rank() < candidate.rank());
        chunk.insert(within, candidate);
        if chunk.len() > CHUNK {
            let second = chunk.split_off(CHUNK / 2);
            chunks.insert(at + 1, Arc::new(second));
        }
    }

    /// Whether there was one of that rank.
    pub(super) fn remove(&mut self, rank: &Rank<'_>) -> bool {
        let chunks = match self {
            Self::One(one) if one.rank() == *rank => {
                *self = Self::default();
                return true;
            }
            Self::One(_) => return false,
            Self::Chunks(chunks) => chunks,
        };
        let at = chunk_of(chunks, rank);
        let Some(chunk) = chunks.get_mut(at) else {
            return false;
        };
        let Ok(within) = chunk.binary_search_by(|other| other.rank().cmp(rank)) else {
            return false;
        };
        Arc::make_mut(chunk).remove(within);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        true
    }
}

/// The first chunk that does not end before `rank`.
fn chunk_of<T>(chunks: &[Arc<Vec<Candidate<T>>>], rank: &Rank<'_>) -> usize {
    chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.rank() < *rank))
}

// Derived implementations would ask for `T: Clone`, which sharing does not need.
impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        match self {
            Self::One(one) => Self::One(one.clone()),
            Self::Chunks(chunks) => Self::Chunks(chunks.clone()),
        }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self::Chunks(SmallVec::new())
    }
}
