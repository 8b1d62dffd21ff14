//! Taking the request out of a Lua state. ngx_lua leaves there what ran last, and the main state's may
//! have been freed long ago (log_by_lua, filters): whatever of ours runs Lua code on it from an event
//! does so without a request. Used by `memory`.

use std::ffi::{c_void, CStr};
use std::ptr;
use std::sync::OnceLock;

use mlua::ffi as lua;

use crate::ffi;

/// The global by which ngx_lua finds the request on a LuaJIT that is not OpenResty's.
const KEY: &CStr = c"__ngx_req";

/// OpenResty's LuaJIT keeps it beside the state. None: this one does not.
fn set_exdata() -> Option<unsafe extern "C" fn(*mut lua::lua_State, *mut c_void)> {
    static FOUND: OnceLock<usize> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        // SAFETY: looks a symbol up; null where there is none.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"lua_setexdata".as_ptr()) as usize }
    });
    // SAFETY: the function of that name has this type, or the address is null.
    unsafe { std::mem::transmute(found) }
}

/// Has ngx_lua find no request in `state` until it puts the next one there.
///
/// # Safety
/// `state` must be one of ngx_lua's that runs nothing.
pub unsafe fn forget(state: *mut lua::lua_State) {
    // SAFETY: by contract. Where the global is used and holds a request, it and its name are there:
    // to overwrite it makes nothing, calls nothing and so cannot raise.
    unsafe {
        if let Some(set_exdata) = set_exdata() {
            set_exdata(state, ptr::null_mut());
        }
        if !ffi::ngx_http_lua_get_request(state.cast()).is_null() {
            lua::lua_pushnil(state);
            lua::lua_setfield(state, lua::LUA_GLOBALSINDEX, KEY.as_ptr());
        }
    }
}
