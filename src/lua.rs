//! Lua functions of the config: compiled with it, run by workers within bounds.
//!
//! [`Function`] is what `filter_func`, `_meta.pre_function` and the serverless plugins hold: it was
//! compiled, and found to be a function, when its resource was. A worker loads it at its first
//! call into the Lua state of its thread ([`state`]), calls it without a lock, and ends it when it
//! takes too long or too much memory ([`watch`]). [`surface`] is what functions find there:
//! `ngx`, `require("apisix.core")` and a standard library without files, processes or `debug`.
//! [`current`] lends them the exchange they are called for, and [`exchange`] keeps what they leave
//! in it.
//!
//! The language is that of OpenResty: LuaJIT, with what it takes of Lua 5.2. Its interpreter alone:
//! machine code is not interrupted, and `jit` and `ffi` lead past every bound, so neither is opened.
//! LuaJIT does not count how deep calls go through C and Rust either, so [`watch`] looks at the stack.
//!
//! Never waits: there are no sockets, timers or `ngx.sleep` here.

mod current;
mod exchange;
mod state;
mod surface;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use mlua::{MultiValue, Value};

use self::state::State;
use crate::context::{Chunk, Ctx, Reply};
use crate::resource::Invalid;

const _: () = assert!(
    match option_env!("TARGET_FLAGS") {
        Some(flags) => matches!(flags.as_bytes(), b"-DLUAJIT_NO_UNWIND"),
        None => false,
    },
    "LuaJIT has to be built as .cargo/config.toml says: run `cargo clean -p mlua-sys`, then cargo in \
     the checkout, and without a TARGET_FLAGS of your own"
);

/// How much of a worker one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may run.
    pub timeout: Duration,
    /// Bytes that the Lua state of a worker may hold, all functions together.
    pub memory_bytes: usize,
}

/// A compiled function of one resource.
pub struct Function {
    /// Tells workers' loaded copies apart.
    id: u64,
    /// As error messages name it: `[string "…"]`.
    chunk: Box<str>,
    bytecode: Box<[u8]>,
    /// Whose it is, for the log: `routes/1 filter_func`.
    label: Box<str>,
    /// What it gets as its first argument.
    conf: Option<serde_json::Value>,
    limits: Limits,
    /// Workers let a copy go when this is gone.
    alive: Arc<()>,
}

/// When a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// While the route is looked for.
    Match,
    /// Before the upstream is asked: rewrite, access and before_proxy.
    Access,
    HeaderFilter,
    BodyFilter,
    Log,
}

/// What became of a call.
pub enum Outcome {
    /// Go on.
    Next,
    /// The function ended the exchange with this.
    Respond(Box<Reply>),
    /// It failed, and the log says why.
    Failed,
}

/// Why a call came to no end of its own.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it ran for longer than {0:?} (sluice.lua.timeout)")]
    TooLong(Duration),
    #[error("Lua needs more than {0} bytes on this worker (sluice.lua.memory)")]
    TooLarge(usize),
    #[error("it calls itself too deep through functions that are not Lua")]
    TooDeep,
    #[error("what it kept of this response went with the Lua state that had no memory left")]
    Lost,
    #[error("{0}")]
    Lua(String),
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(100), memory_bytes: 64 << 20 }
    }
}

// === impl Function ===

impl Function {
    /// Compiles the text of a `filter_func`, an expression: `function(vars) … end`.
    ///
    /// # Errors
    /// What Lua says of it, with the line, as a problem with an empty path.
    pub fn filter(text: &str, label: &str, limits: Limits) -> Result<Self, Invalid> {
        let chunk = format!("return {text}");
        Self::compile(&chunk, &chunk, "a Lua function: function(vars) … end", label, None, limits)
    }

    /// Compiles a chunk that returns a function of `conf` and the exchange:
    /// `return function(conf, ctx) … end`. `name` is what error messages call it instead of its
    /// text.
    ///
    /// # Errors
    /// As [`Function::filter`].
    pub fn chunk(
        text: &str,
        name: Option<&str>,
        label: &str,
        conf: serde_json::Value,
        limits: Limits,
    ) -> Result<Self, Invalid> {
        let expected = "Lua that returns a function: return function(conf, ctx) … end";
        Self::compile(text, name.unwrap_or(text), expected, label, Some(conf), limits)
    }

