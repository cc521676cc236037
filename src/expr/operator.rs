//! What a condition says of a variable's value.
//!
//! Values compare as they do in Lua: a number is compared with a text that spells one by `==`,
//! `~=`, `>` and their like, and by nothing else; types are never the same otherwise. A variable
//! without a value equals `null` and satisfies no other operator.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::datum::{Datum, number};
use super::pattern::Pattern;
use super::pin::Key;

/// Names of the operators, for those who wrote another one.
pub(super) const EXPECTED: &str = "one of == ~= > >= < <= ~~ ~* in has ipmatch";

/// A compiled operator with its operand.
#[derive(Debug, Clone)]
pub(super) enum Operator {
    Equal(Operand),
    /// `None` where the operand is no number: nothing is above or below it.
    Order(Order, Option<f64>),
    Matches(Pattern),
    /// The value is one of these.
    In(Vec<Operand>),
    /// The value is a list, and this is in it.
    Has(Operand),
    /// The value is an address in one of these networks.
    Address(Vec<IpNet>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// What a value is compared with.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Null,
    Number(f64),
    Text(Box<str>),
    Bool(bool),
    /// A list or an object, which nothing equals.
    Other,
}

// === impl Operator ===

impl Operator {
    /// The operator called `word`, in any case, and whether it is meant the other way round.
    /// `None` where there is none of that name.
    ///
    /// # Errors
    /// What `operand` should be instead.
    pub(super) fn new(word: &str, operand: &Value) -> Option<Result<(Self, bool), String>> {
        let plain = |operator| Some(Ok((operator, false)));
        let order = |order| plain(Self::Order(order, Operand::of(operand).as_number()));
        match word.to_ascii_lowercase().as_str() {
            "==" => plain(Self::Equal(Operand::of(operand))),
            "~=" => Some(Ok((Self::Equal(Operand::of(operand)), true))),
            ">" => order(Order::Greater),
            ">=" => order(Order::GreaterOrEqual),
            "<" => order(Order::Less),
            "<=" => order(Order::LessOrEqual),
            "~~" => Some(pattern(operand, false).map(|pattern| (Self::Matches(pattern), false))),
            "~*" => Some(pattern(operand, true).map(|pattern| (Self::Matches(pattern), false))),
            "in" => Some(match operand.as_array() {
                Some(items) => Ok((Self::In(items.iter().map(Operand::of).collect()), false)),
                None => Err("a list of values".to_owned()),
            }),
            "has" => plain(Self::Has(Operand::of(operand))),
            "ipmatch" => Some(match networks(operand) {
                Some(networks) => Ok((Self::Address(networks), false)),
                None => Err("an IP address or a CIDR, or a list of them".to_owned()),
            }),
            _ => None,
        }
    }

    /// Whether `value` is as the operator says.
    pub(super) fn holds(&self, value: Option<&Datum<'_>>) -> bool {
        match self {
            Self::Equal(operand) => operand.equals(value),
            Self::Order(order, operand) => {
                let number = value.and_then(Datum::as_number);
                number.zip(*operand).is_some_and(|(value, operand)| order.holds(value, operand))
            }
            Self::Matches(pattern) => match value {
                Some(Datum::Text(text)) => pattern.is_match(text),
                Some(Datum::Number(number)) => pattern.is_match(&number.to_string()),
                Some(Datum::Bool(true)) => pattern.is_match("true"),
                _ => false,
            },
            Self::In(operands) => {
                value.is_some_and(|value| operands.iter().any(|operand| operand.is(value)))
            }
            Self::Has(Operand::Null) => false,
            Self::Has(operand) => match value {
                Some(Datum::List(items)) => items.iter().any(|item| operand.is(item)),
                _ => false,
            },
            Self::Address(networks) => match value {
                Some(Datum::Text(text)) => text.parse::<IpAddr>().is_ok_and(|ip| {
                    let ip = ip.to_canonical();
                    networks.iter().any(|network| network.contains(&ip))
                }),
                _ => false,
            },
        }
    }

    /// The keys of the values that it holds for; `None` where there are others too.
    pub(super) fn keys(&self) -> Option<Vec<u64>> {
        let operands = match self {
            Self::Equal(operand) => std::slice::from_ref(operand),
            Self::In(operands) => operands,
            _ => return None,
        };
        operands.iter().map(|operand| operand.key().map(|key| key.hash())).collect()
    }
}

fn pattern(operand: &Value, ignores_case: bool) -> Result<Pattern, String> {
    let pattern = match operand {
        Value::String(text) => Pattern::new(text, ignores_case),
        Value::Number(number) => Pattern::new(&number.to_string(), ignores_case),
        _ => return Err("a regular expression".to_owned()),
    };
    pattern.map_err(|why| format!("a regular expression ({why})"))
}

fn networks(operand: &Value) -> Option<Vec<IpNet>> {
    let texts = match operand {
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
        Value::String(text) => vec![text.as_str()],
        _ => return None,
    };
    let network =
        |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let networks: Option<Vec<IpNet>> = texts.into_iter().map(network).collect();
    networks.filter(|networks| !networks.is_empty())
}

// === impl Order ===

impl Order {
    fn holds(self, value: f64, operand: f64) -> bool {
        match self {
            Self::Greater => value > operand,
            Self::GreaterOrEqual => value >= operand,
            Self::Less => value < operand,
            Self::LessOrEqual => value <= operand,
        }
    }
}

// === impl Operand ===

impl Operand {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Bool(is) => Self::Bool(*is),
            Value::Array(_) | Value::Object(_) => Self::Other,
        }
    }

    /// `None` where a variable without a value may equal it, or nothing does.
    fn key(&self) -> Option<Key<'_>> {
        match self {
            Self::Text(text) => Some(Key::Text(text)),
            Self::Number(number) => Some(Key::number(*number)),
            Self::Bool(is) => Some(Key::Bool(*is)),
            Self::Null | Self::Other => None,
        }
    }

    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => number(text),
            Self::Null | Self::Bool(_) | Self::Other => None,
        }
    }

    /// As `==` has it.
    fn equals(&self, value: Option<&Datum<'_>>) -> bool {
        match (self, value) {
            // JSON's `null` in a body is a value.
            (Self::Null, value) => value.is_none(),
            (Self::Number(number), Some(value)) => value.as_number() == Some(*number),
            (_, Some(value)) => self.is(value),
            (_, None) => false,
        }
    }

    /// Whether they are the same, types and all: as items of lists are.
    fn is(&self, value: &Datum<'_>) -> bool {
        match (self, value) {
            (Self::Text(operand), Datum::Text(text)) => **operand == **text,
            (Self::Number(operand), Datum::Number(number)) => operand == number,
            (Self::Bool(operand), Datum::Bool(is)) => operand == is,
            (Self::Null, Datum::Null) => true,
            _ => false,
        }
    }
}
