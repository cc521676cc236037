//! What functions find in a state: the standard library, `ngx`, and what `require` gives.
//!
//! Rust gives the primitives, one table of functions by subject; `prelude.lua` builds of them the
//! names that functions know, and takes away what could leave the sandbox. Names, arguments and
//! results are lua-nginx-module's and APISIX's; what is not there says so when it is used.

pub(super) mod json;
mod facts;
mod pattern;
mod regex;
mod request;
mod response;
mod strings;
mod text;
mod variables;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use mlua::chunk::ChunkMode;
use mlua::{FromLuaMulti, IntoLuaMulti, Lua, LuaString, Table, Value};

use super::watch::{self, Watch};
use super::{Limits, current, state};

/// The Lua side of the surface.
const PRELUDE: &str = include_str!("prelude.lua");

/// Functions that make up variables, by the variable's name.
type Getters = Rc<RefCell<HashMap<Box<str>, mlua::Function>>>;

/// What Rust calls of it.
pub(super) struct Surface {
    /// `ctx.var`.
    pub(super) vars: Table,
    /// Makes an `ngx.ctx` and its `api_ctx`.
    pub(super) fresh: mlua::Function,
}

/// The primitives on their way into the state.
struct Host<'l> {
    lua: &'l Lua,
    table: Table,
    watch: Rc<Watch>,
}

/// Builds the surface in a new state.
pub(super) fn install(
    lua: &Lua,
    watch: &Rc<Watch>,
    getters: &Getters,
    limits: Limits,
) -> mlua::Result<Surface> {
    let host = Host { lua, table: lua.create_table()?, watch: watch.clone() };
    variables::register(&host)?;
    request::register(&host, limits)?;
    response::register(&host, watch, limits)?;
    facts::register(&host)?;
    text::register(&host)?;
    strings::register(&host, watch)?;
    regex::register(&host)?;
    json::register(&host, limits)?;
    host.add("now", |_, ()| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Milliseconds, as nginx's cached time has them.
        Ok(since.as_millis() as f64 / 1000.0)
    })?;
    host.add("log", |_, (level, text): (u8, LuaString)| {
        log(level, &text.to_string_lossy());
        Ok(())
    })?;
    let ending = watch.clone();
    host.add("is_ending", move |_, ()| Ok(ending.is_ending()))?;
    let registered = getters.clone();
    host.add("register_variable", move |_, (name, getter): (LuaString, mlua::Function)| {
        registered.borrow_mut().insert(name.to_string_lossy().into(), getter);
        Ok(())
    })?;
    let late = watch.clone();
    host.add(
        "look",
        move |_, ()| {
            if late.is_late() { Err(mlua::Error::runtime(watch::SAID)) } else { Ok(()) }
        },
    )?;
    host.add("load", |lua, (text, name): (LuaString, LuaString)| Ok(load(lua, &text, &name)))?;
    // What `pcall` gives of an error: one that Rust raised as a text, as Lua's own are.
    host.add("message", |lua, error: Value| match error {
        Value::Error(error) => lua.create_string(state::message(&error)).map(Value::String),
        other => Ok(other),
    })?;
    let prelude = lua.load(PRELUDE).set_name("=prelude");
    let (vars, fresh) = prelude.call(&host.table)?;
    Ok(Surface { vars, fresh })
}

/// `loadstring` for text alone: Lua believes whatever bytecode says. The function, or what is
/// wrong with the text.
fn load(lua: &Lua, text: &LuaString, name: &LuaString) -> (Option<mlua::Function>, Option<String>) {
    let text = text.as_bytes();
    if text.first() == Some(&0x1b) {
        return (None, Some("bytecode is not loaded".to_owned()));
    }
    let chunk = lua.load(&text[..]).set_name(name.to_string_lossy());
    match chunk.set_mode(ChunkMode::Text).into_function() {
        Ok(function) => (Some(function), None),
        Err(error) => (None, Some(state::message(&error))),
    }
}

/// A line of the error log; levels are nginx's, 4 is an error.
fn log(level: u8, text: &str) {
    let route = current::read(|ctx| ctx.route.id.clone()).unwrap_or_default();
    match level {
        0..=4 => tracing::error!(%route, "lua: {text}"),
        5 => tracing::warn!(%route, "lua: {text}"),
        6 | 7 => tracing::info!(%route, "lua: {text}"),
        _ => tracing::debug!(%route, "lua: {text}"),
    }
}

// === impl Host ===

impl Host<'_> {
    fn add<A: FromLuaMulti, R: IntoLuaMulti>(
        &self,
        name: &str,
        function: impl Fn(&Lua, A) -> mlua::Result<R> + 'static,
    ) -> mlua::Result<()> {
        let watch = self.watch.clone();
        let function = self.lua.create_function(move |lua, given| {
            // What Rust takes of the stack is a lot, so it is looked at each time.
            if watch.is_deep() {
                return Err(mlua::Error::runtime(watch::SAID));
            }
            function(lua, given)
        });
        self.table.raw_set(name, function?)
    }
}
