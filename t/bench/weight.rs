//! How much memory something takes: what was asked of the allocator while it was made.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sluice::allocator::Mimalloc;

/// The binary's allocator, which notes what is asked of it while something is weighed.
pub struct Scales;

static IN_USE: AtomicBool = AtomicBool::new(false);

/// Bytes taken and not given back.
static BYTES: AtomicI64 = AtomicI64::new(0);

/// Makes something; and tells the bytes that are in use for it.
pub fn weigh<T>(make: impl FnOnce() -> T) -> (T, i64) {
    BYTES.store(0, Ordering::Relaxed);
    IN_USE.store(true, Ordering::Relaxed);
    let made = make();
    IN_USE.store(false, Ordering::Relaxed);
    (made, BYTES.load(Ordering::Relaxed))
}

fn note(change: i64) {
    if IN_USE.load(Ordering::Relaxed) {
        BYTES.fetch_add(change, Ordering::Relaxed);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call goes to the allocator that the block is from, as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Scales {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise is handed on.
        unsafe { Mimalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise is handed on.
        unsafe { Mimalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: the caller's promise is handed on.
        unsafe { Mimalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(signed(size) - signed(layout.size()));
        // SAFETY: the caller's promise is handed on.
        unsafe { Mimalloc.realloc(block, layout, size) }
    }
}
