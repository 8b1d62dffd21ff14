//! Our hold on the connection of a request: events, and the two ways of leaving it. Created by a
//! session, tied to a request by `takeover::take`, and dead (every call a no-op or an error) from
//! the moment nginx frees the request; unless it was *parted* from it before (`parting`), which leaves
//! it the connection alone until the end, when it gets a request once more.

mod held;
mod parted;

use std::cell::Cell;
use std::mem;
use std::ops::Deref;
use std::ptr;

use super::pool::is;
use super::pooled::rest_of;
use super::request::Request;
use super::transport::Transport;
use super::wire::{Io, Wire};
use crate::ffi;

/// Our bit in `c->buffered`: while it is set nginx does not close the connection when the handler
/// ends, but waits for the write handler (ngx_http_finalize_request). The lower half of the byte
/// belongs to transports, whose own filters leave bits they do not know alone; TLS uses 0x01,
/// HTTP/2 0x02.
const BUFFERED: u32 = 0x08;

/// The connection of one taken-over request.
///
/// Owned by its session (which is reference-counted and may outlive the request). The pointers are
/// cleared in `release`, called from the request's own cleanup, so they are never followed into a
/// freed request; the posted flush event and the timer are unlinked there too, and freed.
///
/// Of a link that was parted nginx has freed the request, and keeps the connection: `r` is null, the
/// connection's own events stand in for ours (the posted write event is the flush, the read event's
/// timer is the timer), and the connection's data is the session, with one count of it.
pub struct Link {
    c: Wire,
    r: Cell<*mut ffi::ngx_http_request_t>,
    /// In the request's pool, or on the heap; null from `release` on, before `attach` and while
    /// parted.
    events: Cell<*mut Events>,
    on_heap: Cell<bool>,
    handlers: Cell<(ffi::ngx_event_handler_pt, ffi::ngx_event_handler_pt)>,
    held: Cell<bool>,
    stay: Cell<Stay>,
    checks_abort: Cell<bool>,
    parts: Cell<Parts>,
    /// What the end needs of the request, while parted.
    parted: Cell<Option<Box<dyn Parted>>>,
}

/// What is kept of a request that was freed before its connection.
pub(in crate::ngx) trait Parted {
    /// Gives the connection a request again, and the link to it.
    ///
    /// # Safety
    /// To be called once, by the link, for the connection that was parted with this.
    unsafe fn rejoin(&self, c: *mut ffi::ngx_connection_t);
}

/// Whether the request may be freed before the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// It is needed.
    Never,
    /// As soon as nothing else holds it.
    Wanted,
    /// It has been.
    Done,
}

/// What the return of its handler means to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Its end, once all has left.
    Ends,
    /// Nothing; the handler runs.
    Awaits,
    /// Nothing; the handler has returned, and the request is ours to end.
    Kept,
}

/// The events of a link, whose data is its session.
struct Events {
    flush: ffi::ngx_event_t,
    timer: ffi::ngx_event_t,
}

impl Link {
    /// A link to nothing.
    pub fn new() -> Link {
        Link {
            c: Wire::new(ptr::null_mut()),
            r: Cell::new(ptr::null_mut()),
            events: Cell::new(ptr::null_mut()),
            on_heap: Cell::new(false),
            handlers: Cell::new((None, None)),
            held: Cell::new(false),
            stay: Cell::new(Stay::Ends),
            checks_abort: Cell::new(false),
            parts: Cell::new(Parts::Never),
            parted: Cell::new(None),
        }
    }

    /// Whether Lua may still read and write: the request lives, its handler has not ended and
    /// nobody else (lingering close, an error page) took the connection's handlers.
    pub fn is_open(&self) -> bool {
        !self.c.get().is_null() && self.handlers_are_ours() && !self.is_draining()
    }

    /// Whether the request's handler has ended and only pending output keeps the request alive.
    pub fn is_draining(&self) -> bool {
        let r = self.r.get();
        if r.is_null() {
            return false;
        }
        self.held.get() || (self.stay.get() == Stay::Ends && self.is_writing())
    }

