//! nginx's cached clocks. One reading per event-loop turn, as every nginx timer uses it.

use crate::ffi;

/// Milliseconds of nginx's monotonic clock (`ngx_current_msec`).
pub fn now_ms() -> u64 {
    // SAFETY: a plain integer that only this thread's event loop writes.
    unsafe { ffi::ngx_current_msec as u64 }
}

/// Milliseconds since 1970, by nginx's clock of the day.
pub fn wall_ms() -> u64 {
    // SAFETY: nginx updates its cached time in its own loop, in this thread; the pointer is to one of
    // its static slots from the first update on, which comes before any module's code.
    unsafe {
        let time = ffi::ngx_cached_time;
        (*time).sec as u64 * 1000 + (*time).msec as u64
    }
}
