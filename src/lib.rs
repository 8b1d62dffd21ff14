//! nginx-lua-websocket: native WebSockets for ngx_lua handlers. This file holds the tables nginx
//! looks for when it loads the module, and the hooks, which only delegate. What the layers are and
//! which may use which is in ARCHITECTURE.md.

mod ffi;
mod lua;
mod ngx;
mod session;

use std::ptr;

use crate::ffi::{
    ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t, ngx_module_t,
};

mod tables {
    #![allow(missing_docs)]
    use super::ngx_http_lua_websocket_module;
    ::ngx::ngx_modules!(ngx_http_lua_websocket_module);
}

static NGX_HTTP_LUA_WEBSOCKET_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: None,
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

static mut NGX_HTTP_LUA_WEBSOCKET_COMMANDS: [ngx_command_t; 1] = [ngx_command_t::empty()];

/// The module, under the name nginx's loader looks up.
#[no_mangle]
#[used]
pub static mut ngx_http_lua_websocket_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(NGX_HTTP_LUA_WEBSOCKET_CTX) as _,
    commands: ptr::addr_of_mut!(NGX_HTTP_LUA_WEBSOCKET_COMMANDS).cast(),
    type_: ffi::NGX_HTTP_MODULE as _,
    init_process: Some(init_process),
    ..ngx_module_t::default()
};

/// Before the configuration is read: init_by_lua must already find the Lua modules.
unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration being read.
    if unsafe { lua::register(cf) } {
        ffi::NGX_OK as _
    } else {
        ffi::NGX_ERROR as _
    }
}

/// In each worker, right after it was forked.
unsafe extern "C" fn init_process(_cycle: *mut ngx_cycle_t) -> ngx_int_t {
    session::random::forget();
    ffi::NGX_OK as _
}