    /// Whether nginx has been told that the handler has ended, and waits for its output.
    fn is_writing(&self) -> bool {
        let r = self.r.get();
        // SAFETY: not null means alive, see the type's comment.
        !r.is_null()
            && unsafe { ffi::HTTP_REQUEST_HTTP_STATE.get(r) }
                == ffi::ngx_http_state_e_NGX_HTTP_WRITING_REQUEST_STATE
    }

    /// Has the request go on after its handler has returned, until `end_with_handler`. It is nginx's
    /// waiting for output that keeps it: our bit is set until then.
    pub fn outlive_handler(&self) {
        self.stay.set(Stay::Awaits);
        self.await_return();
    }

    /// Whether that is asked for, and the handler has not returned, as far as is known.
    pub fn outlives_handler(&self) -> bool {
        self.stay.get() == Stay::Awaits
    }

    /// Looks whether the handler has returned: nginx's waiting for output ends then, and the request
    /// is as one that its content handler has kept (`Request::hold`).
    pub(super) fn note_return(&self) {
        if !self.outlives_handler() || !self.is_writing() {
            return;
        }
        self.stay.set(Stay::Kept);
        let (c, r) = (self.c.get(), self.r.get());
        // SAFETY: `is_writing` means alive. Undone is what ngx_http_set_write_handler has done.
        unsafe {
            let state = ffi::ngx_http_state_e_NGX_HTTP_PROCESS_REQUEST_STATE;
            ffi::HTTP_REQUEST_HTTP_STATE.set(r, state as ffi::ngx_uint_t as _);
            (*r).read_event_handler = Some(ffi::ngx_http_block_reading);
            (*r).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
            if (*(*c).write).timer_set() != 0 {
                ffi::ngx_del_timer((*c).write);
            }
        }
    }

    /// The request ends with its handler after all: now, if that has returned. Output that is pending
    /// is sent first. The link may be dead afterwards.
    pub fn end_with_handler(&self) {
        self.note_return();
        match self.stay.replace(Stay::Ends) {
            Stay::Kept => self.finish_request(),
            // It may go on for long, with its request.
            Stay::Awaits => self.never_part(),
            Stay::Ends => {}
        }
    }

    /// Whether this is the request that was taken over, or one of its subrequests.
    pub fn is_of(&self, r: Request) -> bool {
        // SAFETY: r is alive (Request's contract); the other pointer is only compared.
        unsafe { ptr::eq((*r.as_ptr()).main, self.r.get()) }
    }

    fn handlers_are_ours(&self) -> bool {
        let (read, _) = self.handlers.get();
        // SAFETY: only called while c is not null, hence alive.
        unsafe { read.is_some_and(|read| is((*(*self.c.get()).read).handler, read)) }
    }

