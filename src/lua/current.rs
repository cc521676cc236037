//! The exchange that the function which runs is called for.
//!
//! Lua calls back into Rust without arguments of ours, and what it calls must not borrow for
//! longer than a call; so the exchange lies here as a pointer for as long as it is lent, and is
//! borrowed anew by each that asks.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;

use super::Phase;
use crate::context::Ctx;

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Current {
    ctx: NonNull<Ctx>,
    /// Whether the pointer was made of a `&mut`, which nobody else uses now.
    may_change: bool,
    phase: Phase,
}

/// Puts back what was there before, however a scope ends.
struct Restore(Option<Current>);

/// Runs `call` with `ctx` to read and to change.
pub(super) fn lend<R>(ctx: &mut Ctx, phase: Phase, call: impl FnOnce() -> R) -> R {
    let current = Current { ctx: NonNull::from(ctx), may_change: true, phase };
    let _restore = Restore(CURRENT.replace(Some(current)));
    call()
}

/// Runs `call` with `ctx` to read.
pub(super) fn look<R>(ctx: &Ctx, phase: Phase, call: impl FnOnce() -> R) -> R {
    let current = Current { ctx: NonNull::from(ctx), may_change: false, phase };
    let _restore = Restore(CURRENT.replace(Some(current)));
    call()
}

/// The phase that the function is called in.
///
/// # Errors
/// There is no exchange: the function is only being checked.
pub(super) fn phase() -> mlua::Result<Phase> {
    CURRENT.get().map(|current| current.phase).ok_or_else(absent)
}

/// Reads the exchange.
///
/// # Errors
/// As [`phase`].
pub(super) fn read<R>(read: impl FnOnce(&Ctx) -> R) -> mlua::Result<R> {
    let current = CURRENT.get().ok_or_else(absent)?;
    // Whoever `read` leads to may read too, but not change.
    let _restore = Restore(CURRENT.replace(Some(Current { may_change: false, ..current })));
    // SAFETY: `lend` or `look` lies below us on this thread's stack and keeps the exchange
    // borrowed until it returns; the only `&mut` made of the pointer is that of `change`, which
    // takes the pointer away for as long as it lasts.
    Ok(read(unsafe { current.ctx.as_ref() }))
}

/// Changes the exchange.
///
/// # Errors
/// There is none, or it can only be read in this phase.
pub(super) fn change<R>(change: impl FnOnce(&mut Ctx) -> R) -> mlua::Result<R> {
    let mut current = CURRENT.get().ok_or_else(absent)?;
    if !current.may_change {
        return Err(mlua::Error::runtime("nothing of the exchange can be changed in this phase"));
    }
    let _restore = Restore(CURRENT.replace(None));
    // SAFETY: as above; the pointer was made of a `&mut` that `lend` holds and does not use, and
    // nobody finds it here until we are done, so this is the only reference.
    Ok(change(unsafe { current.ctx.as_mut() }))
}

fn absent() -> mlua::Error {
    mlua::Error::runtime("there is no request here: that works only inside the function")
}

// === impl Restore ===

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
