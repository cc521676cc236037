//! The binary's allocator: mimalloc, asked in the way that is fast.
//!
//! Rust tells the alignment with each allocation. mimalloc's functions that take one search for a
//! block that has it; those that take none give one that fits every ordinary type, at a fifth of
//! the instructions.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// What every block of mimalloc is aligned to, however small.
const NATURAL: usize = 8;

/// Takes memory from mimalloc.
pub struct Mimalloc;

#[allow(unsafe_code)]
unsafe extern "C" {
    /// Of `mimalloc.h`; libmimalloc-sys has it only with a crate for the names of C's types.
    fn mi_collect(force: bool);
}

/// Gives memory that the calling thread has freed back to the system, which mimalloc does on its own
/// only while it is being asked for more. Takes a moment for each page of the thread's heap.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: takes nothing that anybody uses.
    unsafe { mi_collect(true) };
}

// SAFETY: each block comes from mimalloc and goes back to it; mimalloc gives blocks of at least
// the size and alignment asked for, or null, and `free` and `realloc` take those of all its
// functions.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the size is not zero, the alignment a power of two.
        unsafe {
            if align <= NATURAL { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
                .cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as for `alloc`.
        unsafe {
            if align <= NATURAL { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
                .cast()
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block is one of mimalloc's.
        unsafe { mi::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the block is one of mimalloc's; else as for `alloc`.
        unsafe {
            if align <= NATURAL {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, align)
            }
            .cast()
        }
    }
}
