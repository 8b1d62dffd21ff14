//! A request without Lua that has to wait for something: nginx holds it, and it goes on in nginx's
//! event loop when somebody says so, or when the time is over. Used by content handlers that ask
//! another worker.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::ptr;
use std::rc::Rc;

use super::counted::borrow;
use super::guard::guarded;
use super::request::Request;
use crate::ffi;

/// What is done with a request whenever something has happened, and at the end, when the time is over:
/// what a content handler returns; nothing, to wait on.
type GoOn = Box<dyn FnMut(Request, bool) -> Option<isize>>;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Wakes a request that waits, from anywhere: it goes on later in this turn of the event loop. Does
/// nothing once it has ended.
pub struct Waker(Rc<Waiting>);

/// A request that waits. Its pool has a count, and nginx's events point to it; both end with the
/// request.
struct Waiting {
    r: Cell<*mut ffi::ngx_http_request_t>,
    go_on: Cell<Option<GoOn>>,
    event: UnsafeCell<ffi::ngx_event_t>,
    timer: UnsafeCell<ffi::ngx_event_t>,
    /// What nginx's debug log takes the descriptor from.
    connection: UnsafeCell<ffi::ngx_connection_t>,
}

/// Has a request wait for at most `ms` milliseconds. `begin` gets what wakes it. Returns what the
/// content handler returns.
pub fn wait(r: Request, ms: u64, go_on: GoOn, begin: impl FnOnce(Rc<Waker>)) -> isize {
    // SAFETY: zeroed structs are nginx's own initial state (ngx_calloc).
    let (event, timer, mut connection): (
        ffi::ngx_event_t,
        ffi::ngx_event_t,
        ffi::ngx_connection_t,
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    connection.fd = -1;
    let waiting = Rc::new(Waiting {
        r: Cell::new(r.as_ptr()),
        go_on: Cell::new(Some(go_on)),
        event: UnsafeCell::new(event),
        timer: UnsafeCell::new(timer),
        connection: UnsafeCell::new(connection),
    });
    let end = waiting.clone();
    if !r.at_end(Box::new(move || end.end())) {
        return FAILED;
    }
    // SAFETY: `waiting` lives as long as the request, which ends both events first.
    unsafe {
        for (event, handler) in [(&waiting.event, on_event as Handler), (&waiting.timer, on_timer)]
        {
            let event = event.get();
            // A timer's data is a connection; ours is found beside it.
            (*event).data = waiting.connection.get().cast();
            (*event).handler = Some(handler);
            (*event).log = (*ffi::ngx_cycle).log;
        }
        (*waiting.connection.get()).data = ptr::from_ref(&*waiting).cast_mut().cast();
        ffi::ngx_add_timer(waiting.timer.get(), ms as ffi::ngx_msec_t);
    }
    begin(Rc::new(Waker(waiting)));
    r.hold()
}

type Handler = unsafe extern "C" fn(*mut ffi::ngx_event_t);

impl Waker {
    /// Wakes it.
    pub fn wake(&self) {
        if !self.0.r.get().is_null() {
            // SAFETY: the request lives, and takes the event out of the queue when it ends.
            unsafe {
                let queue = ptr::addr_of_mut!(ffi::ngx_posted_events);
                ffi::ngx_post_event(self.0.event.get(), queue);
            }
        }
    }
}

impl Waiting {
    /// The request goes on, or waits on.
    fn go_on(&self, is_over: bool) {
        let Some(mut go_on) = self.go_on.take() else { return };
        let raw = self.r.get();
        // SAFETY: the request is alive until `end`.
        let rc = match unsafe { Request::from_ptr(raw) } {
            // After a panic, a bug of ours, nobody else would end it.
            Some(r) => guarded("waiting request", Some(FAILED), || go_on(r, is_over)),
            None => return,
        };
        match rc {
            None if !is_over => self.go_on.set(Some(go_on)),
            rc => {
                self.stop();
                let rc = rc.unwrap_or(FAILED);
                // SAFETY: the count that `wait` took goes with it; the connection outlives the call
                // of its posted requests, as in nginx's own event handlers.
                unsafe {
                    let c = (*raw).connection;
                    ffi::ngx_http_finalize_request(raw, rc);
                    ffi::ngx_http_run_posted_requests(c);
                }
            }
        }
    }

    fn stop(&self) {
        // SAFETY: both events are ours.
        unsafe {
            if (*self.event.get()).posted() != 0 {
                ffi::ngx_delete_posted_event(self.event.get());
            }
            if (*self.timer.get()).timer_set() != 0 {
                ffi::ngx_del_timer(self.timer.get());
            }
        }
    }

    fn end(&self) {
        self.r.set(ptr::null_mut());
        self.stop();
        self.go_on.take();
    }
}

/// # Safety
/// `event` must be one of a `Waiting` whose request lives.
unsafe fn waiting(event: *mut ffi::ngx_event_t) -> Option<Rc<Waiting>> {
    // SAFETY: by contract.
    unsafe { borrow((*(*event).data.cast::<ffi::ngx_connection_t>()).data) }
}

unsafe extern "C" fn on_event(event: *mut ffi::ngx_event_t) {
    guarded("waiting request", (), || {
        // SAFETY: nginx calls this with an event of `wait`, whose request ends it first.
        if let Some(waiting) = unsafe { waiting(event) } {
            waiting.go_on(false);
        }
    });
}

unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    guarded("waiting request", (), || {
        // SAFETY: as above.
        if let Some(waiting) = unsafe { waiting(event) } {
            waiting.go_on(true);
        }
    });
}
