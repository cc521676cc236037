//! The bounds of a call: how long it may run, how deep it may go, and whether it asked to be ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};

/// Instructions between two looks at the clock: a few microseconds of them.
const PACE: u32 = 1000;

/// How much of its thread's stack a call may take: Lua that calls itself takes none, but through C or
/// Rust (`string.gsub`, a coroutine, `__tostring`) it does. A worker's thread has 2 MiB, and up to
/// [`PACE`] instructions pass between two looks.
const DEEPEST_BYTES: usize = 256 << 10;

/// What a function is told that has had too much of something; what users are told says of what.
pub(super) const SAID: &str = "out of time or stack";

/// Watches over the calls into one Lua state.
pub(super) struct Watch {
    timeout: Duration,
    /// Calls under way: a call may lead to another through a variable that is a function.
    depth: Cell<u32>,
    /// Set at the first look at the clock, so that a short call never looks.
    deadline: Cell<Option<Instant>>,
    /// Where the stack stood when the call began.
    bottom: Cell<usize>,
    excess: Cell<Option<Excess>>,
    exit: Cell<Option<i64>>,
}

/// What a call has had too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Time,
    Stack,
}

/// A call under way.
pub(super) struct Call<'w>(&'w Watch);

// === impl Watch ===

impl Watch {
    pub(super) fn new(timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            timeout,
            depth: Cell::new(0),
            deadline: Cell::new(None),
            bottom: Cell::new(0),
            excess: Cell::new(None),
            exit: Cell::new(None),
        })
    }

    /// Has `lua` look at clock and stack every now and then; also in coroutines.
    pub(super) fn attach(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        let watch = self.clone();
        let every = HookTriggers::new().every_nth_instruction(PACE);
        lua.set_global_hook(every, move |_, _| {
            if watch.is_late() || watch.is_deep() {
                return Err(mlua::Error::runtime(SAID));
            }
            Ok(VmState::Continue)
        })
    }

    /// Begins a call. One inside another has what is left of its time.
    pub(super) fn begin(&self) -> Call<'_> {
        if self.depth.replace(self.depth.get() + 1) == 0 {
            self.deadline.set(None);
            self.bottom.set(stack_position());
            self.excess.set(None);
            self.exit.set(None);
        }
        Call(self)
    }

    /// Whether the call under way has had its time, or too much of something else.
    pub(super) fn is_late(&self) -> bool {
        if self.depth.get() == 0 {
            return false;
        }
        let now = Instant::now();
        match self.deadline.get() {
            None => self.deadline.set(Some(now + self.timeout)),
            Some(deadline) if now >= deadline => self.excess.set(Some(Excess::Time)),
            Some(_) => {}
        }
        self.excess.get().is_some()
    }

    /// Whether the call under way has gone too deep.
    pub(super) fn is_deep(&self) -> bool {
        if self.depth.get() == 0 {
            return false;
        }
        if self.bottom.get().abs_diff(stack_position()) > DEEPEST_BYTES {
            self.excess.set(Some(Excess::Stack));
        }
        self.excess.get().is_some()
    }

    /// What the last call had too much of.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.excess.get()
    }

    /// Notes that the function asked for the end of the exchange.
    pub(super) fn exit(&self, code: i64) {
        self.exit.set(Some(code));
    }

    /// The code that the last call asked to end with.
    pub(super) fn take_exit(&self) -> Option<i64> {
        self.exit.take()
    }

    /// Whether the call under way is to end, whatever the function does about it: errors that say
    /// so are not for its `pcall` to catch.
    pub(super) fn is_ending(&self) -> bool {
        self.excess.get().is_some() || self.exit.get().is_some()
    }
}

/// How far the stack of this thread has come.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

// === impl Call ===

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}
