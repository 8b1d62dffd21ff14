//! A link whose request nginx has terminated and may not free yet: what was sent before still leaves, for
//! as long as the peer takes it. `takeover` decides when.

use super::Link;
use crate::ffi;
use crate::ngx::transport::Transport;
use crate::ngx::wire::Io;

impl Link {
    /// Keeps the request from being freed while a terminated request's output drains: nginx waits
    /// for `blocked` to be given back (as it does for file AIO). `ms` limits each wait.
    pub(in crate::ngx) fn hold(&self, ms: u64) {
        let (c, r) = (self.c.get(), self.r.get());
        // SAFETY: called from the request's cleanup, where both are alive.
        unsafe {
            let main = (*r).main;
            ffi::HTTP_REQUEST_BLOCKED.set(main, ffi::HTTP_REQUEST_BLOCKED.get(main) + 1);
            ffi::ngx_add_timer((*c).write, ms as ffi::ngx_msec_t);
            // That a worker quits has been told. With the mark of a terminated request it would be
            // taken for worker_shutdown_timeout, see `must_drop`.
            (*c).set_close(0);
        }
        self.held.set(true);
        self.want_write();
        self.post_flush();
    }

    /// Restarts the send timer of a draining request after progress.
    pub(in crate::ngx) fn extend_send_timer(&self, ms: u64) {
        let c = self.c.get();
        // SAFETY: not null means alive.
        unsafe {
            if !c.is_null() && (*(*c).write).timer_set() != 0 {
                ffi::ngx_add_timer((*c).write, ms as ffi::ngx_msec_t);
            }
        }
    }

    /// Has the read handler called in `ms` milliseconds, unless that is under way already.
    pub(in crate::ngx) fn add_read_timer(&self, ms: u64) {
        let c = self.c.get();
        // SAFETY: not null means alive.
        unsafe {
            if !c.is_null() && (*(*c).read).timer_set() == 0 {
                ffi::ngx_add_timer((*c).read, ms as ffi::ngx_msec_t);
            }
        }
    }

    pub(in crate::ngx) fn take_hold(&self) -> bool {
        self.held.replace(false)
    }
}
