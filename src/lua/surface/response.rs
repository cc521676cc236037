//! `ngx.header`, `ngx.status`, `ngx.say` and `ngx.exit`: what the client will be told.

use std::rc::Rc;

use http::StatusCode;
use mlua::{LuaString, Value};

use super::Host;
use super::request::{all, is_framing, parse, put, values};
use crate::context::Reply;
use crate::lua::watch::Watch;
use crate::lua::{Limits, Phase, current, exchange, state};

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
            Phase::Log => "log",
        })
    })?;
    host.add("context", |_, ()| {
        let state = state::present();
        let kept = current::read(|ctx| state.map(|state| exchange::of(&state, ctx)))?;
        match kept {
            Some(Ok(kept)) => Ok(Some(kept.context.clone())),
            Some(Err(failure)) => Err(mlua::Error::runtime(failure)),
            None => Ok(None),
        }
    })
}
