//! A link that goes on without its request: when it may, what becomes of its events, and how it gets a
//! request again. What is done to the request itself is `parting`'s.

use std::ptr;

use super::{Events, Link, Parted, Parts, Stay, BUFFERED};
use crate::ffi;

impl Link {
    /// Has the request freed as soon as nothing but the link holds it.
    pub fn want_parting(&self) {
        self.parts.set(Parts::Wanted);
    }

    /// Whether the request may be freed now, as far as this link knows.
    pub(in crate::ngx) fn may_part(&self) -> bool {
        let returned = self.stay.get() != Stay::Awaits;
        self.parts.get() == Parts::Wanted && returned && !self.is_draining() && self.is_open()
    }

    /// Whether somebody else has output in the connection.
    pub(in crate::ngx) fn has_others_output(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).buffered() & !BUFFERED != 0 }
    }

    /// The request is kept to its end.
    pub(in crate::ngx) fn never_part(&self) {
        self.parts.set(Parts::Never);
    }

    /// Whether the request has been freed, and the connection goes on.
    pub(in crate::ngx) fn is_parted(&self) -> bool {
        self.parts.get() == Parts::Done
    }

    /// Lets go of the request, which is to be freed next. What is due is due by the connection's own
    /// events from here on, whose handlers are these. Returns in how many milliseconds, and whether that
    /// must be waited for, for `set_timer` once the request is gone.
    pub(in crate::ngx) fn part(
        &self,
        read: ffi::ngx_event_handler_pt,
        write: ffi::ngx_event_handler_pt,
    ) -> Option<(u64, bool)> {
        let mut due = None;
        let (c, events) = (self.c.get(), self.events.replace(ptr::null_mut()));
        self.rouse();
        self.uncross();
        // SAFETY: `may_part` means that both are alive; the events are unlinked before they go.
        unsafe {
            for ev in [(*c).read, (*c).write] {
                if (*ev).timer_set() != 0 {
                    ffi::ngx_del_timer(ev);
                }
            }
            (*(*c).read).handler = read;
            (*(*c).write).handler = write;
            let Events { flush, timer } = &mut *events;
            if flush.posted() != 0 {
                ffi::ngx_delete_posted_event(flush);
                ffi::ngx_post_event((*c).write, ptr::addr_of_mut!(ffi::ngx_posted_events));
            }
            if timer.timer_set() != 0 {
                let left = timer.timer.key.wrapping_sub(ffi::ngx_current_msec) as isize;
                ffi::ngx_del_timer(timer);
                due = Some((left.max(0) as u64, timer.cancelable() == 0));
            }
            if self.on_heap.replace(false) {
                drop(Box::from_raw(events));
            }
        }
        self.handlers.set((read, write));
        self.r.set(ptr::null_mut());
        self.parts.set(Parts::Done);
        due
    }

    /// What there is to `rejoin` by.
    pub(in crate::ngx) fn keep(&self, parted: Box<dyn Parted>) {
        self.parted.set(Some(parted));
    }

    /// Gives a parted link a request again, to end by. The link is dead afterwards where there is no
    /// memory for one.
    pub(in crate::ngx) fn rejoin(&self) {
        if let Some(parted) = self.parted.take() {
            // SAFETY: parted means that the connection is alive; this one is taken.
            unsafe { parted.rejoin(self.c.get()) };
        }
    }

    /// The connection of a parted link is to have a request again, or is to be closed: nothing is due
    /// by its events any more.
    pub(in crate::ngx) fn unpart(&self) -> *mut ffi::ngx_connection_t {
        self.uncross();
        let c = self.c.replace(ptr::null_mut());
        // SAFETY: parted means that it is alive.
        unsafe {
            for ev in [(*c).read, (*c).write] {
                if (*ev).timer_set() != 0 {
                    ffi::ngx_del_timer(ev);
                }
                (*ev).set_cancelable(0);
            }
        }
        self.parts.set(Parts::Never);
        c
    }
}
