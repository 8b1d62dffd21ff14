//! What is looked at before a configuration is read: whether nginx and ngx_lua are those that this
//! module was built for. If not, nginx does not start, and the log says why.

use ngx::ngx_conf_log_error;

use crate::ffi;
use crate::ngx::ngx_lua;
use crate::ngx::running;

/// Refuses an ngx_lua that is too old. False: the reason has been logged.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn check_ngx_lua(cf: *mut ffi::ngx_conf_t) -> bool {
    let supported = ngx_lua::is_supported();
    if !supported {
        ngx_conf_log_error!(
            ffi::NGX_LOG_EMERG,
            cf,
            "nginx-lua-websocket needs ngx_lua 0.10.19 or newer, this one is older"
        );
    }
    supported
}

/// Refuses a build in which bit fields of nginx's structs lie elsewhere. False: it has been logged.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn check_bit_fields(cf: *mut ffi::ngx_conf_t) -> bool {
    let misplaced = ffi::misplaced_bit_field();
    if let Some(name) = misplaced {
        ngx_conf_log_error!(
            ffi::NGX_LOG_EMERG,
            cf,
            "nginx-lua-websocket was built with {} elsewhere than in C",
            name
        );
    }
    misplaced.is_none()
}

/// Refuses to run in another nginx than the one this module was built for. False: it has been logged.
///
/// # Safety
/// `cf` must be the configuration being read, in preconfiguration.
pub unsafe fn check_running(cf: *mut ffi::ngx_conf_t) -> bool {
    // SAFETY: by contract.
    let difference = unsafe { running::difference(cf) };
    if let Some(difference) = &difference {
        ngx_conf_log_error!(
            ffi::NGX_LOG_EMERG,
            cf,
            "nginx-lua-websocket was built for another nginx ({}): build it again",
            difference
        );
    }
    difference.is_none()
}
