//! The Lua state of a thread: made at the first call, thrown away when it has grown too large.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::state::{GcIncParams, GcMode};
use mlua::{Error, Lua, LuaOptions, MultiValue, StdLib, Table, Value};

use super::surface::{self, json};
use super::watch::{Excess, Watch};
use super::{Failure, Function, Limits};

thread_local! {
    static STATE: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static REPORTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static UNWRITTEN: Cell<u32> = const { Cell::new(0) };
}

/// Functions that are gone are looked for when there are this many copies, and from then on
/// whenever there are twice as many as were left.
const SWEEP_AT: usize = 64;

/// Of the collector's steps, in percent of LuaJIT's step of a kibibyte: enough for the whole state.
const CYCLE: i32 = 10_000_000;

/// The Lua state of this thread, and the functions that it has loaded.
pub(super) struct State {
    lua: Lua,
    /// What all functions see behind their own globals, whatever `setfenv` has done.
    globals: Table,
    pub(super) limits: Limits,
    /// Tells its tables from those of the state before it.
    pub(super) generation: u64,
    pub(super) watch: Rc<Watch>,
    /// `ngx.var`, which is also what a `filter_func` gets.
    pub(super) vars: Table,
    /// Makes an `ngx.ctx` and its `api_ctx`.
    pub(super) fresh: mlua::Function,
    /// Functions that make up variables (`core.ctx.register_var`), by name.
    pub(super) getters: Rc<RefCell<HashMap<Box<str>, mlua::Function>>>,
    loaded: RefCell<HashMap<u64, Rc<Loaded>>>,
    sweep_at: Cell<usize>,
    /// What was in use after the last collection that was asked for.
    left_bytes: Cell<usize>,
}

/// A function as a state has it.
pub(super) struct Loaded {
    pub(super) function: mlua::Function,
    pub(super) conf: Value,
    alive: Weak<()>,
}

/// Does something with the state of this thread.
///
/// # Errors
/// What `action` gives, and that no state could be made. One that failed for want of memory, or
/// is close to it, is thrown away: the next call finds a new one.
pub(super) fn with<R>(
    limits: Limits,
    action: impl FnOnce(&State) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let state = match present().filter(|state| state.limits == limits) {
        Some(state) => state,
        None => {
            let state = State::new(limits).map_err(|error| Failure::Lua(message(&error)))?;
            let state = Rc::new(state);
            // On a thread that ends it is used once.
            let _ = STATE.try_with(|slot| slot.replace(Some(state.clone())));
            state
        }
    };
    state.make_room();
    let outcome = action(&state);
    if outcome.is_err() && state.is_exhausted() {
        let _ = STATE.try_with(|slot| slot.take());
    }
    outcome
}

/// The state of this thread, where there is one.
pub(super) fn present() -> Option<Rc<State>> {
    STATE.try_with(|slot| slot.borrow().clone()).ok()?
}

/// Whether a failure may be written to the log: one a second and thread, so that a broken function
/// does not bury it. Gives how many were not since the last one.
pub(super) fn may_report() -> Option<u32> {
    let now = Instant::now();
    let recent = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
    if REPORTED.get().is_some_and(recent) {
        UNWRITTEN.set(UNWRITTEN.get().saturating_add(1));
        return None;
    }
    REPORTED.set(Some(now));
    Some(UNWRITTEN.take())
}

/// The first line of what Lua says: the rest is its stack.
pub(super) fn message(error: &Error) -> String {
    let text = match root(error) {
        Error::SyntaxError { message, .. }
        | Error::RuntimeError(message)
        | Error::MemoryError(message) => message.clone(),
        other => other.to_string(),
    };
    match text.split_once("\nstack traceback:") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

/// The error that others are about.
fn root(error: &Error) -> &Error {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => root(cause),
        other => other,
    }
}

// === impl State ===

