//! The bounds of a call: how long it may run, and whether it asked to be ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};

/// Instructions between two looks at the clock: a few microseconds of them.
const PACE: u32 = 1000;

/// Watches over the calls into one Lua state.
pub(super) struct Watch {
    timeout: Duration,
    /// Calls under way: a call may lead to another through a variable that is a function.
    depth: Cell<u32>,
    /// Set at the first look at the clock, so that a short call never looks.
    deadline: Cell<Option<Instant>>,
    over: Cell<bool>,
    exit: Cell<Option<i64>>,
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
            over: Cell::new(false),
            exit: Cell::new(None),
        })
    }

    /// Has `lua` look at the clock every now and then; also in coroutines.
    pub(super) fn attach(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        let watch = self.clone();
        let every = HookTriggers::new().every_nth_instruction(PACE);
        lua.set_global_hook(every, move |_, _| {
            if watch.is_late() {
                return Err(mlua::Error::runtime("out of time"));
            }
            Ok(VmState::Continue)
        })
    }

    /// Begins a call. One inside another has what is left of its time.
    pub(super) fn begin(&self) -> Call<'_> {
        if self.depth.replace(self.depth.get() + 1) == 0 {
            self.deadline.set(None);
            self.over.set(false);
            self.exit.set(None);
        }
        Call(self)
    }

    /// Whether the call under way has had its time.
    pub(super) fn is_late(&self) -> bool {
        if self.depth.get() == 0 {
            return false;
        }
        let now = Instant::now();
        match self.deadline.get() {
            None => self.deadline.set(Some(now + self.timeout)),
            Some(deadline) if now >= deadline => self.over.set(true),
            Some(_) => {}
        }
        self.over.get()
    }

    /// Whether the last call ran out of time.
    pub(super) fn was_late(&self) -> bool {
        self.over.get()
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
        self.over.get() || self.exit.get().is_some()
    }
}

// === impl Call ===

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}
