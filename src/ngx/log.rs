//! Log lines. `alert` is for our own bugs and goes to the worker's log; everything about one peer is
//! logged at info in its connection's log (`info`, `Wire::info`), never above.

use std::borrow::Cow;
use std::slice;

use ngx::ngx_log_error;

use crate::ffi;

/// Logs at alert level to the cycle's log.
pub fn alert(text: &str) {
    // SAFETY: `ngx_cycle` and its log live as long as the process runs.
    let log = unsafe { (*ffi::ngx_cycle).log };
    ngx_log_error!(ffi::NGX_LOG_ALERT, log, "{}", text);
}

/// Logs at warn level to the cycle's log: for what the operator should change, never for a peer.
pub fn warn(text: &str) {
    // SAFETY: as above.
    let log = unsafe { (*ffi::ngx_cycle).log };
    ngx_log_error!(ffi::NGX_LOG_WARN, log, "{}", text);
}

/// Logs at notice level to the cycle's log: for what a program should change. What a peer sends may
/// cause such a line once in a worker.
pub fn notice(text: &str) {
    // SAFETY: as above.
    let log = unsafe { (*ffi::ngx_cycle).log };
    ngx_log_error!(ffi::NGX_LOG_NOTICE, log, "{}", text);
}

/// A peer's text with its control characters escaped, as ngx_lua does to headers that it is given: neither
/// a header nor a line of the log is to begin within it.
pub fn escaped(value: &[u8]) -> Cow<'_, [u8]> {
    let bad = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    if !value.iter().any(bad) {
        return Cow::Borrowed(value);
    }
    let mut text = Vec::with_capacity(value.len() + 8);
    for b in value {
        if bad(b) {
            text.extend_from_slice(format!("%{b:02X}").as_bytes());
        } else {
            text.push(*b);
        }
    }
    Cow::Owned(text)
}

/// Logs at info level to `log`, the log of one connection.
pub(super) fn info(log: *mut ffi::ngx_log_t, text: &str) {
    ngx_log_error!(ffi::NGX_LOG_INFO, log, "{}", text);
}

/// Makes the log of `c`, an accepted connection of ours, one that says at info what a peer can make
/// nginx say at a level above: nginx knows most of OpenSSL's errors for a peer's, but not all, and
/// logs the others at crit. False: no memory.
///
/// # Safety
/// `c` must be alive, with a log of its own.
pub(super) unsafe fn soften(c: *mut ffi::ngx_connection_t) -> bool {
    // SAFETY: by contract; nginx's pool gives zeroed and aligned memory of the size asked for, or
    // null, and keeps it as long as the connection, whose own log stays where it is.
    unsafe {
        let soft = ffi::ngx_pcalloc((*c).pool, size_of::<ffi::ngx_log_t>());
        let Some(soft) = soft.cast::<ffi::ngx_log_t>().as_mut() else { return false };
        let own = (*c).log;
        soft.log_level = (*own).log_level;
        soft.connection = (*own).connection;
        soft.writer = Some(write_soft);
        soft.wdata = own.cast();
        (*c).log = soft;
        (*(*c).read).log = soft;
        (*(*c).write).log = soft;
    }
    true
}

/// A line for the log of `soften`, as nginx would have written it.
unsafe extern "C" fn write_soft(
    log: *mut ffi::ngx_log_t,
    level: ffi::ngx_uint_t,
    line: *mut u8,
    len: usize,
) {
    // SAFETY: nginx calls this with the log it was set on, whose connection is alive, and a line.
    let (own, line) =
        unsafe { ((*log).wdata.cast::<ffi::ngx_log_t>(), slice::from_raw_parts(line, len)) };
    let line = String::from_utf8_lossy(line);
    // "<time> [<level>] <pid>#<thread>: *<connection> <text>"
    let text = line.split_once(": *").and_then(|(_, rest)| rest.split_once(' '));
    let text = text.map_or(&*line, |(_, text)| text).trim_end();
    let raised = ffi::NGX_LOG_CRIT..ffi::NGX_LOG_INFO;
    let level = if raised.contains(&(level as u32)) { ffi::NGX_LOG_INFO } else { level as u32 };
    ngx_log_error!(level, own, "{}", text);
}
