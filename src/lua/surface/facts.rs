//! The fields of `ctx` (APISIX's `api_ctx`) besides `var`: what matched, and who called.

use mlua::{Lua, LuaString, Table, Value};

use super::Host;
use crate::context::Ctx;
use crate::lua::current;

pub(super) fn register(host: &Host<'_>) -> mlua::Result<()> {
    host.add("fact", |lua, name: LuaString| {
        current::read(|ctx| match &*name.as_bytes() {
            b"curr_req_matched" => matched(lua, ctx).map(Value::Table),
            b"matched_route" => route(lua, ctx).map(Value::Table),
            b"consumer" => consumer(lua, ctx),
            b"consumer_name" => {
                text(lua, ctx.consumer.as_ref().map_or("", |consumer| &consumer.name))
            }
            b"route_id" => text(lua, &ctx.route.id),
            b"route_name" => text(lua, &ctx.route.name),
            b"service_id" => text(lua, &ctx.route.service_id),
            b"service_name" => text(lua, &ctx.route.service_name),
            _ => Ok(Value::Nil),
        })?
    })
}

/// The patterns that the request matched by.
fn matched(lua: &Lua, ctx: &Ctx) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("_path", text(lua, &ctx.route.matched_uri)?)?;
    table.raw_set("_host", text(lua, &ctx.route.matched_host)?)?;
    table.raw_set("_method", ctx.request.method.as_str())?;
    Ok(table)
}

/// The route, as far as exchanges know it.
fn route(lua: &Lua, ctx: &Ctx) -> mlua::Result<Table> {
    let value = lua.create_table()?;
    value.raw_set("id", text(lua, &ctx.route.id)?)?;
    value.raw_set("name", text(lua, &ctx.route.name)?)?;
    value.raw_set("service_id", text(lua, &ctx.route.service_id)?)?;
    let route = lua.create_table()?;
    route.raw_set("value", value)?;
    Ok(route)
}

fn consumer(lua: &Lua, ctx: &Ctx) -> mlua::Result<Value> {
    let Some(consumer) = &ctx.consumer else {
        return Ok(Value::Nil);
    };
    let table = lua.create_table()?;
    table.raw_set("username", &*consumer.name)?;
    table.raw_set("consumer_name", &*consumer.name)?;
    table.raw_set("group_id", consumer.group_id.as_deref())?;
    Ok(Value::Table(table))
}

/// Nothing where there is no text.
fn text(lua: &Lua, text: &str) -> mlua::Result<Value> {
    if text.is_empty() { Ok(Value::Nil) } else { lua.create_string(text).map(Value::String) }
}
