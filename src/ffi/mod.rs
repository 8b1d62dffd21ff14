//! Raw imports: nginx (by `nginx-sys`), this module's own symbol, and the few functions of ngx_lua
//! declared in `ngx_http_lua.h`. Only `ngx`, `lua/vm`, lib.rs and where `conf` meets nginx's tables may name
//! anything in here.
#![allow(non_camel_case_types, missing_docs, clippy::missing_safety_doc)]

mod bit_field;
mod layout;

mod lua_bindings {
    #![allow(dead_code, clippy::all, clippy::undocumented_unsafe_blocks)]
    include!(concat!(env!("OUT_DIR"), "/ngx_http_lua.rs"));
}

pub use bit_field::*;
pub use layout::misplaced_bit_field;
pub use lua_bindings::{
    lua_State, ngx_http_lua_add_package_preload, ngx_http_lua_ffi_get_ctx_ref,
    ngx_http_lua_ffi_get_phase, ngx_http_lua_ffi_sema_count, ngx_http_lua_ffi_sema_gc,
    ngx_http_lua_ffi_sema_new, ngx_http_lua_ffi_sema_post, ngx_http_lua_ffi_sema_wait,
    ngx_http_lua_get_global_state, ngx_http_lua_get_request, ngx_http_lua_sema_t,
};
pub use nginx_sys::*;

extern "C" {
    /// Our own module structure, defined in lib.rs: the layers below need its `ctx_index`.
    pub static mut ngx_http_lua_websocket_module: ngx_module_t;
    /// ngx_lua's, resolved at load time: the reason why it must be loaded first.
    pub static mut ngx_http_lua_module: ngx_module_t;
}

/// The `len` elements at `data`. C has null for where nothing is, which no Rust slice may be.
///
/// # Safety
/// Unless `len` is 0, `data` must point to as many initialised elements, which stay alive and
/// unchanged for `'a`.
#[inline]
pub unsafe fn slice<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 || data.is_null() {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// What a directive's function answers where it refuses (ngx_conf_file.h).
pub const NGX_CONF_ERROR: *mut core::ffi::c_char = usize::MAX as *mut core::ffi::c_char;

/// nginx passes `(ngx_chain_t *) -1` where a chain could not be sent (ngx_core.h).
pub fn ngx_chain_error() -> *mut ngx_chain_t {
    usize::MAX as *mut ngx_chain_t
}
