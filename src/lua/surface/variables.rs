//! `ngx.var` and `ctx.var`: variables by name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use http::HeaderValue;
use mlua::{LuaString, Value};

use super::request::set_query;
use super::{Host, request};
use crate::expr::{Variable, Variables as _};
use crate::lua::{current, exchange};

/// Names that are kept parsed; a function may make up any number of them.
const MOST: usize = 1024;

/// Names of variables that this state has met.
struct Names {
    known: RefCell<HashMap<Box<[u8]>, Rc<Variable>>>,
    parse: fn(&str) -> Variable,
}

pub(super) fn register(host: &Host<'_>) -> mlua::Result<()> {
    let names = Rc::new(Names::of(Variable::parse));
    let of_nginx = Rc::new(Names::of(Variable::of_nginx));
    for (primitive, known) in [("variable", names.clone()), ("nginx_variable", of_nginx)] {
        host.add(primitive, move |lua, (_, name): (Value, LuaString)| {
            let name = known.get(&name.as_bytes());
            current::read(|ctx| match ctx.get(&name) {
                Some(value) => lua.create_string(value.as_bytes()).map(Some),
                None => Ok(None),
            })?
        })?;
    }
    host.add("set_variable", move |_, (_, name, value): (Value, LuaString, Option<LuaString>)| {
        let variable = names.get(&name.as_bytes());
        set(&variable, &name.to_string_lossy(), value.as_ref())
    })
}

/// Sets a variable: one of those that say where the request goes, or one that is the functions'
/// own.
fn set(variable: &Variable, name: &str, value: Option<&LuaString>) -> mlua::Result<()> {
    let text = value.map(LuaString::to_string_lossy);
    match variable {
        Variable::UpstreamUri => {
            let target = text.unwrap_or_default();
            if !target.starts_with('/') {
                return Err(wrong(name, "a path that begins with a slash"));
            }
            current::change(|ctx| ctx.outgoing.path_and_query = Some(request::escaped(&target)))
        }
        Variable::UpstreamHost => {
            let host = HeaderValue::try_from(text.unwrap_or_default())
                .map_err(|_| wrong(name, "text that fits a header"))?;
            current::change(|ctx| ctx.outgoing.host = Some(host))
        }
        Variable::Args => current::change(|ctx| set_query(ctx, &text.unwrap_or_default())),
        Variable::Unknown(_) => {
            if let Some(kept) = exchange::of_call()? {
                kept.set(name, text);
            }
            Ok(())
        }
        _ => Err(mlua::Error::runtime(format!("variable \"{name}\" not changeable"))),
    }
}

fn wrong(name: &str, expected: &str) -> mlua::Error {
    mlua::Error::runtime(format!("variable \"{name}\": expected {expected}"))
}

// === impl Names ===

impl Names {
    fn of(parse: fn(&str) -> Variable) -> Self {
        Self { known: RefCell::default(), parse }
    }

    fn get(&self, name: &[u8]) -> Rc<Variable> {
        let mut known = self.known.borrow_mut();
        if let Some(variable) = known.get(name) {
            return variable.clone();
        }
        if known.len() >= MOST {
            known.clear();
        }
        let variable = Rc::new((self.parse)(&String::from_utf8_lossy(name)));
        known.insert(name.into(), variable.clone());
        variable
    }
}