    /// Whether nginx tells us to give up: worker_shutdown_timeout sets both marks and then calls
    /// the read handler.
    pub fn must_drop(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).close() != 0 && (*c).error() != 0 }
    }

    /// Has a client that ends its stream end the request, or run its `ngx.on_abort`: what
    /// `lua_check_client_abort` says.
    pub fn check_abort(&self, on: bool) {
        self.checks_abort.set(on);
    }

    /// Whether that is asked for.
    pub fn checks_abort(&self) -> bool {
        self.checks_abort.get()
    }

    /// Whether it is asked for, and the end of the stream has been read.
    pub fn is_aborted(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        self.checks_abort.get() && !c.is_null() && unsafe { (*(*c).read).eof() != 0 }
    }

    /// Whether the peer has ended or reset the stream, and nothing it sent before waits in the kernel.
    pub(super) fn is_peer_gone(&self) -> bool {
        let c = self.c.get();
        if c.is_null() {
            return false;
        }
        let mut byte = 0u8;
        let (to, flags) = (ptr::addr_of_mut!(byte).cast(), libc::MSG_PEEK | libc::MSG_DONTWAIT);
        // SAFETY: c is alive; one byte at most is written.
        let n = unsafe { libc::recv((*c).fd, to, 1, flags) };
        n == 0 || (n < 0 && !matches!(ffi::ngx_errno(), libc::EAGAIN | libc::EINTR))
    }

    /// Whether nothing can be sent any more: a write has failed, or nginx gives the connection up.
    pub(super) fn is_broken(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).error() != 0 }
    }

    /// Whether the handler has returned, and the request was not terminated.
    pub(super) fn has_returned(&self) -> bool {
        self.is_draining() && !self.held.get()
    }

    /// Whether the peer has ended the stream, or the handler the connection (ngx_http_finalize_request
    /// marks it for status 444).
    pub(super) fn is_cut(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).timedout() != 0 || (*(*c).read).eof() != 0 }
    }

    /// Asks nginx to tell the read handler when the worker is told to quit gracefully (what it
    /// does for idle keepalive connections).
    pub fn want_quit_notice(&self) {
        let c = self.c.get();
        if !c.is_null() {
            // SAFETY: c is alive.
            unsafe { (*c).set_idle(1) };
        }
    }

    /// Whether that has happened.
    pub fn has_quit_notice(&self) -> bool {
        let c = self.c.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).close() != 0 && (*c).error() == 0 }
    }

    /// Tells nginx whether output is pending (see `BUFFERED`).
    pub fn set_pending(&self, pending: bool) {
        let c = self.c.get();
        if !c.is_null() {
            // SAFETY: c is alive.
            unsafe {
                let (bits, pending) = ((*c).buffered(), pending || self.outlives_handler());
                (*c).set_buffered(if pending { bits | BUFFERED } else { bits & !BUFFERED });
            }
        }
    }

    /// Has the session's `flush` called soon after the handler has returned, although nothing waits to
    /// leave: nginx finds our bit, arms the write event and leaves the rest to our write handler.
    /// To be called again after each flush.
    pub fn await_return(&self) {
        self.set_pending(true);
        self.sleep();
    }

    /// Whether that is so, and nothing was sent since.
    pub fn awaits_return(&self) -> bool {
        self.c.is_asleep()
    }

    /// Whether the session's `flush` is going to be called at the end of this turn. The write event,
    /// which with edges comes along with every read event once nginx has asked for it, then has nothing
    /// to do.
    pub(super) fn has_posted_flush(&self) -> bool {
        // SAFETY: as for `post_flush`.
        !self.c.get().is_null() && unsafe { (*self.flush_event()).posted() != 0 }
    }

    /// The event that has `flush` called at the end of a turn.
    ///
    /// # Safety
    /// There must be a connection.
    unsafe fn flush_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: by contract.
        unsafe {
            match self.is_parted() {
                true => (*self.c.get()).write,
                false => ptr::addr_of_mut!((*self.events.get()).flush),
            }
        }
    }

    /// Ends a request that `Request::hold` keeps alive, or has one made anew to end. Output that is
    /// still pending is sent first. The link may be dead afterwards.
    pub fn finish_request(&self) {
        self.rejoin();
        self.never_part();
        let (c, r) = (self.c.get(), self.r.get());
        if !r.is_null() {
            // SAFETY: not null means alive. c stays readable after its request is gone, as nginx
            // itself relies on.
            unsafe {
                ffi::ngx_http_finalize_request(r, ffi::NGX_OK as _);
                ffi::ngx_http_run_posted_requests(c);
            }
        }
    }

    // What follows is takeover's part.

    pub(super) fn attach(
        &self,
        r: *mut ffi::ngx_http_request_t,
        read: ffi::ngx_event_handler_pt,
        write: ffi::ngx_event_handler_pt,
        flush: ffi::ngx_event_handler_pt,
        timer: ffi::ngx_event_handler_pt,
        data: *mut std::ffi::c_void,
    ) {
        // SAFETY: r is the request being taken over, alive during this call. The events lie in its
        // pool, or are a box; `release` forgets them before either goes. An all-zero ngx_event_t is
        // nginx's own initial state (ngx_calloc).
        unsafe {
            let fresh: Events = mem::zeroed();
            let events = match rest_of::<Events>((*r).pool) {
                Some(place) => {
                    place.write(fresh);
                    place.as_ptr()
                }
                None => {
                    self.on_heap.set(true);
                    Box::into_raw(Box::new(fresh))
                }
            };
            self.events.set(events);
            let c = (*r).connection;
            self.r.set(r);
            self.c.set(c);
            self.uncross();
            self.handlers.set((read, write));
            // The peer may be sending when the request ends: nginx reads that before it closes, as
            // its directives say (RFC 6455 7.1.1). ngx_lua does so for a raw request socket.
            ffi::HTTP_REQUEST_LINGERING_CLOSE.set((*r).main, 1);
            (*(*c).read).handler = read;
            (*(*c).write).handler = write;
            for (ev, handler) in [
                (ptr::addr_of_mut!((*events).flush), flush),
                (ptr::addr_of_mut!((*events).timer), timer),
            ] {
                (*ev).handler = handler;
                (*ev).data = data;
                (*ev).log = (*c).log;
            }
        }
    }

    pub(super) fn request(&self) -> *mut ffi::ngx_http_request_t {
        self.r.get()
    }

    /// Lets go of connection and request: handlers are given back if they are still ours.
    pub(super) fn release(&self) {
        self.uncross();
        let c = self.c.replace(ptr::null_mut());
        self.r.set(ptr::null_mut());
        let events = self.events.replace(ptr::null_mut());
        // SAFETY: c was alive until now (we are in the request's cleanup); the events are ours, and
        // nginx touches neither of them after its handler, in which we may be.
        unsafe {
            if let Some(events) = events.as_mut() {
                if events.flush.posted() != 0 {
                    ffi::ngx_delete_posted_event(&mut events.flush);
                }
                if events.timer.timer_set() != 0 {
                    ffi::ngx_del_timer(&mut events.timer);
                }
                if self.on_heap.replace(false) {
                    drop(Box::from_raw(events));
                }
            }
            if c.is_null() {
                return;
            }
            (*c).set_buffered((*c).buffered() & !BUFFERED);
            (*c).set_idle(0);
            let (read, write) = self.handlers.get();
            let (rev, wev) = ((*c).read, (*c).write);
            if read.is_some_and(|read| is((*rev).handler, read)) {
                (*rev).handler = Some(ffi::ngx_http_empty_handler);
            }
            if write.is_some_and(|write| is((*wev).handler, write)) {
                (*wev).handler = Some(ffi::ngx_http_empty_handler);
            }
        }
    }
}

