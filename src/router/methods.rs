//! Sets of methods.

use http::Method;

/// The methods that routes can name, by the bit they have in a [`Methods`].
const NAMED: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];

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

    /// Whether a request with `method` is meant.
    pub fn has(self, method: &Method) -> bool {
        if self.0 == 0 {
            return true;
        }
        let bit = match *method {
            Method::GET => Some(0),
            Method::POST => Some(1),
            Method::PUT => Some(2),
            Method::DELETE => Some(3),
            _ => NAMED.iter().position(|named| *named == method.as_str()),
        };
        bit.is_some_and(|bit| self.0 & (1 << bit) != 0)
    }
}
