//! What the configuration says for a request: its location's directives, and values with variables.

use super::location::{Location, Value};
use crate::ffi;
use crate::ngx::request::Request;

/// The directives of the location that serves `r`.
pub fn location_of<'a>(r: Request<'a>) -> &'a Location {
    // SAFETY: `loc_conf` has an entry for every http module; ours was made by `create_loc_conf`
    // and lives as long as the configuration, which the request holds.
    unsafe {
        let conf = *(*r.as_ptr()).loc_conf.add(ffi::ngx_http_lua_websocket_module.ctx_index);
        &*conf.cast::<Location>()
    }
}

/// Compiles a value with variables into the configuration's pool. None: the reason has been logged.
///
/// # Safety
/// `cf` must be what nginx passes to a setter.
pub unsafe fn compile(cf: *mut ffi::ngx_conf_t, word: &mut ffi::ngx_str_t) -> Option<*mut Value> {
    // SAFETY: by contract. An all-zero ngx_http_compile_complex_value_t is nginx's own initial state.
    unsafe {
        let value = ffi::ngx_pcalloc((*cf).pool, size_of::<Value>()).cast::<Value>();
        if value.is_null() {
            return None;
        }
        let mut compile: ffi::ngx_http_compile_complex_value_t = std::mem::zeroed();
        compile.cf = cf;
        compile.value = word;
        compile.complex_value = value;
        (ffi::ngx_http_compile_complex_value(&mut compile) == ffi::NGX_OK as isize).then_some(value)
    }
}

/// A value for this request. None: nginx has no memory.
pub fn evaluate(r: Request, value: *mut Value) -> Option<Vec<u8>> {
    let mut text = ffi::ngx_str_t::empty();
    // SAFETY: r is alive; the value was compiled when the configuration was read.
    let rc = unsafe { ffi::ngx_http_complex_value(r.as_ptr(), value, &mut text) };
    (rc == ffi::NGX_OK as isize).then(|| text.as_bytes().to_vec())
}