/// Reading and writing: `Wire`'s, for as long as the link is alive.
impl Deref for Link {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.c
    }
}

/// A request that was taken over, until it ends.
impl Transport for Link {
    type Io = Wire;
    #[inline]
    fn io(&self) -> &Wire {
        self
    }
    #[inline]
    fn wire(&self) -> Option<&Wire> {
        Some(self)
    }
    #[inline]
    fn post_flush(&self) {
        if !self.c.get().is_null() {
            // SAFETY: while there is a connection there are events, unlinked in `release`, or the
            // connection's own, unlinked when it is closed; the queue is nginx's own.
            unsafe {
                ffi::ngx_post_event(self.flush_event(), ptr::addr_of_mut!(ffi::ngx_posted_events))
            };
        }
    }
    fn set_timer(&self, ms: u64, must_run: bool) {
        let c = self.c.get();
        if !c.is_null() {
            // SAFETY: as for `post_flush`, disarmed at the same places.
            unsafe {
                let ev = match self.is_parted() {
                    true => (*c).read,
                    false => ptr::addr_of_mut!((*self.events.get()).timer),
                };
                (*ev).set_cancelable(u32::from(!must_run));
                // No limit is as long as nginx's timers go.
                ffi::ngx_add_timer(ev, ms.min(i32::MAX as u64) as ffi::ngx_msec_t);
            }
        }
    }
    #[inline]
    fn note_output(&self, waits: bool) {
        self.set_pending(waits);
        if !waits {
            self.shrink();
            self.want_write();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nothing is left to do: a session is dropped after its request's cleanup, which released
        // the link. A leak of the event into nginx's queue would be a use after free, hence:
        debug_assert!(self.c.get().is_null());
    }
}
