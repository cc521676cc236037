//! `ngx.req`: the request as it will be sent on.

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use mlua::{Lua, LuaString, Table, Value};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Host;
use crate::context::Ctx;
use crate::expr::Need;
use crate::lua::{Limits, Phase, current};

/// What does not stand in a target as it is.
const TARGET: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
/// The same for a path alone.
const PATH: &AsciiSet = &TARGET.add(b'?').add(b'%');

const UNREAD: &str = "the request's body was not read: it is where the function's text has \
                      read_body, get_body, get_body_data or get_post_args in it";
const TOO_LARGE_FOR_LUA: &str = "the request's body is larger than half of sluice.lua.memory";
const TOO_LARGE: &str = "the request's body is larger than apisix.max_post_args_readable_size";

pub(super) fn register(host: &Host<'_>, limits: Limits) -> mlua::Result<()> {
    host.add("method", |_, ()| {
        current::read(|ctx| {
            let method = ctx.outgoing.method.as_ref().unwrap_or(&ctx.request.method);
            method.as_str().to_owned()
        })
    })?;
    host.add("set_method", |_, name: LuaString| {
        let method = Method::from_bytes(&name.as_bytes())
            .map_err(|_| mlua::Error::runtime("set_method: expected the name of a method"))?;
        current::change(|ctx| ctx.outgoing.method = Some(method))
    })?;
    host.add("http_version", |_, ()| {
        current::read(|ctx| match ctx.request.version {
            Version::HTTP_10 => 1.0,
            Version::HTTP_2 => 2.0,
            Version::HTTP_3 => 3.0,
            _ => 1.1,
        })
    })?;
    host.add("start_time", |_, ()| current::read(|ctx| ctx.elapsed().as_secs_f64()))?;
    host.add("headers", |lua, ()| current::read(|ctx| all(lua, &ctx.request.headers))?)?;
    host.add("header", |lua, name: LuaString| {
        let Ok(name) = HeaderName::from_bytes(&name.as_bytes()) else {
            return Ok(Value::Nil);
        };
        current::read(|ctx| values(lua, &ctx.request.headers, &name))?
    })?;
    host.add("set_header", |_, (name, value, append): (LuaString, Value, bool)| {
        let (name, values) = parse(&name, &value)?;
        if is_framing(&name) {
            return Ok(());
        }
        current::change(|ctx| put(&mut ctx.request.headers, &name, values, append))
    })?;
    // A copy of it that left no room for others would end the state for all functions.
    let most = limits.memory_bytes / 2;
    host.add("body", move |lua, ()| {
        // While the route is looked for it is asked for in vain once; then it is read.
        let is_read_for = current::phase()? == Phase::Match;
        current::read(|ctx| {
            if !is_read_for && !ctx.payload.serves(Need::Any) {
                return Err(mlua::Error::runtime(UNREAD));
            }
            match ctx.payload.whole() {
                Some(body) if body.is_empty() => Ok((None, None)),
                Some(body) if body.len() > most => Ok((None, Some(TOO_LARGE_FOR_LUA))),
                Some(body) => Ok((Some(lua.create_string(body)?), None)),
                None => Ok((None, Some(TOO_LARGE))),
            }
        })?
    })?;
    host.add("query", |_, ()| current::read(|ctx| ctx.query().map(str::to_owned)))?;
    host.add("set_query", |_, query: LuaString| {
        current::change(|ctx| set_query(ctx, &query.to_string_lossy()))
    })?;
    host.add("set_path", |_, path: LuaString| {
        let path = path.to_string_lossy();
        if !path.starts_with('/') {
            return Err(mlua::Error::runtime("set_uri: expected a path that begins with a slash"));
        }
        current::change(|ctx| set_path(ctx, path))
    })
}

/// A target without bytes that would end it.
pub(super) fn escaped(target: &str) -> String {
    utf8_percent_encode(target, TARGET).to_string()
}

/// Has the request ask with another query, none if it is empty.
pub(super) fn set_query(ctx: &mut Ctx, query: &str) {
    let query = escaped(query);
    let with_query = |path: &str| {
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    };
    let mut parts = ctx.request.uri.clone().into_parts();
    // What was escaped makes a target; were it not so, the request would stay as it is.
    if let Ok(target) = with_query(ctx.request.uri.path()).parse() {
        parts.path_and_query = Some(target);
        if let Ok(uri) = Uri::from_parts(parts) {
            ctx.request.uri = uri;
        }
    }
    if let Some(target) = &mut ctx.outgoing.path_and_query {
        *target = with_query(target.split('?').next().unwrap_or_default());
    }
}

/// Has the node asked for another path; the query stays.
fn set_path(ctx: &mut Ctx, path: String) {
    let mut target = utf8_percent_encode(&path, PATH).to_string();
    if let Some(query) = ctx.query() {
        target.push('?');
        target.push_str(query);
    }
    ctx.outgoing.path_and_query = Some(target);
    // It is told by itself, as it was given.
    ctx.outgoing.renamed = None;
    ctx.request.normalized_path = Some(path.into());
}

/// Every header by name in lower case, those that are repeated as lists.
pub(super) fn all(lua: &Lua, headers: &HeaderMap) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, headers.keys_len())?;
    for name in headers.keys() {
        table.raw_set(name.as_str(), values(lua, headers, name)?)?;
    }
    Ok(table)
}

/// The values of one header: nothing, a text, or a list of them.
pub(super) fn values(lua: &Lua, headers: &HeaderMap, name: &HeaderName) -> mlua::Result<Value> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else {
        return Ok(Value::Nil);
    };
    let first = lua.create_string(first.as_bytes())?;
    if all.size_hint().0 == 0 {
        return Ok(Value::String(first));
    }
    let list = lua.create_table()?;
    list.raw_push(first)?;
    for value in all {
        list.raw_push(lua.create_string(value.as_bytes())?)?;
    }
    Ok(Value::Table(list))
}

/// A header's name and the values to give it: none takes it away.
pub(super) fn parse(
    name: &LuaString,
    value: &Value,
) -> mlua::Result<(HeaderName, Vec<HeaderValue>)> {
    let wrong = |what: &str, of: &LuaString| {
        mlua::Error::runtime(format!("header {:?}: expected {what}", of.to_string_lossy()))
    };
    let parsed = HeaderName::from_bytes(&name.as_bytes());
    let parsed = parsed.map_err(|_| wrong("a header name", name))?;
    let one = |value: &Value| {
        let bytes = match value {
            Value::String(text) => HeaderValue::from_bytes(&text.as_bytes()),
            other => HeaderValue::try_from(other.to_string()?),
        };
        bytes.map_err(|_| wrong("a value without control characters", name))
    };
    let values = match value {
        Value::Nil => Vec::new(),
        Value::Table(list) => {
            list.sequence_values::<Value>().map(|value| one(&value?)).collect::<Result<_, _>>()?
        }
        value => vec![one(value)?],
    };
    Ok((parsed, values))
}

/// Gives a header its values, besides those that it has if `append`.
pub(super) fn put(
    headers: &mut HeaderMap,
    name: &HeaderName,
    values: Vec<HeaderValue>,
    append: bool,
) {
    if !append {
        headers.remove(name);
    }
    for value in values {
        headers.append(name.clone(), value);
    }
}

/// Whether a header says where a message ends: that is the gateway's own business, and what a
/// function says of it has no effect.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "keep-alive")
}
