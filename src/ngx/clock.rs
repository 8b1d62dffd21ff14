//! nginx's cached clock. One reading per event-loop turn, as every nginx timer uses it.

use crate::ffi;

/// Milliseconds of nginx's monotonic clock (`ngx_current_msec`).
pub fn now_ms() -> u64 {
    // SAFETY: a plain integer that only this thread's event loop writes.
    unsafe { ffi::ngx_current_msec as u64 }
}
