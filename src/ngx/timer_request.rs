//! The request that ngx_lua makes for a timer, where one light thread serves many connections: whose
//! turn it is, for the log, and what a callback leaves behind in `ngx.ctx`.

use std::cell::Cell;
use std::ptr;

use super::request::Request;
use super::wire::Wire;
use crate::ffi;

/// A timer's request, for as long as its light thread runs: `end` is to be called with its end.
///
/// Points into memory of nginx's, and owns none: the text of the log lies in the request's pool.
pub struct TimerRequest {
    r: Cell<*mut ffi::ngx_http_request_t>,
    /// Room for an address in the request's pool.
    text: *mut u8,
}

/// As long as any address that nginx writes (NGX_SOCKADDR_STRLEN: a Unix socket's path).
const ROOM: usize = 128;

impl TimerRequest {
    /// The request that runs now. None: no memory.
    pub fn new(r: Request) -> Option<TimerRequest> {
        // SAFETY: r is alive (Request's contract), and with it its pool.
        let text = unsafe { ffi::ngx_pnalloc((*r.as_ptr()).pool, ROOM) }.cast::<u8>();
        (!text.is_null()).then(|| TimerRequest { r: Cell::new(r.as_ptr()), text })
    }

    /// It is over.
    pub fn end(&self) {
        self.r.set(ptr::null_mut());
    }

    /// What is logged from now on is about the connection of `wire`: its number and its client stand
    /// in the line.
    pub fn speak_of(&self, wire: &Wire) {
        let (r, c) = (self.r.get(), wire.get());
        if r.is_null() || c.is_null() {
            return;
        }
        // SAFETY: not null means alive, both. The address is copied into `ROOM` bytes of the pool;
        // the log of a timer's connection is its own (ngx_http_lua_create_fake_connection), and its
        // handler writes `addr_text` (ngx_http_lua_log_timer_error).
        unsafe {
            let own = (*r).connection;
            let len = (*c).addr_text.len.min(ROOM);
            ptr::copy_nonoverlapping((*c).addr_text.data, self.text, len);
            (*own).addr_text = ffi::ngx_str_t { len, data: self.text };
            (*(*own).log).connection = (*(*c).log).connection;
        }
    }

    /// Whether `ngx.ctx` has been used in this request.
    pub fn has_ctx(&self) -> bool {
        let r = self.r.get();
        let (mut in_ssl_phase, mut ssl_ctx) = (0, -1);
        // SAFETY: not null means alive; the other two are out-parameters. The answer is a reference
        // into ngx_lua's table, negative where there is none.
        !r.is_null()
            && unsafe { ffi::ngx_http_lua_ffi_get_ctx_ref(r, &mut in_ssl_phase, &mut ssl_ctx) } >= 0
    }
}
