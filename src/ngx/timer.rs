//! A timer of the worker's own, for what is done now and then and belongs to no connection. Used by
//! whoever keeps memory for a while, and by `wake`.

use super::own_event::OwnEvent;
use crate::ffi;

/// To be held in a `thread_local!`. It does not keep a quitting worker alive.
pub struct Timer(OwnEvent);

impl Timer {
    /// A timer that is not set.
    pub const fn new() -> Timer {
        Timer(OwnEvent::new())
    }

    /// Has `due` called once, in `ms` milliseconds, on this worker's event loop, instead of what
    /// was due before.
    pub fn set(&self, ms: u64, due: fn()) {
        self.start(ms, due, true);
    }

    /// As `set`; the worker does not quit before.
    pub fn hold(&self, ms: u64, due: fn()) {
        self.start(ms, due, false);
    }

    fn start(&self, ms: u64, due: fn(), cancelable: bool) {
        let ev = self.0.calling(due);
        // SAFETY: the event lives for ever.
        unsafe {
            (*ev).set_cancelable(u32::from(cancelable));
            ffi::ngx_add_timer(ev, ms as ffi::ngx_msec_t);
        }
    }

    /// Nothing is due any more.
    pub fn cancel(&self) {
        let Some(ev) = self.0.made() else { return };
        // SAFETY: the event lives for ever.
        unsafe {
            if (*ev).timer_set() != 0 {
                ffi::ngx_del_timer(ev);
            }
        }
    }
}
