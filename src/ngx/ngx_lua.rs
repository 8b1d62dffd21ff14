//! ngx_lua itself: whether it is new enough, asked once while a configuration is loaded, the VM of this
//! worker, room for timers, and the table of its directives.
//!
//! ngx_lua's configuration structs are private. Their command table is not: the directive's row
//! holds the offset of its value, which is how nginx itself finds it.

use std::ffi::CStr;
use std::ptr;

use super::http_conf::http_block;
use crate::ffi;

/// Whether ngx_lua is one that this module was tested with, 0.10.19 or newer. A binary does not tell
/// its version before a Lua VM runs; its directives do, this one having come with the 0.10.18 series.
pub fn is_supported() -> bool {
    let mut found = false;
    each_command(|name, _| found |= name == b"exit_worker_by_lua_block");
    found
}

/// The main state of this worker's Lua VM. Null without an http block. (Under `lua_code_cache off`
/// requests have VMs of their own.)
pub fn main_vm() -> *mut ffi::lua_State {
    // SAFETY: a worker's configuration is complete. ngx_lua reads nothing of the ngx_conf_t but its ctx.
    unsafe {
        let Some(ctx) = http_block(ffi::ngx_cycle.cast_const()) else { return ptr::null_mut() };
        let mut cf: ffi::ngx_conf_t = std::mem::zeroed();
        cf.ctx = ptr::from_ref(ctx).cast_mut().cast();
        ffi::ngx_http_lua_get_global_state(&mut cf)
    }
}

/// Makes room for `n` timers at a time, running and pending: each connection of a listener is
/// served by one, and the directives' defaults (256, 1024) are not meant for that.
pub fn raise_timers(n: usize) {
    // SAFETY: a worker's configuration is complete.
    let conf = unsafe {
        // A worker that runs Lua has one.
        let Some(ctx) = http_block(ffi::ngx_cycle.cast_const()) else { return };
        *ctx.main_conf.add(ffi::ngx_http_lua_module.ctx_index)
    };
    each_command(|name, offset| {
        if matches!(name, b"lua_max_running_timers" | b"lua_max_pending_timers") {
            // SAFETY: the table says where nginx's own setter (ngx_conf_set_num_slot) has put each
            // number in ngx_lua's main configuration; ngx_lua reads it at every timer.
            unsafe {
                let slot = conf.cast::<u8>().add(offset).cast::<isize>();
                *slot = (*slot).max(n as isize);
            }
        }
    });
}

/// Calls `visit` with name and offset of every directive of ngx_lua.
pub(super) fn each_command(mut visit: impl FnMut(&[u8], usize)) {
    // SAFETY: the table is a static array of ngx_lua that ends with an entry whose name is
    // empty (ngx_null_command); names are NUL-terminated by ngx_string().
    unsafe {
        let mut command = ffi::ngx_http_lua_module.commands;
        while !command.is_null() && (*command).name.len != 0 {
            let name = CStr::from_ptr((*command).name.data.cast()).to_bytes();
            visit(name, (*command).offset);
            command = command.add(1);
        }
    }
}
