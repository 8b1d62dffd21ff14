//! The counters of nginx's stub_status module, which nginx has where it was built with that. They
//! follow connections and requests that nginx makes; what we do otherwise is corrected here.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

/// One of the counters.
pub(super) struct Counter {
    name: &'static CStr,
    /// Where nginx has its address; null: nowhere.
    found: OnceLock<usize>,
}

/// Connections that are open.
pub(super) static ACTIVE: Counter = Counter { name: c"ngx_stat_active", found: OnceLock::new() };
/// Requests that were begun.
pub(super) static REQUESTS: Counter =
    Counter { name: c"ngx_stat_requests", found: OnceLock::new() };

impl Counter {
    /// Takes one off, if nginx has this counter.
    pub(super) fn take_one(&self) {
        // SAFETY: looks a symbol up.
        let look_up = || unsafe { libc::dlsym(libc::RTLD_DEFAULT, self.name.as_ptr()) as usize };
        let counter = *self.found.get_or_init(look_up) as *const *const AtomicUsize;
        // SAFETY: null, or a pointer to a counter in memory shared by all workers, which nginx
        // changes atomically too.
        if let Some(counter) = unsafe { counter.as_ref() } {
            // SAFETY: as above.
            unsafe { (**counter).fetch_sub(1, Ordering::Relaxed) };
        }
    }
}
