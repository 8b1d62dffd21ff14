//! A connection from the moment nginx has accepted it until it waits in the listener's queue: its TLS
//! handshake, if there is one.

use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

use super::Inner;
use crate::ffi;
use crate::ngx::accepted::{is_room, Accepted};
use crate::ngx::counted::borrow;
use crate::ngx::goodbye;
use crate::ngx::guard::guarded;
use crate::ngx::log;
use crate::ngx::port;

/// nginx has accepted a connection (ls->handler).
pub(super) unsafe extern "C" fn accepted(c: *mut ffi::ngx_connection_t) {
    let done = guarded("an accepted connection", false, || {
        // SAFETY: nginx passes a new connection; its listening socket is ours, whose Rc is held by
        // `accept_handler` at this moment.
        unsafe {
            let Some(inner) = borrow::<Inner>((*(*c).listening).servers) else { return false };
            inner.accepted.set(inner.accepted.get() + 1);
            // One at a time, whatever multi_accept says: `run` looks at the queue between two.
            if let Some(lc) = inner.lc.get().as_ref() {
                (*lc.read).available = 0;
            }
            // The connection outlives the listener: nothing of it may be kept.
            (*c).listening = ptr::null_mut();
            (*c).local_sockaddr = ptr::null_mut();
            (*c).local_socklen = 0;
            (*(*c).log).connection = (*c).number;
            (*c).set_log_error(ffi::ngx_connection_log_error_e_NGX_ERROR_INFO);
            port::no_delay((*c).fd);
            if !log::soften(c) {
                return false;
            }
            if !is_room() {
                log::info((*c).log, "connection refused: worker_connections are not enough");
                return false;
            }
            match &inner.tls {
                None => inner.deliver(Accepted::new(c)),
                Some(tls) => {
                    if !tls.attach(c) {
                        return false;
                    }
                    ffi::ngx_add_timer((*c).read, inner.handshake_ms as ffi::ngx_msec_t);
                    if inner.early {
                        let tls = tls.clone();
                        let admits = move |c| tls.admits(c);
                        inner.deliver(Accepted::shake_hands(c, Box::new(admits)));
                        return true;
                    }
                    (*c).data = Rc::into_raw(inner).cast_mut().cast::<c_void>();
                    if ffi::ngx_ssl_handshake(c) == ffi::NGX_AGAIN as isize {
                        (*(*c).ssl).handler = Some(handshaked);
                    } else {
                        handshaked(c);
                    }
                }
            }
        }
        true
    });
    if !done {
        // SAFETY: no room, no memory, or a panic of ours: the connection is nobody's yet.
        unsafe { goodbye::close(c) };
    }
}

/// The TLS handshake is over, well or not.
unsafe extern "C" fn handshaked(c: *mut ffi::ngx_connection_t) {
    guarded("tls handshake", (), || {
        // SAFETY: `accepted` left a count of the listener in the connection's data. The connection
        // is ours until it is delivered or closed.
        unsafe {
            let inner = Rc::from_raw((*c).data.cast::<Inner>());
            (*c).data = ptr::null_mut();
            if (*(*c).read).timer_set() != 0 {
                ffi::ngx_del_timer((*c).read);
            }
            let admitted = (*(*c).ssl).handshaked() != 0
                && inner.tls.as_ref().is_some_and(|tls| tls.admits(c));
            if admitted {
                inner.deliver(Accepted::new(c));
            } else {
                goodbye::close(c);
            }
        }
    });
}
