//! Where nginx's http modules keep what the configuration says: the http block's context, and what the
//! core and upstream modules have made of the block (`main_conf`) and of a location (`loc_conf`).

use std::ffi::c_void;
use std::ptr;

use crate::ffi;

/// The http block's context; none without an http block.
///
/// # Safety
/// `cycle` must be one whose configuration has been read, and stay for `'a`.
pub unsafe fn http_block<'a>(
    cycle: *const ffi::ngx_cycle_t,
) -> Option<&'a ffi::ngx_http_conf_ctx_t> {
    // SAFETY: by contract; the http module's entry is its ngx_http_conf_ctx_t, or null.
    unsafe {
        let http = *(*cycle).conf_ctx.add((*ptr::addr_of!(ffi::ngx_http_module)).index);
        http.cast::<ffi::ngx_http_conf_ctx_t>().as_ref()
    }
}

/// The core module's part of a location.
///
/// # Safety
/// `loc_conf` must be that of a request or a context, alive.
pub unsafe fn core_location(loc_conf: *mut *mut c_void) -> *mut ffi::ngx_http_core_loc_conf_t {
    // SAFETY: by contract; every http module has its entry.
    unsafe { (*loc_conf.add((*ptr::addr_of!(ffi::ngx_http_core_module)).ctx_index)).cast() }
}

/// The core module's part of the http block.
///
/// # Safety
/// `main_conf` must be that of a request or a context, alive.
pub(super) unsafe fn core_main(main_conf: *mut *mut c_void) -> *mut ffi::ngx_http_core_main_conf_t {
    // SAFETY: as above.
    unsafe { (*main_conf.add((*ptr::addr_of!(ffi::ngx_http_core_module)).ctx_index)).cast() }
}

/// The upstream module's part of the http block.
///
/// # Safety
/// As for `core_main`.
pub(super) unsafe fn upstream_main(
    main_conf: *mut *mut c_void,
) -> *mut ffi::ngx_http_upstream_main_conf_t {
    // SAFETY: as above.
    unsafe { (*main_conf.add((*ptr::addr_of!(ffi::ngx_http_upstream_module)).ctx_index)).cast() }
}
