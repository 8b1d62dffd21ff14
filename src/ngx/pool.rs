//! What lies in nginx's pools: bytes that are kept there, and cleanups, by which what belongs to a pool
//! is found again.

use std::ffi::c_void;
use std::ptr;

use crate::ffi;

/// Copies bytes, with a NUL behind them, as nginx likes them in places. None: no memory.
///
/// # Safety
/// `pool` must be alive.
pub unsafe fn kept(pool: *mut ffi::ngx_pool_t, bytes: &[u8]) -> Option<ffi::ngx_str_t> {
    // SAFETY: by contract; the memory is as long as asked for.
    unsafe {
        let data = ffi::ngx_pnalloc(pool, bytes.len() + 1).cast::<u8>();
        if data.is_null() {
            return None;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        *data.add(bytes.len()) = 0;
        Some(ffi::ngx_str_t { len: bytes.len(), data })
    }
}

/// The data of the first cleanup with this handler; null where there is none.
///
/// # Safety
/// `pool` must be alive.
pub(super) unsafe fn data_of(
    pool: *const ffi::ngx_pool_t,
    handler: unsafe extern "C" fn(*mut c_void),
) -> *mut c_void {
    // SAFETY: by contract; a pool's list of cleanups is nginx's own way to find what belongs to it.
    unsafe {
        let mut entry = (*pool).cleanup;
        while let Some(cleanup) = entry.as_ref() {
            if is(cleanup.handler, handler) {
                return cleanup.data;
            }
            entry = cleanup.next;
        }
    }
    ptr::null_mut()
}

/// A function that C is to call.
type Handler<T> = unsafe extern "C" fn(*mut T);

/// Whether a handler is this one.
pub(super) fn is<T>(handler: Option<Handler<T>>, known: Handler<T>) -> bool {
    handler.map(|handler| handler as usize) == Some(known as usize)
}
