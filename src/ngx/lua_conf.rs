//! Values of ngx_lua's own directives for a request (`lua_socket_read_timeout` and the like), so
//! that a drop-in object without a time-out of its own behaves as a cosocket would.

use super::ngx_lua::each_command;
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