impl State {
    fn new(limits: Limits) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS | StdLib::BIT;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        lua.set_memory_limit(limits.memory_bytes)?;
        // A cycle at a time: LuaJIT does the same work for a large string as for a small one, and so
        // would be left behind by large ones.
        let params = GcIncParams::default().step_multiplier(CYCLE);
        lua.gc_set_mode(GcMode::Incremental(params));
        let watch = Watch::new(limits.timeout);
        watch.attach(&lua)?;
        let getters = Rc::default();
        let surface = surface::install(&lua, &watch, &getters, limits)?;
        let globals = lua.globals();
        let generation = GENERATION.replace(GENERATION.get() + 1);
        Ok(Self {
            vars: surface.vars,
            fresh: surface.fresh,
            globals,
            lua,
            limits,
            generation,
            watch,
            getters,
            loaded: RefCell::default(),
            sweep_at: Cell::new(SWEEP_AT),
            left_bytes: Cell::new(0),
        })
    }

    /// Compiles `text`, runs it, and finds out whether it gives a function.
    pub(super) fn compile(&self, text: &str, chunk: &str) -> Result<Box<[u8]>, Failure> {
        if text.starts_with('\u{1b}') {
            // Lua believes whatever bytecode says.
            return Err(Failure::Lua("bytecode".to_owned()));
        }
        let failure = |error: Error| self.failure(&error);
        let source = self.lua.load(text).set_name(chunk).set_mode(ChunkMode::Text);
        let environment = self.environment().map_err(failure)?;
        let chunk = source.set_environment(environment).into_function().map_err(failure)?;
        let bytecode = chunk.dump(false);
        match self.run(|| chunk.call::<Value>(()))? {
            Value::Function(_) => Ok(bytecode.into()),
            other => Err(Failure::Lua(format!("Lua that returns a {}", lua_type(&other)))),
        }
    }

    /// The copy of `function` that this thread has.
    pub(super) fn load(&self, function: &Function) -> Result<Rc<Loaded>, Failure> {
        if let Some(loaded) = self.loaded.borrow().get(&function.id) {
            return Ok(loaded.clone());
        }
        let failure = |error: Error| self.failure(&error);
        let environment = self.environment().map_err(failure)?;
        // Nobody but `compile` has made this bytecode.
        let source = self.lua.load(&*function.bytecode).set_mode(ChunkMode::Binary);
        let source = source.set_name(&*function.chunk).set_environment(environment);
        let made = self.run(|| source.call::<mlua::Function>(()))?;
        let conf = match &function.conf {
            Some(conf) => json::to_lua(&self.lua, conf).map_err(failure)?,
            None => Value::Nil,
        };
        let alive = Arc::downgrade(&function.alive);
        let loaded = Rc::new(Loaded { function: made, conf, alive });
        let mut all = self.loaded.borrow_mut();
        if all.len() >= self.sweep_at.get() {
            all.retain(|_, loaded| loaded.alive.strong_count() > 0);
            self.sweep_at.set(SWEEP_AT.max(all.len() * 2));
        }
        all.insert(function.id, loaded.clone());
        Ok(loaded)
    }

    /// Runs `call` within the bounds.
    pub(super) fn run<R>(&self, call: impl FnOnce() -> mlua::Result<R>) -> Result<R, Failure> {
        let running = self.watch.begin();
        let outcome = call();
        drop(running);
        // Whatever it makes of that.
        match self.watch.excess() {
            Some(Excess::Time) => Err(Failure::TooLong(self.limits.timeout)),
            Some(Excess::Stack) => Err(Failure::TooDeep),
            None => outcome.map_err(|error| self.failure(&error)),
        }
    }

    /// Code and body of what a function returned.
    pub(super) fn answer(
        &self,
        returned: &MultiValue,
    ) -> Result<(Option<i64>, Option<Vec<u8>>), Failure> {
        let code = match returned.front() {
            None | Some(Value::Nil) => None,
            Some(Value::Integer(code)) => Some(*code),
            Some(other) => {
                let returned = format!("it returned a {} for a status", lua_type(other));
                return Err(Failure::Lua(returned));
            }
        };
        let body = match returned.get(1) {
            None | Some(Value::Nil) => None,
            Some(table @ Value::Table(_)) => {
                let text = json::encode(table, self.limits.memory_bytes);
                let mut text = text.map_err(|error| Failure::Lua(message(&error)))?;
                text.push(b'\n');
                Some(text)
            }
            Some(Value::String(text)) => Some(text.as_bytes().to_vec()),
            Some(other) => {
                Some(other.to_string().map_err(|error| self.failure(&error))?.into_bytes())
            }
        };
        Ok((code, body))
    }

    pub(super) fn failure(&self, error: &Error) -> Failure {
        match root(error) {
            Error::MemoryError(_) => Failure::TooLarge(self.limits.memory_bytes),
            _ => Failure::Lua(message(error)),
        }
    }

    /// The globals of one function: its own, before those that all have.
    fn environment(&self) -> mlua::Result<Table> {
        let environment = self.lua.create_table()?;
        let shared = self.lua.create_table()?;
        shared.raw_set("__index", &self.globals)?;
        environment.set_metatable(Some(shared))?;
        Ok(environment)
    }

    #[cfg(test)]
    pub(super) fn loaded_count(&self) -> usize {
        self.loaded.borrow().len()
    }

    /// Collects what calls before have left, where that is much: LuaJIT does not when a call needs
    /// more than there is.
    fn make_room(&self) {
        if self.lua.used_memory() > self.left_bytes.get() + self.limits.memory_bytes / 4 {
            self.collect();
        }
    }

    fn collect(&self) {
        // Nothing has a finalizer that could fail.
        let _ = self.lua.gc_collect();
        self.left_bytes.set(self.lua.used_memory());
    }

    /// Whether so much is held that other functions would suffer.
    fn is_exhausted(&self) -> bool {
        let is_over = || self.lua.used_memory() > self.limits.memory_bytes / 4 * 3;
        is_over() && {
            self.collect();
            is_over()
        }
    }
}

fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        other => other.type_name(),
    }
}
