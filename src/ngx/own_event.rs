//! An event of the worker's own, that belongs to no connection: what `posted` and `timer` are made of.

use std::cell::Cell;
use std::ptr;

use super::guard::guarded;
use crate::ffi;

/// Made when it is first wanted and never freed: nginx's queues and its tree of timers may hold it until
/// the process ends.
pub(super) struct OwnEvent(Cell<*mut Event>);

/// What nginx sees of it. A timer's data is a connection, whose descriptor goes into debug logs.
#[repr(C)]
struct Event {
    ev: ffi::ngx_event_t,
    connection: ffi::ngx_connection_t,
    due: Option<fn()>,
}

impl OwnEvent {
    /// One that is not made yet.
    pub(super) const fn new() -> OwnEvent {
        OwnEvent(Cell::new(ptr::null_mut()))
    }

    /// nginx's event, alive for ever, which calls `due` once.
    pub(super) fn calling(&self, due: fn()) -> *mut ffi::ngx_event_t {
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
            (*event).ev.log = (*ffi::ngx_cycle).log;
            ptr::addr_of_mut!((*event).ev)
        }
    }

    /// nginx's event, if it has been made.
    pub(super) fn made(&self) -> Option<*mut ffi::ngx_event_t> {
        let event = self.0.get();
        // SAFETY: not null means alive.
        (!event.is_null()).then(|| unsafe { ptr::addr_of_mut!((*event).ev) })
    }
}

unsafe extern "C" fn handler(ev: *mut ffi::ngx_event_t) {
    guarded("an event of the worker", (), || {
        // SAFETY: nginx calls this with the event of `calling`, which is the first field of ours.
        let due = unsafe { (*ev.cast::<Event>()).due.take() };
        if let Some(due) = due {
            due();
        }
    });
}