    fn compile(
        text: &str,
        chunk: &str,
        expected: &str,
        label: &str,
        conf: Option<serde_json::Value>,
        limits: Limits,
    ) -> Result<Self, Invalid> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let bytecode = state::with(limits, |state| state.compile(text, chunk))
            .map_err(|failure| Invalid::new("", failure, expected))?;
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            chunk: chunk.into(),
            bytecode,
            label: label.into(),
            conf,
            limits,
            alive: Arc::new(()),
        })
    }

    /// Whether the request of `ctx` is the one that this `filter_func` looks for. A function that
    /// fails looks for none.
    pub fn accepts(&self, ctx: &Ctx) -> bool {
        let answer = state::with(self.limits, |state| {
            let loaded = state.load(self)?;
            let call = || loaded.function.call::<Value>(&state.vars);
            current::look(ctx, Phase::Match, || state.run(call))
        });
        match answer {
            Ok(answer) => !matches!(answer, Value::Nil | Value::Boolean(false)),
            Err(failure) => {
                self.report(&failure);
                false
            }
        }
    }

    /// Calls it with its config and the exchange.
    pub fn call(&self, phase: Phase, ctx: &mut Ctx) -> Outcome {
        ctx.response.join();
        let called = state::with(self.limits, |state| {
            let call = self.bound(state, ctx)?;
            let returned = current::lend(ctx, phase, || state.run(call));
            match state.watch.take_exit() {
                Some(code) => Ok((Some(code), None)),
                None => state.answer(&returned?),
            }
        });
        match called {
            Ok((None, None)) => Outcome::Next,
            Ok((code, body)) if phase == Phase::Access => end(ctx, code, body),
            // The head is on its way: nothing is left to be answered.
            Ok(_) => Outcome::Next,
            Err(failure) => {
                self.report(&failure);
                Outcome::Failed
            }
        }
    }

    /// Calls it with a piece of the response's body, `ngx.arg`, of which it may make another. Whether
    /// it could: if not, the log says why, and the piece is what it had made of it.
    pub fn filter_body(&self, ctx: &Ctx, chunk: &mut Chunk) -> bool {
        let called = state::with(self.limits, |state| {
            if exchange::is_lost(state, ctx) {
                // A part of the body may have been in it: what follows must not pass for all.
                return Err(Failure::Lost);
            }
            let call = self.bound(state, ctx)?;
            let kept = exchange::of(state, ctx)?;
            kept.chunk.replace(Some(std::mem::take(chunk)));
            let returned = current::look(ctx, Phase::BodyFilter, || state.run(call));
            *chunk = kept.chunk.take().unwrap_or_default();
            if state.watch.take_exit().is_some() { Ok(()) } else { returned.map(drop) }
        });
        if let Err(failure) = &called {
            self.report(failure);
        }
        called.is_ok()
    }

    /// Calls it where nothing can be changed any more.
    pub fn look(&self, phase: Phase, ctx: &Ctx) {
        let called = state::with(self.limits, |state| {
            let call = self.bound(state, ctx)?;
            let returned = current::look(ctx, phase, || state.run(call));
            if state.watch.take_exit().is_some() { Ok(()) } else { returned.map(drop) }
        });
        if let Err(failure) = called {
            self.report(&failure);
        }
    }

    /// The call with its arguments.
    fn bound(
        &self,
        state: &State,
        ctx: &Ctx,
    ) -> Result<impl FnOnce() -> mlua::Result<MultiValue> + use<>, Failure> {
        let loaded = state.load(self)?;
        let api = exchange::of(state, ctx)?.api.clone();
        Ok(move || loaded.function.call::<MultiValue>((&loaded.conf, api)))
    }

    fn report(&self, failure: &Failure) {
        if let Some(unwritten) = state::may_report() {
            let function = &*self.label;
            tracing::error!(function, reason = %failure, unwritten, "a Lua function failed");
        }
    }
}

/// Ends an exchange as a function asked for: with a status, or with what was printed before.
///
/// Source: APISIX `core/response.lua`; lua-nginx-module's `ngx.exit`.
fn end(ctx: &mut Ctx, code: Option<i64>, body: Option<Vec<u8>>) -> Outcome {
    if let Some(mut said) = ctx.said.take() {
        if let Some(body) = body {
            said.push(&body);
        }
        return Outcome::Respond(said);
    }
    let status = match code {
        // `ngx.OK` ends the function alone.
        Some(0) => return Outcome::Next,
        Some(code) => u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()),
        None => None,
    };
    let status = status.filter(|status| status.as_u16() >= 200);
    let mut reply = Box::new(Reply::status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)));
    if let Some(body) = body {
        reply.push(&body);
    }
    Outcome::Respond(reply)
}

#[cfg(test)]
mod tests;
