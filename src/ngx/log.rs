//! Log lines. `alert` is for our own bugs and goes to the worker's log; everything about one peer
//! goes through `Link::info`, because a remote peer may never log above info.

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

/// Logs at info level to `log`, the log of one connection.
pub(super) fn info(log: *mut ffi::ngx_log_t, text: &str) {
    ngx_log_error!(ffi::NGX_LOG_INFO, log, "{}", text);
}
