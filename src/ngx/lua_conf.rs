//! Values of ngx_lua's own directives for a request (`lua_socket_read_timeout` and the like), so
//! that a drop-in object without a time-out of its own behaves as a cosocket would; whether
//! ngx_lua is new enough, asked once while a configuration is loaded; and its VM.
//!
//! ngx_lua's configuration structs are private. Their command table is not: the directive's row
//! holds the offset of its value, which is how nginx itself finds it.

use std::ffi::CStr;

use super::request::Request;
use crate::ffi;

/// Offsets in `ngx_http_lua_loc_conf_t`, looked up once per worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct LuaConf {
    read_timeout: Option<usize>,
    send_timeout: Option<usize>,
    log_errors: Option<usize>,
    check_client_abort: Option<usize>,
}

/// ngx_lua's default for its socket time-outs.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;

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
    // SAFETY: a worker's configuration is complete, and the http module's place in it is null where
    // there is no http block. ngx_lua reads nothing of the ngx_conf_t but its ctx.
    unsafe {
        let http = (*std::ptr::addr_of!(ffi::ngx_http_module)).index;
        let ctx = *(*ffi::ngx_cycle).conf_ctx.add(http);
        if ctx.is_null() {
            return std::ptr::null_mut();
        }
        let mut cf: ffi::ngx_conf_t = std::mem::zeroed();
        cf.ctx = ctx.cast();
        ffi::ngx_http_lua_get_global_state(&mut cf)
    }
}

/// Calls `visit` with name and offset of every directive of ngx_lua.
fn each_command(mut visit: impl FnMut(&[u8], usize)) {
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

impl LuaConf {
    /// Searches ngx_lua's command table; a name that is missing leaves its default in force.
    pub fn lookup() -> LuaConf {
        let mut conf = LuaConf::default();
        each_command(|name, offset| match name {
            b"lua_socket_read_timeout" => conf.read_timeout = Some(offset),
            b"lua_socket_send_timeout" => conf.send_timeout = Some(offset),
            b"lua_socket_log_errors" => conf.log_errors = Some(offset),
            b"lua_check_client_abort" => conf.check_client_abort = Some(offset),
            _ => (),
        });
        conf
    }

    /// `lua_socket_read_timeout` of the location that serves `r`, in milliseconds.
    pub fn read_timeout_ms(&self, r: Request) -> u64 {
        self.word(r, self.read_timeout).unwrap_or(DEFAULT_TIMEOUT_MS)
    }

    /// `lua_socket_send_timeout` of the location that serves `r`, in milliseconds.
    pub fn send_timeout_ms(&self, r: Request) -> u64 {
        self.word(r, self.send_timeout).unwrap_or(DEFAULT_TIMEOUT_MS)
    }

    /// `lua_socket_log_errors` of the location that serves `r`.
    pub fn log_errors(&self, r: Request) -> bool {
        self.word(r, self.log_errors).unwrap_or(1) != 0
    }

    /// `lua_check_client_abort` of the location that serves `r`.
    pub fn checks_client_abort(&self, r: Request) -> bool {
        self.word(r, self.check_client_abort).unwrap_or(0) != 0
    }

    /// Makes room for `n` timers at a time, running and pending: each connection of a listener is
    /// served by one, and the directives' defaults (256, 1024) are not meant for that.
    pub fn raise_timers(n: usize) {
        // SAFETY: as in `lookup`. The table says where nginx's own setter (ngx_conf_set_num_slot)
        // has put each number in ngx_lua's main configuration; ngx_lua reads it at every timer.
        unsafe {
            let http = *(*ffi::ngx_cycle)
                .conf_ctx
                .add((*std::ptr::addr_of!(ffi::ngx_http_module)).index)
                .cast::<*mut ffi::ngx_http_conf_ctx_t>();
            let conf = *(*http).main_conf.add(ffi::ngx_http_lua_module.ctx_index);
            let mut command = ffi::ngx_http_lua_module.commands;
            while !command.is_null() && (*command).name.len != 0 {
                let name = CStr::from_ptr((*command).name.data.cast()).to_bytes();
                if matches!(name, b"lua_max_running_timers" | b"lua_max_pending_timers") {
                    let slot = conf.cast::<u8>().add((*command).offset).cast::<isize>();
                    *slot = (*slot).max(n as isize);
                }
                command = command.add(1);
            }
        }
    }

    fn word(&self, r: Request, offset: Option<usize>) -> Option<u64> {
        // SAFETY: `loc_conf` has an entry for every http module, and `offset` is where nginx's
        // own setter wrote a word-sized value (ngx_msec_t or ngx_flag_t); a merged
        // configuration never holds the unset mark, which is checked all the same.
        let value = unsafe {
            let conf = *(*r.as_ptr()).loc_conf.add(ffi::ngx_http_lua_module.ctx_index);
            *conf.cast::<u8>().add(offset?).cast::<u64>()
        };
        (value != u64::MAX).then_some(value)
    }
}
