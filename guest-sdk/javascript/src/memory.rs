//! The allocator: how much QuickJS may use, and enough left to say so.
//!
//! QuickJS's own limit would leave nothing for the error that tells of it: the script would catch `null`. Here a block is held
//! in reserve; it is given up when an allocation is refused, and taken again when memory is free.
//!
//! Only QuickJS is limited. Rust's small needs (names, texts of errors) come out of the difference to the limit of the sandbox.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed},
};

/// Bytes that QuickJS may use: a little less than the 64 MiB of the sandbox, so that a script meets an error it can catch.
const LIMIT: usize = 56 << 20;

/// Enough for several errors with their stack traces.
const RESERVE: Layout = match Layout::from_size_align(64 << 10, QUICKJS_ALIGNMENT) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// What the C allocator adds to a block, roughly.
const OVERHEAD: usize = 8;

/// rquickjs aligns QuickJS's blocks to 8 bytes. Rust's own blocks here hold text and pointers, which need less: a Rust block
/// that needs as much is limited too, which does no harm.
const QUICKJS_ALIGNMENT: usize = 8;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {
    used: AtomicUsize::new(0),
    reserve: AtomicPtr::new(null_mut()),
    retake_below: AtomicUsize::new(0),
    refused: AtomicBool::new(false),
};

/// Atomics only because a static asks for them: the sandbox has one thread.
struct Allocator {
    used: AtomicUsize,
    reserve: AtomicPtr<u8>,
    /// Once this little is used, the reserve is taken again: not at once, or the error would find it gone.
    retake_below: AtomicUsize,
    refused: AtomicBool,
}

/// Takes the reserve for the first time.
pub fn arm() {
    ALLOCATOR.take_reserve();
}

/// Whether an allocation was refused at some time.
pub fn was_refused() -> bool {
    ALLOCATOR.refused.load(Relaxed)
}

impl Allocator {
    /// Notes that `new` bytes take the place of `old`, unless that is over the limit.
    fn fits(&self, old: usize, new: usize) -> bool {
        let used = self.used.load(Relaxed) - old + new;
        if used > LIMIT {
            self.refuse();
            return false;
        }
        if used < self.retake_below.load(Relaxed) {
            self.take_reserve();
        }
        true
    }

    fn count(&self, old: usize, new: usize) {
        self.used.store(self.used.load(Relaxed) - old + new, Relaxed);
    }

    fn take_reserve(&self) {
        // SAFETY: the layout is not empty.
        let block = unsafe { System.alloc(RESERVE) };
        if !block.is_null() {
            self.count(0, RESERVE.size());
            self.reserve.store(block, Relaxed);
            self.retake_below.store(0, Relaxed);
        }
    }

    /// Gives the reserve up, so that the next small allocations succeed.
    fn refuse(&self) {
        self.refused.store(true, Relaxed);
        let block = self.reserve.swap(null_mut(), Relaxed);
        if !block.is_null() {
            self.retake_below.store(self.used.load(Relaxed).saturating_sub(4 * RESERVE.size()), Relaxed);
            self.count(RESERVE.size(), 0);
            // SAFETY: `take_reserve` allocated it with this layout, and nobody else has the pointer.
            unsafe { System.dealloc(block, RESERVE) };
        }
    }

    /// Allocates with `allocate`; Rust, which would abort, gets a second try with what the reserve was.
    fn allocate(&self, layout: Layout, old: usize, new: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
        let limited = layout.align() >= QUICKJS_ALIGNMENT;
        if limited && !self.fits(old, new) {
            return null_mut();
        }
        let block = allocate();
        if block.is_null() {
            self.refuse();
            return if limited { block } else { allocate() };
        }
        if limited {
            self.count(old, new);
        }
        block
    }
}

// SAFETY: every block comes from `System` and goes back to it with the layout it came with.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, 0, layout.size() + OVERHEAD, || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, 0, layout.size() + OVERHEAD, || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() >= QUICKJS_ALIGNMENT {
            self.count(layout.size() + OVERHEAD, 0);
        }
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.allocate(layout, layout.size() + OVERHEAD, size + OVERHEAD, || unsafe { System.realloc(block, layout, size) })
    }
}
