//! An event of the worker's own that is called once what runs now has returned, or in the next turn of
//! the event loop. For what must not be done in the middle of somebody else's call.

use std::ptr;

use super::own_event::OwnEvent;
use crate::ffi;

/// To be held in a `PerWorker` or `thread_local!`.
pub struct Posted(OwnEvent);

impl Posted {
    /// An event that is not posted.
    pub const fn new() -> Posted {
        Posted(OwnEvent::new())
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
        // SAFETY: the event lives for ever; the queues are nginx's own.
        unsafe { ffi::ngx_post_event(self.0.calling(due), queue) };
    }
}
