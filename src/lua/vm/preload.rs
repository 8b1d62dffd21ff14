//! Which names `require` finds, and how a module is loaded: the tables of natives are made once per
//! Lua VM, the shim's chunk is run with that of its API and with `vm`, and what the chunk returns
//! is the module. `vm.module(name)` is how shims find each other, whatever `require` gives for
//! these names: the user may have a library of his own under one of them
//! (`websocket_lua_modules`). `vm.natives.API` are the natives of another API.
//!
//! A loader runs on whatever coroutine first calls `require`. It therefore keeps nothing of that
//! coroutine: `vm` lives in the registry, functions get their metatable as an upvalue.

use std::ffi::{c_int, CStr};
use std::sync::OnceLock;

use mlua::ffi as lua;

use super::entry::Method;
use super::object;
use crate::conf::LuaModules;
use crate::ffi;

/// What one folder of src/lua brings.
pub struct Api {
    /// Its natives' name in `vm.natives`.
    pub name: &'static CStr,
    /// Its natives: a table for each of its files, beside the bodies.
    pub natives: &'static [&'static [Native]],
    /// Its shims: `module!` makes a row.
    pub modules: &'static [Module],
}

/// A raw function, with its name in the shims: `native!` makes one.
pub type Native = (&'static CStr, lua::lua_CFunction);

/// A shim.
pub struct Module {
    /// What `require` calls it.
    pub name: &'static CStr,
    /// Its text.
    pub source: &'static str,
    /// Whether `require` finds it.
    pub shown: Shown,
    /// For `package.preload`.
    pub open: lua::lua_CFunction,
}

/// Whether `require` finds a module.
pub enum Shown {
    Always,
    /// As `websocket_lua_modules` says.
    If(LuaModules),
    /// A part of others, which find it by `vm.module`.
    Never,
}

/// A native's row: its name in the shims, and the raw function around its body.
macro_rules! native {
    ($name:literal, $body:path) => {{
        unsafe extern "C-unwind" fn raw(state: *mut mlua::ffi::lua_State) -> std::ffi::c_int {
            // SAFETY: Lua calls this with its own state.
            unsafe { $crate::lua::vm::entry::call(state, $body) }
        }
        ($name, raw as mlua::ffi::lua_CFunction)
    }};
}
pub(crate) use native;

/// A module's row: its name, its shim, and who finds it.
macro_rules! module {
    ($name:literal, $file:literal, $shown:expr) => {{
        unsafe extern "C-unwind" fn open(state: *mut mlua::ffi::lua_State) -> std::ffi::c_int {
            // SAFETY: Lua calls this with its own state, and the row is named as it is.
            unsafe { $crate::lua::vm::open_named(state, $name) }
        }
        $crate::lua::vm::Module { name: $name, source: include_str!($file), shown: $shown, open }
    }};
}
pub(crate) use module;

/// What `register` was given, which is the same each time.
static APIS: OnceLock<&'static [Api]> = OnceLock::new();

fn apis() -> &'static [Api] {
    APIS.get().copied().unwrap_or_default()
}

/// Makes the modules of `apis` that `chosen` says known to every Lua VM of this configuration, those of
/// `lua_code_cache off` included. To be called when the directives have been read and before
/// init_by_lua runs, which is in postconfiguration. False: no memory.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn register(
    cf: *mut ffi::ngx_conf_t,
    apis: &'static [Api],
    chosen: impl Fn(LuaModules) -> bool,
) -> bool {
    let apis = *APIS.get_or_init(|| apis);
    let shown = |module: &&Module| match module.shown {
        Shown::Always => true,
        Shown::If(family) => chosen(family),
        Shown::Never => false,
    };
    apis.iter().flat_map(|api| api.modules).filter(shown).all(|module| {
        let (name, open) = (module.name.as_ptr(), Some(module.open));
        // SAFETY: by contract; name and function are static.
        let rc = unsafe { ffi::ngx_http_lua_add_package_preload(cf, name, open) };
        rc == ffi::NGX_OK as std::ffi::c_long
    })
}

/// `vm.module(name)`: one of our modules, for another one's shim.
unsafe extern "C-unwind" fn module_named(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with its own state; the argument stays on the stack meanwhile.
    unsafe {
        let name = lua::luaL_checklstring(state, 1, std::ptr::null_mut());
        open_named(state, CStr::from_ptr(name))
    }
}

