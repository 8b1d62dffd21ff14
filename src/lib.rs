//! nginx-lua-websocket: native WebSockets for ngx_lua handlers. This file holds the tables nginx
//! looks for when it loads the module, and the hooks, which only delegate. What the layers are and
//! which may use which is in ARCHITECTURE.md.

mod conf;
mod ffi;
mod hub;
mod lua;
mod ngx;
mod proxy;
mod session;
mod upgrade;

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t, ngx_module_t, NGX_CONF_ERROR,
};

mod tables {
    #![allow(missing_docs)]
    use super::ngx_http_lua_websocket_module;
    ::ngx::ngx_modules!(ngx_http_lua_websocket_module);
}

static NGX_HTTP_LUA_WEBSOCKET_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(conf::create_main_conf),
    init_main_conf: Some(init_main_conf),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc_conf),
    merge_loc_conf: Some(conf::merge_loc_conf),
};

/// The module, under the name nginx's loader looks up.
#[no_mangle]
#[used]
pub static mut ngx_http_lua_websocket_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(NGX_HTTP_LUA_WEBSOCKET_CTX) as _,
    commands: ptr::addr_of_mut!(conf::COMMANDS).cast(),
    type_: ffi::NGX_HTTP_MODULE as _,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// Before the configuration is read.
unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration being read.
    status(unsafe {
        conf::check_bit_fields(cf)
            && conf::check_running(cf)
            && conf::check_ngx_lua(cf)
            && conf::register_variables(cf)
    })
}

/// When the directives have been read, and before init_by_lua, which has to find the Lua modules.
unsafe extern "C" fn init_main_conf(cf: *mut ngx_conf_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: nginx passes the configuration being read, and what `create_main_conf` made.
    let registered = unsafe { lua::register(cf, lua::APIS, |family| conf::provides(conf, family)) };
    if registered {
        ptr::null_mut()
    } else {
        NGX_CONF_ERROR
    }
}

/// After the configuration was read: the zone's size is known.
unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration being read.
    status(unsafe { conf::request_zone(cf) })
}

/// In the master, when a configuration has been loaded and before its workers are forked.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    #[cfg(asan)]
    ngx::asan_control::run();
    // SAFETY: nginx passes the cycle whose configuration has been loaded.
    let (workers, (rules, brokers)) = unsafe {
        ngx::zone::adopt(cycle);
        (ngx::process::worker_processes(cycle), conf::topic_rules(cycle))
    };
    ngx::handover::prepare();
    status(hub::prepare(workers, &rules, brokers))
}

/// In each worker, right after it was forked.
unsafe extern "C" fn init_process(_cycle: *mut ngx_cycle_t) -> ngx_int_t {
    session::random::forget();
    if ngx::process::is_worker() {
        hub::start();
        lua::keep_memory();
    }
    ffi::NGX_OK as _
}

/// In each worker, before it exits.
unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    hub::stop();
    ngx::goodbye::close_all();
    ngx::lua_wait::free_all();
}

fn status(ok: bool) -> ngx_int_t {
    if ok {
        ffi::NGX_OK as _
    } else {
        ffi::NGX_ERROR as _
    }
}
