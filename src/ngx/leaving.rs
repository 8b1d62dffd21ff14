//! Whether the client of a request leaves while its handler waits for something else, such as an
//! upstream that is being asked. ngx_lua looks only where `lua_check_client_abort` says so, and then
//! ends the request by itself; here whoever waits is told.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

use super::counted::borrow;
use super::guard::guarded;
use super::lua_wait::{Wait, Waiters};
use super::pool::{data_of, is};
use super::request::Request;
use crate::ffi;

/// A look-out. The request's pool has a count while it looks, so the handler that finds it there finds
/// it alive; `end` gives that back.
pub struct Lookout {
    r: Cell<*mut ffi::ngx_http_request_t>,
    cleanup: Cell<*mut ffi::ngx_pool_cleanup_t>,
    gone: Cell<bool>,
    waiter: Waiters,
}

impl Lookout {
    /// Looks from now on. None where somebody else reads what the client sends, or there is none (a
    /// timer's request).
    pub fn begin(r: Request) -> Option<Rc<Lookout>> {
        let r = r.as_ptr();
        // SAFETY: alive by construction, and so is its connection.
        unsafe {
            let c = (*r).connection;
            if (*c).fd == -1 || !is((*r).read_event_handler, ffi::ngx_http_block_reading) {
                return None;
            }
            let cleanup = ffi::ngx_pool_cleanup_add((*r).pool, 0);
            if cleanup.is_null() {
                return None;
            }
            let lookout = Rc::new(Lookout {
                r: Cell::new(r),
                cleanup: Cell::new(cleanup),
                gone: Cell::new(false),
                waiter: Waiters::default(),
            });
            (*cleanup).data = Rc::into_raw(lookout.clone()).cast_mut().cast();
            (*cleanup).handler = Some(drop_lookout);
            (*r).read_event_handler = Some(on_read);
            lookout.look();
            Some(lookout)
        }
    }

    /// Returns once the client has left, or parks the light thread that runs in `r`.
    pub fn wait(&self, r: Request) -> Wait<()> {
        if self.gone.get() {
            return Wait::Ready(());
        }
        self.waiter.park(r, i32::MAX as u64)
    }

    /// Looks no more.
    pub fn end(&self) {
        let r = self.r.replace(ptr::null_mut());
        if r.is_null() {
            return;
        }
        // SAFETY: not null means alive. The cleanup is the pool's, and has not run; what it would have
        // dropped is dropped here, where the caller has a count of its own.
        unsafe {
            if is((*r).read_event_handler, on_read) {
                (*r).read_event_handler = Some(ffi::ngx_http_block_reading);
            }
            let cleanup = self.cleanup.get();
            (*cleanup).handler = None;
            drop(Rc::from_raw((*cleanup).data.cast::<Lookout>().cast_const()));
        }
    }

    /// As ngx_http_test_reading, which ends the request.
    fn look(&self) {
        let r = self.r.get();
        if r.is_null() || self.gone.get() {
            return;
        }
        // SAFETY: not null means alive, and so is its connection. One byte is looked at, and stays.
        unsafe {
            let c = (*r).connection;
            let rev = (*c).read;
            let mut byte = 0u8;
            let n = libc::recv((*c).fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK);
            // With epoll the end is told even behind bytes that wait.
            let failed = n < 0 && ffi::ngx_errno() != libc::EAGAIN;
            if n == 0 || failed || (*rev).pending_eof() != 0 {
                (*rev).set_eof(1);
                (*c).set_error(1);
                self.gone.set(true);
                if let Some(r) = Request::from_ptr(r) {
                    r.info("client prematurely closed connection");
                }
                self.waiter.wake_all();
            } else {
                // Where events are told by level: bytes that wait are not to be told for ever.
                ffi::ngx_handle_read_event(rev, 0);
            }
        }
    }
}

/// The request's `read_event_handler`.
unsafe extern "C" fn on_read(r: *mut ffi::ngx_http_request_t) {
    guarded("a client's leaving", (), || {
        // SAFETY: nginx calls this with a request that `begin` has seen, whose pool has the look-out
        // until it ends.
        if let Some(lookout) = unsafe { borrow::<Lookout>(data_of((*r).pool, drop_lookout)) } {
            lookout.look();
        }
    });
}

/// Pool cleanup.
unsafe extern "C" fn drop_lookout(data: *mut c_void) {
    guarded("pool cleanup", (), || {
        // SAFETY: `begin` has given the pool this count.
        let lookout = unsafe { Rc::from_raw(data.cast::<Lookout>().cast_const()) };
        lookout.r.set(ptr::null_mut());
    });
}