/// Pushes the module of this name, loaded on first use; nil for a name that is none of ours. Raises
/// what its chunk raises.
///
/// # Safety
/// `state` must be the state a C function was called with.
pub unsafe fn open_named(state: *mut lua::lua_State, name: &CStr) -> c_int {
    let find = |api: &'static Api| {
        api.modules.iter().find(|module| module.name == name).map(|module| (api, module))
    };
    // SAFETY: plain stack work; Lua errors leave this frame with nothing to drop.
    unsafe {
        let Some((api, module)) = apis().iter().find_map(find) else { return 0 };
        push_vm(state);
        lua::lua_getfield(state, -1, c"loaded".as_ptr());
        lua::lua_getfield(state, -1, module.name.as_ptr());
        if lua::lua_type(state, -1) != lua::LUA_TNIL {
            return 1;
        }
        if load(state, module) != lua::LUA_OK {
            lua::lua_error(state);
        }
        lua::lua_getfield(state, -4, c"natives".as_ptr());
        lua::lua_getfield(state, -1, api.name.as_ptr());
        lua::lua_replace(state, -2);
        lua::lua_pushvalue(state, -5);
        lua::lua_call(state, 2, 1);
        lua::lua_pushvalue(state, -1);
        lua::lua_setfield(state, -4, module.name.as_ptr());
        1
    }
}

/// Pushes a shim's chunk, named for tracebacks as its file would be on `package.path`; or an error.
///
/// # Safety
/// `state` must be valid.
unsafe fn load(state: *mut lua::lua_State, module: &Module) -> c_int {
    let mut chunk = b"@".to_vec();
    chunk.extend(module.name.to_bytes().iter().map(|&b| if b == b'.' { b'/' } else { b }));
    chunk.extend_from_slice(b".lua\0");
    let (code, len) = (module.source.as_ptr().cast(), module.source.len());
    // SAFETY: the name ends with its only zero; loading protects itself and raises nothing.
    unsafe { lua::luaL_loadbuffer(state, code, len, chunk.as_ptr().cast()) }
}

/// Pushes `vm`, made on first use: `module`, `natives` by API, and what is `loaded`.
///
/// # Safety
/// `state` must be valid.
unsafe fn push_vm(state: *mut lua::lua_State) {
    const KEY: &CStr = c"nginx-lua-websocket.vm";
    // SAFETY: plain stack work, balanced.
    unsafe {
        lua::lua_getfield(state, lua::LUA_REGISTRYINDEX, KEY.as_ptr());
        if lua::lua_type(state, -1) == lua::LUA_TTABLE {
            return;
        }
        lua::lua_settop(state, -2);
        lua::lua_createtable(state, 0, 3);
        lua::lua_pushcclosure(state, module_named, 0);
        lua::lua_setfield(state, -2, c"module".as_ptr());
        lua::lua_createtable(state, 0, 0);
        lua::lua_setfield(state, -2, c"loaded".as_ptr());

        // The metatable of our userdata: known to the natives only, as their upvalue.
        lua::lua_createtable(state, Method::ALL.len() as c_int, 2);
        for (method, name) in Method::ALL {
            lua::lua_pushstring(state, name.as_ptr());
            lua::lua_rawseti_(state, -2, method as c_int);
        }
        lua::lua_pushcclosure(state, object::collect, 0);
        lua::lua_setfield(state, -2, c"__gc".as_ptr());
        lua::lua_pushboolean(state, 0);
        lua::lua_setfield(state, -2, c"__metatable".as_ptr());

        lua::lua_createtable(state, 0, apis().len() as c_int);
        for api in apis() {
            lua::lua_createtable(state, 0, 0);
            for (name, function) in api.natives.iter().copied().flatten() {
                lua::lua_pushvalue(state, -3);
                lua::lua_pushcclosure(state, *function, 1);
                lua::lua_setfield(state, -2, name.as_ptr());
            }
            lua::lua_setfield(state, -2, api.name.as_ptr());
        }
        lua::lua_setfield(state, -3, c"natives".as_ptr());
        lua::lua_settop(state, -2);
        lua::lua_pushvalue(state, -1);
        lua::lua_setfield(state, lua::LUA_REGISTRYINDEX, KEY.as_ptr());
    }
}
