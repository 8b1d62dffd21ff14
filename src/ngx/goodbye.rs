//! The end of an accepted connection, step by step and without an owner: TLS says goodbye, our side of
//! the stream ends, the peer may finish for a moment, and nginx gets everything back. Used by
//! `accepted`, and by `listener` for connections that nobody has taken yet.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;

use super::stub_status;
use super::wire::idle_handler;
use crate::ffi;

/// How long a connection that we closed may go on sending before it is cut: closing with bytes
/// unread would reset it, and the peer might never read our last ones.
const LINGER_MS: u64 = 2000;

thread_local! {
    /// This worker's accepted connections, lingering ones included: closed when it exits.
    static LIVE: RefCell<HashSet<*mut ffi::ngx_connection_t>> = RefCell::default();
}

/// Somebody owns `c` from now on.
pub(super) fn begin(c: *mut ffi::ngx_connection_t) {
    LIVE.with_borrow_mut(|live| live.insert(c));
}

/// Whether `c` has not been closed since `begin`.
pub(super) fn is_live(c: *mut ffi::ngx_connection_t) -> bool {
    LIVE.with_borrow(|live| live.contains(&c))
}

/// Closes this worker's connections, because it exits: nginx would complain of open sockets.
pub fn close_all() {
    for c in LIVE.take() {
        // SAFETY: alive as long as it was in LIVE. Owners are asked no more: LIVE tells them.
        unsafe {
            if !(*c).ssl.is_null() {
                (*(*c).ssl).set_no_send_shutdown(1);
            }
            close(c);
        }
    }
}

/// Says goodbye in TLS, ends our side of the stream and lets the peer finish.
///
/// # Safety
/// `c` must be alive and nobody's.
pub(super) unsafe fn end_output(c: *mut ffi::ngx_connection_t) {
    // SAFETY: by contract. What nginx does for a lingering close (ngx_http_set_lingering_close):
    // TLS is shut down without waiting for the peer's goodbye, its memory stays for the close.
    unsafe {
        let ssl = (*c).ssl;
        if !ssl.is_null() {
            (*ssl).set_no_wait_shutdown(1);
            (*ssl).set_shutdown_without_free(1);
            match ffi::ngx_ssl_shutdown(c) {
                rc if rc == ffi::NGX_AGAIN as isize => {
                    (*ssl).handler = Some(tls_ended);
                    return;
                }
                rc if rc != ffi::NGX_OK as isize => return close(c),
                _ => {}
            }
        }
        linger(c);
    }
}

unsafe extern "C" fn tls_ended(c: *mut ffi::ngx_connection_t) {
    // SAFETY: nginx calls this when the shutdown it had put off is done, or has timed out.
    unsafe {
        if (*c).timedout() != 0 || (*c).error() != 0 {
            close(c);
        } else {
            linger(c);
        }
    }
}

/// # Safety
/// `c` must be alive and nobody's.
unsafe fn linger(c: *mut ffi::ngx_connection_t) {
    // SAFETY: by contract.
    unsafe {
        if (*(*c).read).pending_eof() != 0 || (*(*c).read).eof() != 0 {
            return close(c);
        }
        libc::shutdown((*c).fd, libc::SHUT_WR);
        (*(*c).read).handler = Some(linger_handler);
        (*(*c).write).handler = Some(idle_handler);
        ffi::ngx_add_timer((*c).read, LINGER_MS as ffi::ngx_msec_t);
        linger_handler((*c).read);
    }
}

unsafe extern "C" fn linger_handler(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the read event of a connection that nobody owns. The bytes are
    // read past TLS, which is over, and thrown away.
    unsafe {
        let c = (*ev).data.cast::<ffi::ngx_connection_t>();
        let mut sink = mem::MaybeUninit::<[u8; 16384]>::uninit();
        let mut rounds = 0;
        while (*ev).timedout() == 0 && (*c).close() == 0 && rounds < 64 {
            let n = libc::recv((*c).fd, sink.as_mut_ptr().cast(), 16384, libc::MSG_DONTWAIT);
            if n > 0 {
                rounds += 1;
                continue;
            }
            if n < 0 && *libc::__errno_location() == libc::EAGAIN {
                (*ev).set_ready(0);
                ffi::ngx_handle_read_event(ev, 0);
                return;
            }
            break;
        }
        close(c);
    }
}

/// Frees everything of a connection (ngx_http_close_connection).
///
/// # Safety
/// `c` must be alive and nobody's.
pub(super) unsafe fn close(c: *mut ffi::ngx_connection_t) {
    // SAFETY: by contract; nginx's own order.
    unsafe {
        if !(*c).ssl.is_null() {
            (*(*c).ssl).set_no_wait_shutdown(1);
            (*(*c).ssl).set_shutdown_without_free(0);
            if ffi::ngx_ssl_shutdown(c) == ffi::NGX_AGAIN as isize {
                (*(*c).ssl).handler = Some(close_event);
                return;
            }
        }
        LIVE.with_borrow_mut(|live| live.remove(&c));
        // nginx counted it when it accepted it (ngx_event_accept).
        stub_status::ACTIVE.take_one();
        (*c).set_destroyed(1);
        let pool = (*c).pool;
        ffi::ngx_close_connection(c);
        ffi::ngx_destroy_pool(pool);
    }
}

unsafe extern "C" fn close_event(c: *mut ffi::ngx_connection_t) {
    // SAFETY: nginx calls this when the TLS shutdown it had put off is over.
    unsafe { close(c) };
}
