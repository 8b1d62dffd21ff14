//! Large blocks of an allocator of Lua's, kept from one to the next of their size. memory.rs has them for
//! the worker's VM.
//!
//! Everything comes from that allocator and goes back to it: each block is one of its, and may be freed by
//! it at any time.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

use mlua::ffi::lua_Alloc;

/// Blocks for more than this, half a large string's (memory.rs), and for no more than `LARGEST`, are kept.
pub(super) const SMALLEST: usize = 64 * 1024;
const LARGEST: usize = 4 * 1024 * 1024;
/// Bytes kept at most, of all sizes together.
const TOGETHER: usize = 2 * LARGEST;
/// Sizes are rounded up to one of four for each power of two, so that blocks fit again. Each has
/// room for so much beside: the head of a string and its NUL.
pub(super) const BESIDE: usize = 64;
const STEPS: usize = 4;
const CLASSES: usize = STEPS * (LARGEST.ilog2() - SMALLEST.ilog2()) as usize;

/// The blocks that are kept, by class. Who owns this frees them (`free_all`) before it forgets them.
pub(super) struct Blocks {
    allocate: lua_Alloc,
    ud: *mut c_void,
    classes: [Class; CLASSES],
    /// Bytes of all of them.
    held: Cell<usize>,
}

/// Blocks of one size, the last freed first.
#[derive(Default)]
struct Class {
    first: Cell<*mut Block>,
    count: Cell<usize>,
    /// The least that `count` has been since the last `free_idle`: so many were not needed.
    idle: Cell<usize>,
}

/// How a block that is kept begins.
struct Block {
    next: *mut Block,
}

/// The class of blocks in which `bytes` fit, and their size. None: such blocks are not kept.
pub(super) fn class_of(bytes: usize) -> Option<(usize, usize)> {
    let payload = bytes.saturating_sub(BESIDE);
    if payload <= SMALLEST || payload > LARGEST {
        return None;
    }
    let power = (payload - 1).ilog2();
    let step = (1 << power) / STEPS;
    let steps = (payload - (1 << power)).div_ceil(step);
    let index = STEPS * (power - SMALLEST.ilog2()) as usize + steps - 1;
    Some((index, (1 << power) + steps * step + BESIDE))
}

/// The size of a class's blocks.
fn block_size(index: usize) -> usize {
    let power = SMALLEST << (index / STEPS);
    power + (index % STEPS + 1) * (power / STEPS) + BESIDE
}

impl Blocks {
    /// None yet, of this allocator.
    pub(super) fn new(allocate: lua_Alloc, ud: *mut c_void) -> Self {
        let classes = std::array::from_fn(|_| Class::default());
        Self { allocate, ud, classes, held: Cell::new(0) }
    }

    /// Whether any is kept.
    pub(super) fn has_any(&self) -> bool {
        self.held.get() > 0
    }

    /// The allocator and what it is called with.
    pub(super) fn allocator(&self) -> (lua_Alloc, *mut c_void) {
        (self.allocate, self.ud)
    }

    /// Calls the allocator.
    ///
    /// # Safety
    /// As the allocator's own (lua_Alloc).
    pub(super) unsafe fn own(&self, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
        // SAFETY: by contract.
        unsafe { (self.allocate)(self.ud, block, old, new) }
    }

    /// A kept block of this class, or null.
    pub(super) fn take(&self, index: usize) -> *mut c_void {
        let class = &self.classes[index];
        let block = class.first.get();
        if !block.is_null() {
            // SAFETY: a block that `put` has written to, and that nobody has had since.
            class.first.set(unsafe { (*block).next });
            class.count.set(class.count.get() - 1);
            class.idle.set(class.idle.get().min(class.count.get()));
            self.held.set(self.held.get() - block_size(index));
        }
        block.cast()
    }

    /// Keeps a block that the VM knows as one of `bytes` bytes, or frees it. Small ones make way for
    /// large ones, which cost more.
    ///
    /// # Safety
    /// `block` must be the VM's allocator's, and nobody may use it any more.
    pub(super) unsafe fn put(&self, block: *mut c_void, bytes: usize, index: usize) {
        let size = block_size(index);
        for smaller in 0..index {
            let excess = (self.held.get() + size).saturating_sub(TOGETHER);
            self.free(smaller, excess.div_ceil(block_size(smaller)));
        }
        // SAFETY: by contract. To have it grow to its class costs nothing where it is so large
        // already, as all are that `allocate` has given out; the others are older than this keeper.
        unsafe {
            let fits = self.held.get() + size <= TOGETHER;
            let grown = if fits { self.own(block, bytes, size) } else { ptr::null_mut() };
            if grown.is_null() {
                self.own(block, bytes, 0);
                return;
            }
            let class = &self.classes[index];
            let grown = grown.cast::<Block>();
            grown.write(Block { next: class.first.get() });
            class.first.set(grown);
            class.count.set(class.count.get() + 1);
        }
        self.held.set(self.held.get() + size);
    }

    /// Gives so many blocks of a class back to the VM's allocator, or as many as there are.
    fn free(&self, index: usize, count: usize) {
        for _ in 0..count {
            let block = self.take(index);
            if block.is_null() {
                break;
            }
            // SAFETY: it came from this allocator, and `take` has let go of it.
            unsafe { self.own(block, block_size(index), 0) };
        }
    }

    /// Gives back what has not been needed since this was last called.
    pub(super) fn free_idle(&self) {
        for (index, class) in self.classes.iter().enumerate() {
            self.free(index, class.idle.get());
            class.idle.set(class.count.get());
        }
    }

    /// Gives all back.
    pub(super) fn free_all(&self) {
        for index in 0..CLASSES {
            self.free(index, usize::MAX);
        }
    }
}
