//! Bytes that are lent to Lua until they have been copied into a string. Making a string lets the
//! collector take a step, and a finalizer may do anything meanwhile, such as receive on another
//! connection, or on the same. So while something is lent nothing that bytes may lie in is freed or
//! written to: buffers that would be used again are held (`hold`), and others are taken for them.
//! Used by whatever owns such memory, by the Lua entry and by fast.lua.

use std::cell::{Cell, RefCell};

use super::per_worker::PerWorker;

/// What the calls by FFI hand out: fast.lua's `struct nlw_view`. One for all, because nothing else
/// is handed out while it is in use.
#[repr(C)]
pub struct View {
    /// Where the bytes lie.
    pub data: Cell<*const u8>,
    /// How many there are.
    pub len: Cell<u32>,
    /// A close frame's code; -1 for none.
    pub code: Cell<i32>,
    /// Whether something is lent, by this view or otherwise. fast.lua sets it to 0 once it has its
    /// copy.
    lent: Cell<u32>,
}

static VIEW: PerWorker<View> = PerWorker::new(View {
    data: Cell::new(std::ptr::null()),
    len: Cell::new(0),
    code: Cell::new(-1),
    lent: Cell::new(0),
});
static HELD: PerWorker<RefCell<Vec<Vec<u8>>>> = PerWorker::new(RefCell::new(Vec::new()));

/// Whether anything is held.
static HOLDS: PerWorker<Cell<bool>> = PerWorker::new(Cell::new(false));

/// The view.
#[inline]
pub fn view() -> &'static View {
    &VIEW
}

/// Whether bytes are lent: a finalizer is running.
#[inline]
pub fn is_lent() -> bool {
    VIEW.lent.get() != 0
}

/// Lends what `view` describes.
#[inline]
pub fn lend() {
    VIEW.lent.set(1);
}

/// Runs `copy`, to which bytes are lent.
#[inline]
pub fn while_lent<R>(copy: impl FnOnce() -> R) -> R {
    let before = VIEW.lent.replace(1);
    let result = copy();
    VIEW.lent.set(before);
    result
}

/// Keeps memory as it is until nothing is lent any more.
#[cold]
pub fn hold(memory: Vec<u8>) {
    HOLDS.set(true);
    HELD.borrow_mut().push(memory);
}

/// An event of nginx's: no Lua code is running, so whatever was lent has been copied, or its copy
/// could not be made (a Lua error for want of memory).
#[inline]
pub fn over() {
    if VIEW.lent.replace(0) != 0 || HOLDS.replace(false) {
        HELD.take();
    }
}
