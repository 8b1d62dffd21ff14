//! An event of the worker's own that is called once what runs now has returned, or in the next turn of
//! the event loop. For what must not be done in the middle of somebody else's call.

use std::cell::Cell;
use std::ptr;

use super::guard::guarded;
use crate::ffi;

/// To be held in a `PerWorker` or `thread_local!`. Its event is made by the first `post` and never
/// freed: nginx's queue may hold it until the process ends.
pub struct Posted(Cell<*mut Event>);

/// What nginx sees of it.
#[repr(C)]
struct Event {
    ev: ffi::ngx_event_t,
    due: Option<fn()>,
}

impl Posted {
    /// An event that is not posted.
    pub const fn new() -> Posted {
        Posted(Cell::new(ptr::null_mut()))
    }

    /// Has `due` called in this turn, once however often it is asked for until then.
    pub fn post(&self, due: fn()) {
        self.post_to(ptr::addr_of_mut!(ffi::ngx_posted_events), due);
    }

    /// Has `due` called in the next turn, likewise.
    pub fn post_next(&self, due: fn()) {
        self.post_to(ptr::addr_of_mut!(ffi::ngx_posted_next_events), due);
    }

    fn post_to(&self, queue: *mut ffi::ngx_queue_t, due: fn()) {
        // SAFETY: a zeroed ngx_event_t is nginx's own initial state (ngx_calloc), and a null function
        // is None. What is made here lives for ever; the queues are nginx's own.
        unsafe {
            if self.0.get().is_null() {
                let event: *mut Event = Box::into_raw(Box::new(std::mem::zeroed()));
                (*event).ev.handler = Some(handler);
                self.0.set(event);
            }
            let event = self.0.get();
            (*event).due = Some(due);
            (*event).ev.log = (*ffi::ngx_cycle).log;
            ffi::ngx_post_event(ptr::addr_of_mut!((*event).ev), queue);
        }
    }
}

unsafe extern "C" fn handler(ev: *mut ffi::ngx_event_t) {
    guarded("posted event", (), || {
        // SAFETY: nginx calls this with the event of `post`, which is the first field of ours.
        let due = unsafe { (*ev.cast::<Event>()).due.take() };
        if let Some(due) = due {
            due();
        }
    });
}
