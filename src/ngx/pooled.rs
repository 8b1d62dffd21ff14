//! Values in the unused rest of a request's pool. nginx gives a request whole blocks of
//! `request_pool_size`, and the last is half empty as a rule: a value that lives no longer than its
//! request costs nothing there. Used by `link` for its events and by sessions for their state.

use std::cell::{BorrowMutError, Cell, Ref, RefCell, RefMut};
use std::ptr::{self, NonNull};

use super::request::Request;
use crate::ffi;

/// So much must be left for whatever the handler asks of nginx: another block would cost more than
/// was saved.
const SPARE: usize = 1024;

/// Memory for a `T` in what is left of the pool's blocks; None where that is not enough.
///
/// # Safety
/// `pool` must be alive. The memory is the pool's.
pub(super) unsafe fn rest_of<T>(pool: *mut ffi::ngx_pool_t) -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= ffi::NGX_ALIGNMENT) };
    // SAFETY: by contract; `current` is where nginx begins to look (ngx_palloc_small).
    unsafe {
        if size_of::<T>() > (*pool).max {
            return None;
        }
        let mut block = (*pool).current;
        while !block.is_null() {
            let left = (*block).d.end as usize - (*block).d.last as usize;
            if left >= size_of::<T>() + SPARE {
                return NonNull::new(ffi::ngx_palloc(pool, size_of::<T>()).cast());
            }
            block = (*block).d.next;
        }
        None
    }
}

/// A `RefCell` in a request's pool, or on the heap where the pool has no room left.
///
/// Owned by whoever made it, who may outlive the request: it must be told by `leave` before the pool
/// is destroyed, which `takeover` sees to for sessions, and is on the heap from then on. Nothing but
/// borrows is handed out, and `leave` refuses while there is one, so no reference is left behind.
pub struct Pooled<T> {
    cell: Cell<NonNull<RefCell<T>>>,
    on_heap: Cell<bool>,
}

impl<T> Pooled<T> {
    /// Puts `value` into the pool of `r`, if it has room.
    pub fn new(r: Request, value: T) -> Pooled<T> {
        let cell = RefCell::new(value);
        // SAFETY: r is alive (Request's contract); the memory is fresh, aligned and large enough.
        let room = unsafe { rest_of::<RefCell<T>>((*r.as_ptr()).pool) };
        let (place, on_heap) = match room {
            Some(place) => {
                // SAFETY: as above.
                unsafe { place.write(cell) };
                (place, false)
            }
            None => (NonNull::from(Box::leak(Box::new(cell))), true),
        };
        Pooled { cell: Cell::new(place), on_heap: Cell::new(on_heap) }
    }

    fn cell(&self) -> &RefCell<T> {
        // SAFETY: the cell lives as long as self, and stays where it is while it is borrowed.
        unsafe { self.cell.get().as_ref() }
    }

    /// `RefCell::borrow`.
    #[inline]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.cell().borrow()
    }

    /// `RefCell::borrow_mut`.
    #[inline]
    pub fn borrow_mut(&self) -> RefMut<'_, T> {
        self.cell().borrow_mut()
    }

    /// Moves to the heap. An error, and nothing is done, while it is borrowed.
    pub fn leave(&self) -> Result<(), BorrowMutError> {
        drop(self.cell().try_borrow_mut()?);
        if !self.on_heap.replace(true) {
            // SAFETY: nobody else refers to the cell (see the type), and the pool's copy is not
            // looked at again.
            let moved = Box::new(unsafe { self.cell.get().read() });
            self.cell.set(NonNull::from(Box::leak(moved)));
        }
        Ok(())
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        let cell = self.cell.get().as_ptr();
        // SAFETY: ours alone; dropped once, where it is.
        unsafe {
            if self.on_heap.get() {
                drop(Box::from_raw(cell));
            } else {
                ptr::drop_in_place(cell);
            }
        }
    }
}
