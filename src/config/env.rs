//! Environment variables in config: `${{VAR}}`, `${{VAR:=default}}`, and APISIX's reserved names.
//!
//! A value with a variable in it becomes a number or a boolean when it looks like one, as in
//! APISIX (`apisix/cli/file.lua`). Its text is kept too, so that a key that should be a text gets
//! it unchanged: an admin key `007` stays `007`.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::{Problem, Warning};

/// Looks an environment variable up.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What [`fill`] found.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// The text of each value with a variable, by path; `None` where a variable is not set.
    pub(super) texts: BTreeMap<String, Option<String>>,
    pub(super) problems: Vec<Problem>,
}

/// Fills the variables in every text of `value`, keys included.
pub(super) fn fill(value: &mut Value, env: Env<'_>) -> Variables {
    let mut found = Variables::default();
    walk(value, "", env, &mut found);
    found
}

/// Applies the variables that APISIX knows by name.
pub(super) fn overrides(value: &mut Value, env: Env<'_>, warnings: &mut Vec<Warning>) {
    if let Some(text) = env("APISIX_WORKER_PROCESSES") {
        set(value, &["nginx_config", "worker_processes"], inferred(&text));
    }
    if let Some(text) = env("APISIX_DEPLOYMENT_ETCD_HOST") {
        match serde_json::from_str(&text) {
            Ok(hosts) => set(value, &["deployment", "etcd", "host"], hosts),
            Err(_) => warnings.push(Warning::new(
                "deployment.etcd.host",
                "the environment variable APISIX_DEPLOYMENT_ETCD_HOST is not JSON and is ignored",
            )),
        }
    }
}

/// The path of `key` under `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn walk(value: &mut Value, path: &str, env: Env<'_>, found: &mut Variables) {
    match value {
        Value::String(text) => {
            let Some(filled) = substitute(text, path, env, found) else {
                return;
            };
            *value = filled.as_deref().map_or(Value::Null, inferred);
            found.texts.insert(path.to_owned(), filled);
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{index}]"), env, found);
            }
        }
        Value::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                let key = match substitute(&key, &join(path, &key), env, found) {
                    Some(Some(filled)) => filled,
                    Some(None) => continue,
                    None => key,
                };
                walk(&mut item, &join(path, &key), env, found);
                map.insert(key, item);
            }
        }
        _ => {}
    }
}

/// The text with its variables filled: `None` without any, `Some(None)` if one is not set.
fn substitute(
    text: &str,
    path: &str,
    env: Env<'_>,
    found: &mut Variables,
) -> Option<Option<String>> {
    let mut filled = String::new();
    let mut rest = text;
    let (mut used, mut unset) = (false, false);
    while let Some(start) = rest.find("${{") {
        let inner = &rest[start + 3..];
        let Some(end) = inner.find("}}") else { break };
        let (name, default) = match inner[..end].split_once(":=") {
            Some((name, default)) => (name.trim(), Some(default.trim().to_owned())),
            None => (inner[..end].trim(), None),
        };
        filled.push_str(&rest[..start]);
        rest = &inner[end + 2..];
        // APISIX leaves what does not begin like a name as it stands.
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            filled.push_str(&text[text.len() - rest.len() - end - 5..text.len() - rest.len()]);
            continue;
        }
        used = true;
        match env(name).or(default) {
            Some(value) => filled.push_str(&value),
            None => {
                unset = true;
                found.problems.push(Problem::new(
                    path,
                    "no such variable",
                    format!(
                        "the environment variable {name}, or a default: ${{{{{name}:=value}}}}"
                    ),
                ));
            }
        }
    }
    filled.push_str(rest);
    used.then(|| (!unset).then_some(filled))
}

/// The value that APISIX makes of a text with a variable in it.
fn inferred(text: &str) -> Value {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.trim();
    if let Ok(number) = digits.parse::<i64>() {
        return number.into();
    }
    if let Some(Ok(number)) = digits.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16)) {
        return number.into();
    }
    // Not every word that Rust reads as a float ("nan", "infinity") is meant as one.
    digits
        .parse::<f64>()
        .ok()
        .filter(|_| digits.contains(|c: char| c.is_ascii_digit()))
        .and_then(Number::from_f64)
        .map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Sets the value at `path`, making mappings on the way; does nothing where one is something else.
fn set(value: &mut Value, path: &[&str], new: Value) {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let (Value::Object(map), [key, rest @ ..]) = (value, path) else {
        return;
    };
    let slot = map.entry(*key).or_insert(Value::Null);
    if rest.is_empty() {
        *slot = new;
    } else {
        set(slot, rest, new);
    }
}
