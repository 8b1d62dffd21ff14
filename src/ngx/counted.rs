//! Our objects behind the untyped pointers that nginx keeps for its callbacks: an `Rc` whose count
//! somebody else has given away, and takes back.

use std::ffi::c_void;
use std::rc::Rc;

/// The object behind a pointer, with a count of its own for the caller; the one that is there stays.
/// None: null.
///
/// # Safety
/// `data` must be null, or what `Rc::as_ptr` or `Rc::into_raw` has said of an `Rc<T>` that is alive.
pub(super) unsafe fn borrow<T>(data: *const c_void) -> Option<Rc<T>> {
    if data.is_null() {
        return None;
    }
    // SAFETY: by contract.
    unsafe {
        Rc::increment_strong_count(data.cast::<T>());
        Some(Rc::from_raw(data.cast::<T>()))
    }
}
