//! The memory of the device: an arena that is part of the program. Nothing else is ever allocated.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};
use linked_list_allocator::LockedHeap;

/// All the memory that there is.
const ARENA_BYTES: usize = 256 << 10;

/// An allocator on an arena, which knows how much of it was in use at most.
pub struct Arena {
    heap: LockedHeap,
    most_used: AtomicUsize,
}

#[global_allocator]
static ARENA: Arena = Arena {
    heap: LockedHeap::empty(),
    most_used: AtomicUsize::new(0),
};

/// Gives the allocator its memory; before anything is allocated.
pub fn begin() {
    static mut BYTES: [u8; ARENA_BYTES] = [0; ARENA_BYTES];
    // SAFETY: `main` calls this once, before anything else, on the only thread; nobody else names the bytes.
    unsafe { ARENA.heap.lock().init((&raw mut BYTES).cast(), ARENA_BYTES) };
}

/// The bytes that were in use at most.
pub fn most_used() -> usize {
    ARENA.most_used.load(Ordering::Relaxed)
}

// SAFETY: both are handed on to the heap, which has the arena to itself.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        let memory = unsafe { self.heap.alloc(layout) };
        self.most_used
            .fetch_max(self.heap.lock().used(), Ordering::Relaxed);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { self.heap.dealloc(memory, layout) };
    }
}
