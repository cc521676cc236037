//! What functions keep of an exchange from one phase to the next: `ngx.ctx`, and variables.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::{Table, Value};

use super::state::{self, State};
use super::surface::json;
use super::{Failure, Phase, current};
use crate::context::{Chunk, Ctx, Kept};

/// What one exchange keeps.
pub(super) struct Exchange {
    /// Of the state that the tables are in: a worker may have taken a new one since.
    generation: u64,
    /// `ngx.ctx`.
    pub(super) context: Table,
    /// `ngx.ctx.api_ctx`, a function's second argument.
    pub(super) api: Table,
    /// `ngx.arg`, while a piece of the response's body is being filtered.
    pub(super) chunk: RefCell<Option<Chunk>>,
    /// Variables that functions have set.
    variables: RefCell<HashMap<Box<str>, String>>,
}

/// What `ctx` keeps, made up when it is asked for.
pub(super) fn of(state: &State, ctx: &Ctx) -> Result<Rc<Exchange>, Failure> {
    let old = kept_by(ctx);
    if let Some(old) = old.as_ref().filter(|old| old.generation == state.generation) {
        return Ok(old.clone());
    }
    let (context, api) = state.fresh.call(()).map_err(|error| state.failure(&error))?;
    let exchange = Rc::new(Exchange {
        generation: state.generation,
        context,
        api,
        chunk: RefCell::default(),
        variables: RefCell::new(old.map(|old| old.variables.take()).unwrap_or_default()),
    });
    ctx.kept.replace(Some(exchange.clone()));
    Ok(exchange)
}

/// What the exchange of the call under way keeps; nothing while no state is there yet.
///
/// # Errors
/// There is no exchange, or no memory.
pub(super) fn of_call() -> mlua::Result<Option<Rc<Exchange>>> {
    let state = state::present();
    let kept = current::read(|ctx| state.map(|state| of(&state, ctx)))?;
    kept.transpose().map_err(mlua::Error::runtime)
}

/// Whether `ctx` has kept something in a state that is gone.
pub(super) fn is_lost(state: &State, ctx: &Ctx) -> bool {
    kept_by(ctx).is_some_and(|kept| kept.generation != state.generation)
}

fn kept_by(ctx: &Ctx) -> Option<Rc<Exchange>> {
    let kept: Rc<dyn Any> = ctx.kept.borrow().clone()?;
    kept.downcast().ok()
}

// === impl Exchange ===

impl Exchange {
    /// Sets a variable, or forgets it.
    pub(super) fn set(&self, name: &str, value: Option<String>) {
        let mut variables = self.variables.borrow_mut();
        match value {
            Some(value) => variables.insert(name.into(), value),
            None => variables.remove(name),
        };
    }
}

impl Kept for Exchange {
    fn variable(&self, ctx: &Ctx, name: &str) -> Option<String> {
        if let Some(value) = self.variables.borrow().get(name) {
            return Some(value.clone());
        }
        let state = state::present().filter(|state| state.generation == self.generation)?;
        let getter = state.getters.borrow().get(name).cloned()?;
        let call = || getter.call::<Value>(&self.api);
        match current::look(ctx, Phase::Log, || state.run(call)) {
            Ok(Value::Nil) => None,
            Ok(value @ Value::Table(_)) => {
                let text = json::encode(&value, state.limits.memory_bytes).ok()?;
                String::from_utf8(text).ok()
            }
            Ok(value) => value.to_string().ok(),
            Err(failure) => {
                if let Some(unwritten) = state::may_report() {
                    tracing::error!(
                        variable = name, reason = %failure, unwritten,
                        "a variable's Lua function failed"
                    );
                }
                None
            }
        }
    }
}
