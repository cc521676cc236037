//! The `vars` language: conditions over variables, written as JSON arrays.
//!
//! `[["arg_name", "==", "json"], ["OR", [...], [...]]]` — a list is AND unless its first item
//! says `AND`, `OR`, `!AND` or `!OR`; a condition is name, operator, value, with `!` before the
//! operator to negate it.
//!
//! Source: lua-resty-expr, as APISIX's `route.vars` and `_meta.filter` use it.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{Variable, Variables};
use crate::resource::Invalid;

/// A compiled condition.
#[derive(Debug, Clone)]
pub struct Expr(Node);

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Condition(Variable, Operator),
}

#[derive(Debug, Clone)]
enum Operator {
    Equal(Operand),
    Order(Order, Operand),
    Matches(Regex),
    In(Vec<Operand>),
    /// The variable is a list that holds this; the variables known here are text.
    Has(Operand),
    Address(Vec<IpNet>),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone)]
enum Operand {
    Nothing,
    Number(f64),
    Text(Box<str>),
}

// === impl Expr ===

impl Expr {
    /// Compiles a list of conditions.
    ///
    /// # Errors
    /// The first item that is none, by path relative to the list.
    pub fn compile(list: &[Value]) -> Result<Self, Invalid> {
        compile_list(list, "").map(Self)
    }

    /// Whether the conditions hold.
    pub fn matches(&self, variables: &dyn Variables) -> bool {
        self.0.matches(variables)
    }
}

fn compile_list(list: &[Value], path: &str) -> Result<Node, Invalid> {
    let word = list.first().and_then(Value::as_str);
    let (join, rest): (fn(Vec<Node>) -> Node, _) = match word {
        Some("AND") => (Node::All, &list[1..]),
        Some("OR") => (Node::Any, &list[1..]),
        Some("!AND") => (|nodes| Node::Not(Box::new(Node::All(nodes))), &list[1..]),
        Some("!OR") => (|nodes| Node::Not(Box::new(Node::Any(nodes))), &list[1..]),
        Some(_) => return condition(list, path),
        None => (Node::All, list),
    };
    let skipped = list.len() - rest.len();
    let nodes = rest.iter().enumerate().map(|(index, item)| {
        let path = format!("{path}/{}", index + skipped);
        match item.as_array() {
            Some(list) => compile_list(list, &path),
            None => Err(Invalid::new(path, item, "a condition: [name, operator, value]")),
        }
    });
    nodes.collect::<Result<_, _>>().map(join)
}

fn condition(list: &[Value], path: &str) -> Result<Node, Invalid> {
    let wrong = |at: usize, value: &Value, expected: &str| {
        Err(Invalid::new(format!("{path}/{at}"), value, expected))
    };
    let (negated, at) = match list.get(1) {
        Some(Value::String(word)) if word == "!" => (true, 2),
        _ => (false, 1),
    };
    let (Some(name), Some(operator)) = (list[0].as_str(), list.get(at)) else {
        let whole = Value::Array(list.to_vec());
        return Err(Invalid::new(path, whole, "a condition: [name, operator, value]"));
    };
    let value = list.get(at + 1).unwrap_or(&Value::Null);
    let mut invert = negated;
    let operator = match operator.as_str() {
        Some("==") => Operator::Equal(Operand::of(value)),
        Some("~=") => {
            invert = !invert;
            Operator::Equal(Operand::of(value))
        }
        Some(">") => Operator::Order(Order::Greater, Operand::of(value)),
        Some(">=") => Operator::Order(Order::GreaterOrEqual, Operand::of(value)),
        Some("<") => Operator::Order(Order::Less, Operand::of(value)),
        Some("<=") => Operator::Order(Order::LessOrEqual, Operand::of(value)),
        Some(word @ ("~~" | "~*")) => {
            let pattern = value.as_str().unwrap_or_default();
            let built = RegexBuilder::new(pattern).case_insensitive(word == "~*").build();
            match built {
                Ok(regex) if value.is_string() => Operator::Matches(regex),
                _ => return wrong(at + 1, value, "a regular expression"),
            }
        }
        Some("in") => match value.as_array() {
            Some(items) => Operator::In(items.iter().map(Operand::of).collect()),
            None => return wrong(at + 1, value, "a list of values"),
        },
        Some("has") => Operator::Has(Operand::of(value)),
        Some("ipmatch") => match networks(value) {
            Some(networks) => Operator::Address(networks),
            None => return wrong(at + 1, value, "addresses or CIDRs"),
        },
        _ => {
            let expected = "one of == ~= > >= < <= ~~ ~* in has ipmatch";
            return wrong(at, operator, expected);
        }
    };
    let node = Node::Condition(Variable::parse(name), operator);
    Ok(if invert { Node::Not(Box::new(node)) } else { node })
}

