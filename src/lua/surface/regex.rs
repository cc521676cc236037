//! `ngx.re` over Rust's regex crate: time linear in the subject, no look-around, no
//! back-references.

use std::cell::RefCell;
use std::collections::HashMap;

use mlua::{LuaString, MultiValue, Table, Value};
use regex::bytes::{Regex, RegexBuilder};

use super::Host;

/// Expressions that are kept compiled; a function may make up any number of them.
const MOST: usize = 256;

/// Expressions that this state has met, by pattern and options.
#[derive(Default)]
struct Known(RefCell<HashMap<Written, Expression>>);

/// Pattern and options.
type Written = (Box<[u8]>, Box<[u8]>);

#[derive(Clone)]
struct Expression {
    regex: Regex,
    /// Option `a`: the match begins where it is looked for.
    is_anchored: bool,
}

pub(super) fn register(host: &Host<'_>) -> mlua::Result<()> {
    let known = Known::default();
    // Gives the groups and where the match lies (from 1, its end included), nothing where there is
    // none, or a last value that says what is wrong with the pattern.
    host.add(
        "match",
        move |lua, (subject, pattern, options, from): (LuaString, LuaString, LuaString, usize)| {
            let Expression { regex, is_anchored } = match known.get(&pattern, &options) {
                Ok(expression) => expression,
                Err(wrong) => {
                    let wrong = Value::String(lua.create_string(wrong)?);
                    return Ok(MultiValue::from_iter([Value::Nil, Value::Nil, Value::Nil, wrong]));
                }
            };
            let subject = subject.as_bytes();
            let start = from.saturating_sub(1);
            // An anchor is the beginning of what is looked at, so no more of it is shown.
            let hidden = if is_anchored { start } else { 0 };
            let shown = subject.get(hidden..).filter(|_| start <= subject.len());
            let found = shown.and_then(|shown| regex.captures_at(shown, start - hidden));
            let Some(found) = found else {
                return Ok(MultiValue::new());
            };
            let groups = lua.create_table_with_capacity(found.len(), 1)?;
            for (index, (group, name)) in found.iter().zip(regex.capture_names()).enumerate() {
                let text = match group {
                    Some(group) => Value::String(lua.create_string(group.as_bytes())?),
                    None => Value::Boolean(false),
                };
                set(&groups, name, &text)?;
                groups.raw_set(index, text)?;
            }
            let whole = found.get(0).map_or((0, 0), |whole| (whole.start(), whole.end()));
            let place = |at: usize| Value::Number((hidden + at) as f64);
            let values = [Value::Table(groups), place(whole.0 + 1), place(whole.1)];
            Ok(MultiValue::from_iter(values))
        },
    )
}

fn set(groups: &Table, name: Option<&str>, text: &Value) -> mlua::Result<()> {
    name.map_or(Ok(()), |name| groups.raw_set(name, text))
}

// === impl Known ===

impl Known {
    fn get(&self, pattern: &LuaString, options: &LuaString) -> Result<Expression, String> {
        let (pattern, options) = (pattern.as_bytes(), options.as_bytes());
        let key: Written = (Box::from(&*pattern), Box::from(&*options));
        let mut known = self.0.borrow_mut();
        if let Some(expression) = known.get(&key) {
            return Ok(expression.clone());
        }
        if known.len() >= MOST {
            known.clear();
        }
        let expression = compile(&pattern, &options)?;
        known.insert(key, expression.clone());
        Ok(expression)
    }
}

/// Compiles a pattern with the options of `ngx.re`; those that tell PCRE how to be fast mean
/// nothing here.
fn compile(pattern: &[u8], options: &[u8]) -> Result<Expression, String> {
    let pattern = String::from_utf8_lossy(pattern);
    let has = |option: u8| options.contains(&option);
    let is_anchored = has(b'a');
    let anchored = is_anchored.then(|| format!(r"\A(?:{pattern})"));
    let regex = RegexBuilder::new(anchored.as_deref().unwrap_or(&pattern))
        .unicode(has(b'u') || has(b'U'))
        .case_insensitive(has(b'i'))
        .multi_line(has(b'm'))
        .dot_matches_new_line(has(b's'))
        .ignore_whitespace(has(b'x'))
        .build()
        .map_err(|error| format!("not an expression of Rust's regex crate: {error}"))?;
    Ok(Expression { regex, is_anchored })
}
