//! JSON: Lua values to text and back, as cjson has them.

use mlua::{Error, Lua, LuaString, MultiValue, Table, Value};
use serde_json::Value as Json;

use super::Host;
use crate::lua::{Limits, state};

/// Tables inside tables, as cjson takes them.
const DEEPEST: usize = 1000;
/// Holes in a list are filled up to here, or while half of it is there.
const SPARSE: usize = 10;

pub(super) fn register(host: &Host<'_>, limits: Limits) -> mlua::Result<()> {
    host.table.raw_set("null", Value::NULL)?;
    // What tells an empty list from an empty object.
    let list = host.lua.create_table()?;
    host.lua.set_named_registry_value(LIST, &list)?;
    host.table.raw_set("list", list)?;
    host.add("encode", move |lua, value: Value| match encode(&value, limits.memory_bytes) {
        Ok(text) => Ok((Some(lua.create_string(text)?), None)),
        Err(error) => Ok((None, Some(state::message(&error)))),
    })?;
    host.add("decode", |lua, text: LuaString| match serde_json::from_slice(&text.as_bytes()) {
        Ok(json) => Ok(MultiValue::from_iter([to_lua(lua, &json)?])),
        Err(error) => {
            let error = Value::String(lua.create_string(error.to_string())?);
            Ok(MultiValue::from_iter([Value::Nil, error]))
        }
    })
}

const LIST: &str = "sluice.list";

/// The Lua value of `json`; lists have cjson's `array_mt`, null is `cjson.null`.
pub(in crate::lua) fn to_lua(lua: &Lua, json: &Json) -> mlua::Result<Value> {
    Ok(match json {
        Json::Null => Value::NULL,
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                list.raw_push(to_lua(lua, item)?)?;
            }
            list.set_metatable(Some(lua.named_registry_value::<Table>(LIST)?))?;
            Value::Table(list)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, value) in fields {
                table.raw_set(name.as_str(), to_lua(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

/// `value` as JSON, of at most so many bytes.
///
/// # Errors
/// What JSON cannot say, and more than `most` bytes: tables that share others can be far larger
/// written out than they are.
pub(in crate::lua) fn encode(value: &Value, most: usize) -> mlua::Result<Vec<u8>> {
    let mut out = Vec::new();
    write(value, &mut out, most, 0)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>, most: usize, depth: usize) -> mlua::Result<()> {
    if out.len() > most {
        return Err(Error::runtime(format!("Cannot serialise: more than {most} bytes")));
    }
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        value if *value == Value::NULL => out.extend_from_slice(b"null"),
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Number(number) if number.is_finite() => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(&text.as_bytes(), out),
        Value::Table(table) if depth < DEEPEST => write_table(table, out, most, depth)?,
        Value::Table(_) => {
            return Err(Error::runtime("Cannot serialise, excessive depth (1000)"));
        }
        Value::Number(_) => {
            return Err(Error::runtime("Cannot serialise number: must not be NaN or Inf"));
        }
        other => {
            let what = other.type_name();
            return Err(Error::runtime(format!("Cannot serialise {what}: type not supported")));
        }
    }
    Ok(())
}

fn write_table(table: &Table, out: &mut Vec<u8>, most: usize, depth: usize) -> mlua::Result<()> {
    let mut length = None;
    let mut count = 0;
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        count += 1;
        match key {
            Value::Integer(index) if index > 0 => {
                length = length.max(usize::try_from(index).ok());
            }
            _ => {
                length = None;
                break;
            }
        }
    }
    let is_marked = count == 0 && table.metatable().is_some();
    if length.is_some_and(|length| length > SPARSE && length > count * 2) {
        return Err(Error::runtime("Cannot serialise table: excessively sparse array"));
    }
    if length.is_some() || is_marked {
        out.push(b'[');
        for index in 1..=length.unwrap_or(0) {
            if index > 1 {
                out.push(b',');
            }
            write(&table.raw_get::<Value>(index)?, out, most, depth + 1)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    let mut is_first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        match key {
            Value::String(name) => write_text(&name.as_bytes(), out),
            Value::Integer(_) | Value::Number(_) => write_text(key.to_string()?.as_bytes(), out),
            _ => {
                let wrong = "Cannot serialise table: table key must be a number or string";
                return Err(Error::runtime(wrong));
            }
        }
        out.push(b':');
        write(&value, out, most, depth + 1)?;
    }
    out.push(b'}');
    Ok(())
}

/// A string of JSON; bytes that are no UTF-8 stay what they are.
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}
