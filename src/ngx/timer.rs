//! A timer of the worker's own, for what is done now and then and belongs to no connection. Used by
//! whoever keeps memory for a while, and by `wake`.

use std::cell::Cell;
use std::ptr;

use super::guard::guarded;
use crate::ffi;

/// To be held in a `thread_local!`. Its event is made by the first `set` and never freed: nginx's
/// timer tree may hold it until the process ends. It does not keep a quitting worker alive.
pub struct Timer(Cell<*mut Event>);

/// What nginx sees of it. A timer's data is a connection, whose descriptor goes into debug logs.
#[repr(C)]
struct Event {
    ev: ffi::ngx_event_t,
    connection: ffi::ngx_connection_t,
    due: Option<fn()>,
}

impl Timer {
    /// A timer that is not set.
    pub const fn new() -> Timer {
        Timer(Cell::new(ptr::null_mut()))
    }

    /// Has `due` called once, in `ms` milliseconds, on this worker's event loop, instead of what
    /// was due before.
    pub fn set(&self, ms: u64, due: fn()) {
        // SAFETY: zeroed structs are nginx's own initial state (ngx_calloc), and a null function is
        // None. What is made here lives for ever.
        unsafe {
            if self.0.get().is_null() {
                let event: *mut Event = Box::into_raw(Box::new(std::mem::zeroed()));
                (*event).connection.fd = -1;
                (*event).ev.data = ptr::addr_of_mut!((*event).connection).cast();
                (*event).ev.handler = Some(handler);
                self.0.set(event);
            }
            let event = self.0.get();
            (*event).due = Some(due);
            (*event).ev.set_cancelable(1);
            (*event).ev.log = (*ffi::ngx_cycle).log;
            ffi::ngx_add_timer(ptr::addr_of_mut!((*event).ev), ms as ffi::ngx_msec_t);
        }
    }

    /// As `set`; the worker does not quit before.
    pub fn hold(&self, ms: u64, due: fn()) {
        self.set(ms, due);
        // SAFETY: made by `set`, and alive for ever.
        unsafe { (*self.0.get()).ev.set_cancelable(0) };
    }

    /// Nothing is due any more.
    pub fn cancel(&self) {
        let event = self.0.get();
        // SAFETY: made by `set`, and alive for ever.
        unsafe {
            if !event.is_null() && (*event).ev.timer_set() != 0 {
                ffi::ngx_del_timer(ptr::addr_of_mut!((*event).ev));
            }
        }
    }
}

unsafe extern "C" fn handler(ev: *mut ffi::ngx_event_t) {
    guarded("timer", (), || {
        // SAFETY: nginx calls this with an event of `set`, which is the first field of ours.
        let due = unsafe { (*ev.cast::<Event>()).due.take() };
        if let Some(due) = due {
            due();
        }
    });
}