fn networks(value: &Value) -> Option<Vec<IpNet>> {
    let texts = match value {
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
        Value::String(text) => vec![text.as_str()],
        _ => return None,
    };
    let network =
        |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    texts.into_iter().map(network).collect()
}

// === impl Node ===

impl Node {
    fn matches(&self, variables: &dyn Variables) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(variables)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(variables)),
            Self::Not(node) => !node.matches(variables),
            Self::Condition(name, operator) => operator.matches(variables.get(name).as_deref()),
        }
    }
}

// === impl Operator ===

impl Operator {
    fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::Equal(operand) => operand.equals(value),
            Self::Order(order, operand) => value.is_some_and(|value| order.holds(value, operand)),
            Self::Matches(regex) => value.is_some_and(|value| regex.is_match(value)),
            Self::In(operands) => operands.iter().any(|operand| operand.equals(value)),
            Self::Has(operand) => operand.equals(value),
            Self::Address(networks) => value
                .and_then(|value| value.parse::<IpAddr>().ok())
                .is_some_and(|ip| networks.iter().any(|network| network.contains(&ip))),
        }
    }
}

// === impl Order ===

impl Order {
    /// Numbers compare as numbers when the operand is one, text as text otherwise.
    fn holds(self, value: &str, operand: &Operand) -> bool {
        let ordering = match operand {
            Operand::Nothing => None,
            Operand::Number(number) => {
                let value = value.parse::<f64>().ok();
                value.and_then(|value| value.partial_cmp(number))
            }
            Operand::Text(text) => Some(value.cmp(text)),
        };
        ordering.is_some_and(|ordering| match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        })
    }
}

// === impl Operand ===

impl Operand {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.as_str().into()),
            other => Self::Text(other.to_string().into()),
        }
    }

    fn equals(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::Nothing, None) => true,
            (Self::Number(number), Some(value)) => value.parse() == Ok(*number),
            (Self::Text(text), Some(value)) => **text == *value,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::*;

    struct Request;

    impl Variables for Request {
        fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
            match name {
                Variable::Arg(name) => match &**name {
                    "name" => Some("json".into()),
                    "age" => Some("18".into()),
                    _ => None,
                },
                Variable::RemoteAddr => Some("10.1.2.3".into()),
                _ => None,
            }
        }
    }

    fn check(vars: &Value) -> bool {
        Expr::compile(vars.as_array().unwrap()).unwrap().matches(&Request)
    }

    #[test]
    fn every_operator_holds_and_fails_as_it_should() {
        for (vars, expected) in [
            (json!([]), true),
            (json!([["arg_name", "==", "json"]]), true),
            (json!([["arg_name", "~=", "json"]]), false),
            (json!([["arg_absent", "~=", "json"]]), true),
            (json!([["arg_absent", "==", null]]), true),
            (json!([["arg_age", "==", 18]]), true),
            (json!([["arg_age", "==", "18.0"]]), false),
            (json!([["arg_age", ">", 9]]), true),
            (json!([["arg_age", "<", 9]]), false),
            (json!([["arg_age", ">=", 18], ["arg_age", "<=", 18]]), true),
            (json!([["arg_absent", "<", 9]]), false),
            (json!([["arg_name", "~~", "^j"]]), true),
            (json!([["arg_name", "~*", "JSON"]]), true),
            (json!([["arg_name", "~~", "JSON"]]), false),
            (json!([["arg_name", "!", "~~", "^x"]]), true),
            (json!([["arg_name", "in", ["xml", "json"]]]), true),
            (json!([["arg_age", "in", [18]]]), true),
            (json!([["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]]]), true),
            (json!([["remote_addr", "!", "ipmatch", "10.1.2.3"]]), false),
            (json!(["OR", ["arg_name", "==", "x"], ["arg_age", "==", "18"]]), true),
            (json!(["!OR", ["arg_name", "==", "x"], ["arg_age", "==", "18"]]), false),
            (json!(["!AND", ["arg_name", "==", "x"], ["arg_age", "==", "18"]]), true),
            (json!([["AND", ["arg_age", ">", 1], ["OR", ["arg_name", "==", "json"]]]]), true),
        ] {
            assert_eq!(check(&vars), expected, "{vars}");
        }
    }

    #[test]
    fn names_the_item_that_is_no_condition() {
        for (vars, path) in [
            (json!(["x"]), ""),
            (json!([["arg_a", "===", 1]]), "/0/1"),
            (json!([["arg_a", "~~", "("]]), "/0/2"),
            (json!([["OR", ["arg_a", "in", 5]]]), "/0/1/2"),
            (json!([["arg_a", "ipmatch", ["x"]]]), "/0/2"),
            (json!([7]), "/0"),
        ] {
            let refused = Expr::compile(vars.as_array().unwrap()).unwrap_err();
            assert_eq!(refused.path, path, "{vars}");
        }
    }
}
