//! The values of variables with their types, which follow Lua's: what APISIX compares.

use std::borrow::Cow;

use serde_json::Value;

/// A value of a variable.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum<'v> {
    Text(Cow<'v, str>),
    Number(f64),
    Bool(bool),
    /// JSON's `null`, which is a value; a variable without one is `None`.
    Null,
    List(Vec<Self>),
    /// Something that has members.
    Object,
}

// === impl Datum ===

impl<'v> Datum<'v> {
    /// The value as a number, where it is one or a text that spells one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => number(text),
            Self::Bool(_) | Self::Null | Self::List(_) | Self::Object => None,
        }
    }
}

impl<'v> From<&'v Value> for Datum<'v> {
    fn from(value: &'v Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(is) => Self::Bool(*is),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(_) => Self::Object,
        }
    }
}

/// The number that `text` spells: decimal, with a fraction and an exponent perhaps, or hexadecimal
/// after `0x`; white space around it does not count.
///
/// Source: Lua's `tonumber`.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim_ascii();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(digits) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        // `from_str_radix` would take a second sign.
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
        return parsed.map(|number| sign * number as f64);
    }
    // `parse` takes words such as `infinity` too.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    digits.parse::<f64>().ok().map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_lua_does() {
        for (text, expected) in [
            ("18", Some(18.0)),
            (" 18\t", Some(18.0)),
            ("-1.5e2", Some(-150.0)),
            ("+.5", Some(0.5)),
            ("0x10", Some(16.0)),
            ("-0XfF", Some(-255.0)),
            ("", None),
            ("0x", None),
            ("0x+1", None),
            ("--1", None),
            ("1a", None),
            ("inf", None),
            ("nan", None),
            ("1 2", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
