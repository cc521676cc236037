//! Sets of methods.

use http::Method;

/// The methods that routes can name, by the bit they have in a [`Methods`].
const NAMED: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];

/// Stands for every method that routes cannot name.
const OTHER: u16 = 1 << NAMED.len();

/// A set of methods; the empty set stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Methods(u16);

// === impl Methods ===

impl Methods {
    /// The set of `names`; names that routes cannot use are left out.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let bit = |name: &str| NAMED.iter().position(|named| *named == name);
        let bits = names.into_iter().filter_map(bit);
        Self(bits.fold(0, |set, bit| set | 1 << bit))
    }

    /// The set of just `method`, which may be one that routes cannot name.
    pub fn of(method: &Method) -> Self {
        let bit = match *method {
            Method::GET => Some(0),
            Method::POST => Some(1),
            Method::PUT => Some(2),
            Method::DELETE => Some(3),
            _ => NAMED.iter().position(|named| *named == method.as_str()),
        };
        Self(bit.map_or(OTHER, |bit| 1 << bit))
    }

    /// Whether both sets have a method in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 == 0 || other.0 == 0 || self.0 & other.0 != 0
    }

    /// Whether a request with `method` is meant.
    pub fn has(self, method: &Method) -> bool {
        self.meets(Self::of(method))
    }

    /// The names of the set, none for all.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let is_in = move |(bit, _): &(usize, &&str)| self.0 & (1 << bit) != 0;
        NAMED.iter().enumerate().filter(is_in).map(|(_, name)| *name)
    }
}
