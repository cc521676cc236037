//! `string.find`, `match`, `gmatch` and `gsub`, over the room's own patterns.

use std::cell::Cell;
use std::rc::Rc;

use memchr::memmem;
use mlua::{Error, Function, IntoLuaMulti as _, Lua, LuaString, MultiValue, Table, Value};

use super::Host;
use super::pattern::{Captured, Matcher};
use crate::lua::watch::Watch;

/// What a match is replaced with.
enum Replacement {
    Text(LuaString),
    Table(Table),
    Function(Function),
}

type Searched = (LuaString, LuaString, Option<i64>, Option<bool>);

pub(super) fn register(host: &Host<'_>, watch: &Rc<Watch>) -> mlua::Result<()> {
    let for_find = watch.clone();
    host.add("string_find", move |lua, (subject, pattern, init, plain): Searched| {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let start = start(subject.len(), init);
        let is_special = |byte: &u8| b"^$*+?.([%-".contains(byte);
        if plain == Some(true) || !pattern.iter().any(is_special) {
            let found = memmem::find(&subject[start..], &pattern);
            let found = found.map(|at| (start + at + 1, start + at + pattern.len()));
            return found.map_or_else(nothing, |(first, last)| (first, last).into_lua_multi(lua));
        }
        let (pattern, is_anchored) = anchor(&pattern);
        let mut matcher = Matcher::new(&subject, pattern, &for_find);
        let Some((first, end)) = matcher.find(start, is_anchored)? else {
            return nothing();
        };
        let place = |at: usize| Value::Number(at as f64);
        let mut values = vec![place(first + 1), place(end)];
        values.extend(captures(lua, &matcher, None)?);
        Ok(MultiValue::from_vec(values))
    })?;
    let for_match = watch.clone();
    host.add("string_match", move |lua, (subject, pattern, init, _): Searched| {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let (pattern, is_anchored) = anchor(&pattern);
        let mut matcher = Matcher::new(&subject, pattern, &for_match);
        match matcher.find(start(subject.len(), init), is_anchored)? {
            Some(whole) => captures(lua, &matcher, Some(whole)).map(MultiValue::from_vec),
            None => nothing(),
        }
    })?;
    let for_gmatch = watch.clone();
    host.add("string_gmatch", move |lua, (subject, pattern): (LuaString, LuaString)| {
        let (watch, from) = (for_gmatch.clone(), Cell::new(0));
        lua.create_function(move |lua, ()| {
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            if from.get() > subject.len() {
                return nothing();
            }
            let mut matcher = Matcher::new(&subject, &pattern, &watch);
            let Some((first, end)) = matcher.find(from.get(), false)? else {
                from.set(subject.len() + 1);
                return nothing();
            };
            from.set(if end == first { end + 1 } else { end });
            captures(lua, &matcher, Some((first, end))).map(MultiValue::from_vec)
        })
    })?;
    let for_gsub = watch.clone();
    host.add(
        "string_gsub",
        move |lua, (subject, pattern, with, most): (LuaString, LuaString, Value, Option<f64>)| {
            let with = Replacement::of(lua, with)?;
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            let (pattern, is_anchored) = anchor(&pattern);
            let mut matcher = Matcher::new(&subject, pattern, &for_gsub);
            let (mut out, mut at, mut count) = (Vec::new(), 0, 0_u32);
            while most.is_none_or(|most| f64::from(count) < most) {
                let end = matcher.at(at)?;
                if let Some(end) = end {
                    count += 1;
                    with.add(lua, &matcher, (at, end), &mut out)?;
                }
                match end {
                    Some(end) if end > at => at = end,
                    _ if at < subject.len() => {
                        out.push(subject[at]);
                        at += 1;
                    }
                    _ => break,
                }
                if is_anchored {
                    break;
                }
            }
            out.extend_from_slice(&subject[at..]);
            Ok((lua.create_string(out)?, count))
        },
    )
}

fn nothing() -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_vec(vec![Value::Nil]))
}

/// Where to begin: from 1, or from the end when it is negative.
fn start(length: usize, init: Option<i64>) -> usize {
    let init = init.unwrap_or(1);
    let from_start = usize::try_from(init).ok().map(|init| init.saturating_sub(1));
    let from_end = || length.saturating_sub(usize::try_from(init.unsigned_abs()).unwrap_or(length));
    from_start.unwrap_or_else(from_end).min(length)
}

fn anchor(pattern: &[u8]) -> (&[u8], bool) {
    pattern.strip_prefix(b"^").map_or((pattern, false), |rest| (rest, true))
}

/// What a match captured; the whole of it where the pattern captures nothing.
fn captures(
    lua: &Lua,
    matcher: &Matcher<'_>,
    whole: Option<(usize, usize)>,
) -> mlua::Result<Vec<Value>> {
    let captured = matcher.captured()?;
    if let (true, Some((first, end))) = (captured.is_empty(), whole) {
        return Ok(vec![Value::String(lua.create_string(&matcher.subject[first..end])?)]);
    }
    let values = captured.into_iter().map(|captured| match captured {
        Captured::Text(text) => lua.create_string(text).map(Value::String),
        Captured::Position(at) => Ok(Value::Number(at as f64)),
    });
    values.collect()
}

// === impl Replacement ===

impl Replacement {
    fn of(lua: &Lua, value: Value) -> mlua::Result<Self> {
        Ok(match value {
            Value::Table(table) => Self::Table(table),
            Value::Function(function) => Self::Function(function),
            other => match lua.coerce_string(other)? {
                Some(text) => Self::Text(text),
                None => {
                    let wrong = "bad argument #3 to 'gsub' (string/function/table expected)";
                    return Err(Error::runtime(wrong));
                }
            },
        })
    }

    /// Adds what stands for the match to `out`.
    fn add(
        &self,
        lua: &Lua,
        matcher: &Matcher<'_>,
        (first, end): (usize, usize),
        out: &mut Vec<u8>,
    ) -> mlua::Result<()> {
        let mut values = captures(lua, matcher, Some((first, end)))?;
        let value = match self {
            Self::Text(text) => {
                return expand(&text.as_bytes(), &values, &matcher.subject[first..end], out);
            }
            Self::Table(table) => table.get::<Value>(values.swap_remove(0))?,
            Self::Function(function) => function.call::<Value>(MultiValue::from_vec(values))?,
        };
        match value {
            // It stays as it is.
            Value::Nil | Value::Boolean(false) => {
                out.extend_from_slice(&matcher.subject[first..end]);
            }
            Value::String(text) => out.extend_from_slice(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                out.extend_from_slice(value.to_string()?.as_bytes());
            }
            other => {
                let wrong = format!("invalid replacement value (a {})", other.type_name());
                return Err(Error::runtime(wrong));
            }
        }
        Ok(())
    }
}

/// Adds a replacement's text, captures in the place of `%1`.
fn expand(text: &[u8], captures: &[Value], whole: &[u8], out: &mut Vec<u8>) -> mlua::Result<()> {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => out.extend_from_slice(whole),
            Some(digit @ b'1'..=b'9') => match captures.get(usize::from(digit - b'1')) {
                Some(Value::String(text)) => out.extend_from_slice(&text.as_bytes()),
                Some(position) => out.extend_from_slice(position.to_string()?.as_bytes()),
                None => return Err(Error::runtime("invalid capture index")),
            },
            Some(other) => out.push(*other),
            None => {}
        }
    }
    Ok(())
}
