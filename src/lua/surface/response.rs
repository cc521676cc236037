//! `ngx.header`, `ngx.status`, `ngx.say` and `ngx.exit`: what the client will be told.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use mlua::{LuaString, Value};

use super::Host;
use super::request::{all, is_framing, parse, put, values};
use crate::context::{Chunk, Reply};
use crate::lua::watch::Watch;
use crate::lua::{Limits, Phase, current, exchange};

pub(super) fn register(host: &Host<'_>, watch: &Rc<Watch>, limits: Limits) -> mlua::Result<()> {
    host.add("response_headers", |lua, ()| current::read(|ctx| all(lua, &ctx.response.headers))?)?;
    host.add("response_header", |lua, name: LuaString| {
        let Ok((name, _)) = parse(&name, &Value::Nil) else {
            return Ok(Value::Nil);
        };
        current::read(|ctx| values(lua, &ctx.response.headers, &name))?
    })?;
    host.add("set_response_header", |_, (name, value, append): (LuaString, Value, bool)| {
        let (name, values) = parse(&name, &value)?;
        if is_framing(&name) {
            return Ok(());
        }
        current::change(|ctx| put(&mut ctx.response.headers, &name, values, append))
    })?;
    host.add("status", |_, ()| current::read(|ctx| ctx.response.status.as_u16()))?;
    host.add("set_status", |_, code: i64| {
        let status = u16::try_from(code).ok().filter(|code| *code >= 200);
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| {
            mlua::Error::runtime(format!("ngx.status: expected 200 to 999, got {code}"))
        })?;
        current::change(|ctx| ctx.response.status = status)
    })?;
    host.add("print", move |_, text: LuaString| {
        if current::phase()? != Phase::Access {
            return Err(mlua::Error::runtime("a body cannot be written in this phase"));
        }
        let text = text.as_bytes();
        current::change(|ctx| {
            let status = ctx.response.status;
            let said = ctx.said.get_or_insert_with(|| Box::new(Reply::status(status)));
            if said.body.len() + text.len() > limits.memory_bytes {
                return Err(mlua::Error::runtime("the response is larger than sluice.lua.memory"));
            }
            said.push(&text);
            Ok(())
        })?
    })?;
    host.add("has_printed", |_, ()| {
        current::read(|ctx| ctx.said.is_some() || ctx.response.head_bytes > 0)
    })?;
    let watch = watch.clone();
    host.add("exit", move |_, code: i64| {
        watch.exit(code);
        Ok(())
    })?;
    host.add("phase", |_, ()| {
        Ok(match current::phase()? {
            Phase::Match | Phase::Access => "access",
            Phase::HeaderFilter => "header_filter",
            Phase::BodyFilter => "body_filter",
            Phase::Log => "log",
        })
    })?;
    host.add("context", |_, ()| Ok(exchange::of_call()?.map(|kept| kept.context.clone())))?;
    host.add("chunk", |lua, ()| {
        chunk(|chunk| Ok((lua.create_string(&chunk.data)?, chunk.is_last)))?
    })?;
    host.add("set_chunk", |_, data: Option<LuaString>| {
        let data = data.map(|data| Bytes::copy_from_slice(&data.as_bytes()));
        chunk(|chunk| chunk.data = data.unwrap_or_default())
    })?;
    host.add("set_last", |_, is_last: bool| chunk(|chunk| chunk.is_last |= is_last))
}

/// The piece of the response's body that the call under way is for.
fn chunk<R>(action: impl FnOnce(&mut Chunk) -> R) -> mlua::Result<R> {
    let kept = exchange::of_call()?;
    let mut chunk = kept.as_ref().and_then(|kept| kept.chunk.try_borrow_mut().ok());
    match chunk.as_deref_mut() {
        Some(Some(chunk)) => Ok(action(chunk)),
        _ => Err(mlua::Error::runtime("a piece of the body is there in body_filter alone")),
    }
}
