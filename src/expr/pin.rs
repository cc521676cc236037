//! What conditions demand of a variable by `==` and `in`: what routes can be looked up by.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{Datum, Variable};

/// A variable that has to have one of a few values for conditions to hold.
///
/// Values stand here by keys, numbers that equal values share and others may: what is found by
/// them still has to be asked.
#[derive(Debug, Clone)]
pub struct Pin {
    pub variable: Variable,
    /// In order, none twice.
    keys: Box<[u64]>,
}

/// What a value is known by.
#[derive(Hash)]
pub(super) enum Key<'k> {
    Text(&'k str),
    Number(u64),
    Bool(bool),
}

// === impl Pin ===

impl Pin {
    pub(super) fn new(variable: &Variable, keys: impl IntoIterator<Item = u64>) -> Self {
        let mut keys: Vec<u64> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self { variable: variable.clone(), keys: keys.into() }
    }

    /// The keys of the values.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The keys under which a value is found that a variable has: a text that spells a number also
    /// equals that number. None for a value that nothing equals.
    pub fn keys_of(value: &Datum<'_>) -> SmallVec<[u64; 2]> {
        let kept = match value {
            Datum::Text(text) => Some(Key::Text(text)),
            Datum::Bool(is) => Some(Key::Bool(*is)),
            Datum::Number(_) | Datum::Null | Datum::List(_) | Datum::Object => None,
        };
        let number = value.as_number().map(Key::number);
        kept.into_iter().chain(number).map(|key| key.hash()).collect()
    }
}

// === impl Key ===

impl Key<'_> {
    pub(super) fn number(number: f64) -> Self {
        // The two zeros are equal.
        Self::Number((number + 0.0).to_bits())
    }

    /// Only config is indexed, so a client that makes its value collide is asked about once more.
    pub(super) fn hash(&self) -> u64 {
        FixedState::default().hash_one(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::expr::Expr;

    fn check(condition: Value, value: Option<Datum<'_>>, expected: &[bool]) {
        let expr = Expr::compile(std::slice::from_ref(&condition)).unwrap();
        let found = value.map(|value| Pin::keys_of(&value)).unwrap_or_default();
        let pins = expr.pins();
        let is_found = pins.iter().map(|pin| found.iter().any(|key| pin.keys().contains(key)));
        assert_eq!(is_found.collect::<Vec<_>>(), expected, "{condition}");
    }

    fn text(text: &str) -> Option<Datum<'_>> {
        Some(Datum::Text(text.into()))
    }

    #[test]
    fn finds_what_equals() {
        check(json!(["arg_a", "==", "1"]), text("1"), &[true]);
        check(json!(["arg_a", "==", "1"]), text("1.0"), &[false]);
        check(json!(["arg_a", "==", 1]), text(" 0x1 "), &[true]);
        check(json!(["arg_a", "==", 0]), text("-0"), &[true]);
        check(json!(["arg_a", "==", true]), Some(Datum::Bool(true)), &[true]);
        check(json!(["arg_a", "==", true]), text("true"), &[false]);
        check(json!(["arg_a", "in", ["x", "1"]]), text("1"), &[true]);
        check(json!(["arg_a", "in", []]), text("1"), &[false]);
        check(json!(["arg_a", "==", "1"]), None, &[false]);
        let both = json!([["arg_a", "==", "1"], ["http_b", "==", "2"]]);
        check(both, text("2"), &[false, true]);
    }

    #[test]
    fn leaves_out_what_it_cannot_find() {
        for condition in [
            json!(["arg_a", "==", null]),
            json!(["arg_a", "==", []]),
            json!(["arg_a", "in", ["1", null]]),
            json!(["arg_a", "~=", "1"]),
            json!(["arg_a", "!", "in", ["1"]]),
            json!(["arg_a", "~~", "1"]),
            json!(["OR", ["arg_a", "==", "1"], ["arg_a", "==", "2"]]),
            // A body is read only where a condition comes to it; others have no value yet.
            json!(["post_arg_a", "==", "1"]),
            json!(["graphql_name", "==", "1"]),
            json!(["something", "==", "1"]),
            json!(["request_time", "==", "1"]),
        ] {
            check(condition, text("1"), &[]);
        }
    }
}
