//! Bytes that are lent to Lua until they have been copied into a string. Making a string lets the
//! collector take a step, and a finalizer may do anything meanwhile, such as receive on another
//! connection, or on the same. So while something is lent nothing that bytes may lie in is freed or
//! written to: buffers that would be used again are held (`hold`), and others are taken for them.
//! Used by whatever owns such memory, by the Lua entry and by fast.lua.

use std::cell::{Cell, RefCell};

use super::per_worker::PerWorker;
use super::posted::Posted;

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
    /// Whether something is lent, by this view or otherwise: 1 until it is copied, or the number of
    /// what stays lent. fast.lua sets it to 0 once it has its copy, serving.lua once the callback has
    /// returned.
    lent: Cell<u32>,
    /// What stays lent is a text, valid as such.
    pub text: Cell<bool>,
}

impl View {
    /// Whether it is lent by this number.
    pub fn is_lent_by(&self, number: u32) -> bool {
        self.lent.get() == number && number > 1
    }
}

static VIEW: PerWorker<View> = PerWorker::new(View {
    data: Cell::new(std::ptr::null()),
    len: Cell::new(0),
    code: Cell::new(-1),
    lent: Cell::new(0),
    text: Cell::new(false),
});
/// The last number that something was lent by.
static NUMBER: PerWorker<Cell<u32>> = PerWorker::new(Cell::new(1));
static HELD: PerWorker<RefCell<Vec<Vec<u8>>>> = PerWorker::new(RefCell::new(Vec::new()));

thread_local! {
    static OVER: Posted = const { Posted::new() };
}

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

/// Lends what `view` describes to a callback, until that has returned or the Lua code that runs now
/// waits: by a number of its own, so that whoever looks later sees that it is gone.
#[inline]
pub fn lend_by_number(text: bool) {
    NUMBER.set(NUMBER.get().wrapping_add(1).max(2));
    VIEW.lent.set(NUMBER.get());
    VIEW.text.set(text);
    OVER.with(|event| event.post(over));
}

/// Runs `copy`, to which bytes are lent. What a callback has stays its own meanwhile.
#[inline]
pub fn while_lent<R>(copy: impl FnOnce() -> R) -> R {
    let before = VIEW.lent.get();
    VIEW.lent.set(before.max(1));
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
