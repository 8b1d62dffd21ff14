//! A read of TLS that knows when nothing more is there. nginx's own goes on until OpenSSL says so, which is
//! a second system call for every record, and OpenSSL's buffer of 16 KiB once more from the allocator. With
//! read-ahead, which nginx turns on, OpenSSL asks the socket for all that its buffer holds: what was
//! less has emptied the socket, and epoll reports whatever comes later (epoll(7), questions and
//! answers, 9; ngx_unix_recv goes by the same). Used by `wire`.

use std::mem;

use crate::ffi;

/// OpenSSL's buffer has room for at least so much (SSL3_RT_MAX_PLAIN_LENGTH).
const ROOM: u64 = 16 * 1024;

/// SSL_OP_ENABLE_KTLS of OpenSSL 3, where the kernel may decrypt: then a read brings one record,
/// whatever waits behind it.
const KERNEL_TLS: u64 = 1 << 3;

/// Reads as `c->recv` does: the bytes' number, 0 at the end of the stream, or nginx's NGX_AGAIN or
/// NGX_ERROR.
///
/// # Safety
/// `c` must be open and have TLS, `buf` must have `len` bytes, at least one.
pub(super) unsafe fn recv(c: *mut ffi::ngx_connection_t, buf: *mut u8, len: usize) -> isize {
    // SAFETY: by contract; OpenSSL's state is the connection's, and what is written fits.
    unsafe {
        if !tells(c) {
            return (*c).recv.map_or(-1, |recv| recv(c, buf, len));
        }
        let (event, tls) = ((*c).read, (*(*c).ssl).connection);
        let source = ffi::SSL_get_rbio(tls);
        let before = ffi::BIO_number_read(source);
        // nginx reads once only where that fills what it may fill: so one byte, and what is left of its record
        // from OpenSSL, which has it in memory. To nginx more is known to wait: it need not ask the kernel.
        let available = mem::replace(&mut (*event).available, i32::MAX);
        let mut came = ffi::ngx_ssl_recv(c, buf, 1);
        (*event).available = available;
        if came != 1 {
            return came;
        }
        let rest = (len - 1).min(ffi::SSL_pending(tls) as usize);
        if rest > 0 {
            let copied = ffi::SSL_read(tls, buf.add(1).cast(), rest as i32);
            if copied <= 0 {
                ffi::ERR_clear_error();
                return came;
            }
            came += copied as isize;
        }
        let brought = ffi::BIO_number_read(source) - before;
        if ffi::SSL_has_pending(tls) == 0 && brought < ROOM && (*event).pending_eof() == 0 {
            (*event).set_ready(0);
            return came;
        }
        let room = len - came as usize;
        if room == 0 {
            return came;
        }
        match ffi::ngx_ssl_recv(c, buf.add(came as usize), room) {
            more if more > 0 => came + more,
            again if again == ffi::NGX_AGAIN as isize => came,
            // The next read is told of the end, or of the error, once more.
            _ => {
                (*event).set_ready(1);
                came
            }
        }
    }
}

/// Whether what a read of the socket brings tells that it is empty.
///
/// # Safety
/// `c` must be open and have TLS.
unsafe fn tells(c: *const ffi::ngx_connection_t) -> bool {
    // SAFETY: by contract.
    unsafe {
        let ssl = &*(*c).ssl;
        let by_nginx = (*c).recv.map(|recv| recv as *const () as usize)
            == Some(ffi::ngx_ssl_recv as *const () as usize);
        by_nginx
            && ssl.in_early() == 0
            && (*(*c).read).available < 0
            && ffi::ngx_event_flags & ffi::NGX_USE_EPOLL_EVENT as ffi::ngx_uint_t != 0
            && ffi::ngx_use_epoll_rdhup != 0
            && ffi::SSL_get_read_ahead(ssl.connection) != 0
            && ffi::SSL_get_options(ssl.connection) & KERNEL_TLS == 0
            && ffi::SSL_has_pending(ssl.connection) == 0
    }
}
