//! The `vars` language: conditions over variables, written as JSON arrays.
//!
//! `[["arg_name", "==", "json"], ["OR", [...], [...]]]` — a list is AND unless its first item
//! says `AND`, `OR`, `!AND` or `!OR`; a condition is name, operator, value, with `!` before the
//! operator to negate it, or name and value alone for `==`.
//!
//! Source: lua-resty-expr 1.3, as APISIX's `route.vars` and `_meta.filter` use it.

use serde_json::Value;

use super::operator::{EXPECTED, Operator};
use super::{Pin, Variable, Variables};
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

/// How the items of a list are joined.
#[derive(Clone, Copy)]
enum Join {
    All,
    Any,
    NotAll,
    NotAny,
}

const CONDITION: &str = "a condition: [name, operator, value] or [name, \"!\", operator, value]";
const LIST: &str = "a list of conditions, perhaps after AND, OR, !AND or !OR";

// === impl Expr ===

impl Expr {
    /// Compiles a list of conditions. An empty one holds always.
    ///
    /// # Errors
    /// The first item that is none, by path relative to the list.
    pub fn compile(list: &[Value]) -> Result<Self, Invalid> {
        let Some(first) = list.first() else {
            return Ok(Self(Node::All(Vec::new())));
        };
        if !first.is_array() && first.as_str().and_then(Join::of).is_none() {
            let expected = "a list of lists: a condition stands in brackets of its own";
            return Err(Invalid::new("", shown(list), expected));
        }
        compile(list, "").map(Self)
    }

    /// Whether the conditions hold. Those that come after the answer is clear are not looked at.
    pub fn matches(&self, variables: &dyn Variables) -> bool {
        self.0.matches(variables)
    }

    /// What has to be so for the conditions to hold, as far as it can be looked up: `==` and `in`
    /// with texts, numbers and booleans, over variables that the request's head tells. They may
    /// still not hold when it is.
    pub fn pins(&self) -> Vec<Pin> {
        let mut pins = Vec::new();
        self.0.pins(&mut pins);
        pins
    }
}

fn compile(list: &[Value], path: &str) -> Result<Node, Invalid> {
    let (join, skipped) = match list {
        [] => return Err(Invalid::new(path, "[]", LIST)),
        [Value::Array(_), ..] => (Join::All, 0),
        [Value::String(word), rest @ ..] => match Join::of(word) {
            None => return condition(list, path),
            Some(_) if rest.len() < 2 => {
                let expected = format!("two conditions or more after {word}");
                return Err(Invalid::new(path, shown(list), expected));
            }
            Some(join) => (join, 1),
        },
        [other, ..] => return Err(Invalid::new(format!("{path}/0"), other, LIST)),
    };
    let nodes = list.iter().enumerate().skip(skipped).map(|(index, item)| {
        let path = format!("{path}/{index}");
        match item.as_array() {
            Some(list) => compile(list, &path),
            None => Err(Invalid::new(path, item, CONDITION)),
        }
    });
    nodes.collect::<Result<_, _>>().map(|nodes| join.join(nodes))
}

fn condition(list: &[Value], path: &str) -> Result<Node, Invalid> {
    let at = |index: usize| format!("{path}/{index}");
    let (name, negated, index, operand) = match list {
        [name, word] if word.as_str().is_none_or(|word| !is_operator(word)) => {
            return equality(name, word, path);
        }
        [name, _] => (name, false, 1, &Value::Null),
        [name, _, operand] => (name, false, 1, operand),
        [name, not, _, operand] if not == "!" => (name, true, 2, operand),
        _ => return Err(Invalid::new(path, shown(list), CONDITION)),
    };
    let variable = variable(name, path)?;
    let operator = &list[index];
    let word = operator.as_str().unwrap_or_default();
    let Some(compiled) = Operator::new(word, operand) else {
        return Err(Invalid::new(at(index), operator, EXPECTED));
    };
    let (operator, inverse) =
        compiled.map_err(|expected| Invalid::new(at(index + 1), operand, expected))?;
    Ok(negate(Node::Condition(variable, operator), negated != inverse))
}

/// `["arg_name", "json"]`, which older versions of the language had for `==`.
fn equality(name: &Value, operand: &Value, path: &str) -> Result<Node, Invalid> {
    let variable = variable(name, path)?;
    match Operator::new("==", operand) {
        Some(Ok((operator, _))) => Ok(Node::Condition(variable, operator)),
        _ => Err(Invalid::new(path, operand, CONDITION)),
    }
}

fn variable(name: &Value, path: &str) -> Result<Variable, Invalid> {
    let path = format!("{path}/0");
    let Some(text) = name.as_str() else {
        return Err(Invalid::new(path, name, "the name of a variable"));
    };
    Variable::read(text).map_err(|expected| Invalid::new(path, name, expected))
}

fn is_operator(word: &str) -> bool {
    word == "!" || Operator::new(word, &Value::Null).is_some()
}

fn negate(node: Node, negated: bool) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}

fn shown(list: &[Value]) -> Value {
    Value::Array(list.to_vec())
}

// === impl Join ===

impl Join {
    fn of(word: &str) -> Option<Self> {
        match word.to_ascii_uppercase().as_str() {
            "AND" => Some(Self::All),
            "OR" => Some(Self::Any),
            "!AND" => Some(Self::NotAll),
            "!OR" => Some(Self::NotAny),
            _ => None,
        }
    }

    fn join(self, nodes: Vec<Node>) -> Node {
        match self {
            Self::All => Node::All(nodes),
            Self::Any => Node::Any(nodes),
            Self::NotAll => negate(Node::All(nodes), true),
            Self::NotAny => negate(Node::Any(nodes), true),
        }
    }
}

// === impl Node ===

impl Node {
    fn matches(&self, variables: &dyn Variables) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(variables)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(variables)),
            Self::Not(node) => !node.matches(variables),
            Self::Condition(name, operator) => operator.holds(variables.datum(name).as_ref()),
        }
    }

    fn pins(&self, pins: &mut Vec<Pin>) {
        match self {
            Self::All(nodes) => nodes.iter().for_each(|node| node.pins(pins)),
            Self::Condition(name, operator) if name.is_of_head() => {
                pins.extend(operator.keys().map(|keys| Pin::new(name, keys)));
            }
            Self::Condition(..) | Self::Any(_) | Self::Not(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
