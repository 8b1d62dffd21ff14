//! Which names `require` finds, and how a module is loaded: the natives' table is made once per
//! Lua VM, the shim's chunk is run with it, and what the chunk returns is the module. Shims find
//! each other by `natives.module`, whatever `require` gives for these names: the user may have a
//! library of his own under one of them (`websocket_lua_modules`).
//!
//! A loader runs on whatever coroutine first calls `require`. It therefore keeps nothing of that
//! coroutine: the table lives in the registry, functions get their metatable as an upvalue.

use std::ffi::{c_int, CStr};

use mlua::ffi as lua;

use super::websockets_natives;
use super::{
    check_natives, codec_natives, cosocket_natives, entry, fast, hub_natives, listen_natives,
    mailbox_natives, message_natives, natives, peer_natives, tarantool_natives, vm_memory,
};
use crate::conf::LuaModules;
use crate::ffi;

/// A native's row: its name in the shims, and the raw function around its body.
macro_rules! native {
    ($name:literal, $body:path) => {{
        unsafe extern "C-unwind" fn raw(state: *mut lua::lua_State) -> c_int {
            // SAFETY: Lua calls this with its own state.
            unsafe { entry::call(state, $body) }
        }
        ($name, raw as lua::lua_CFunction)
    }};
}

const NATIVES: &[(&CStr, lua::lua_CFunction)] = &[
    native!(c"accept", natives::accept),
    native!(c"build_frame", codec_natives::build_frame),
    native!(c"check_frame", check_natives::check_frame),
    native!(c"check_new", check_natives::check_new),
    native!(c"check_response", codec_natives::check_response),
    native!(c"close_payload", natives::close_payload),
    native!(c"drain", natives::drain),
    native!(c"frame_body", codec_natives::frame_body),
    native!(c"frame_head", codec_natives::frame_head),
    native!(c"frame_len", codec_natives::frame_len),
    native!(c"is_open", natives::is_open),
    native!(c"frame_rest", cosocket_natives::frame_rest),
    native!(c"offer_frame", cosocket_natives::offer_frame),
    native!(c"read_ahead", cosocket_natives::read_ahead),
    native!(c"taken_frame", cosocket_natives::taken_frame),
    native!(c"parse_uri", codec_natives::parse_uri),
    native!(c"recv", natives::recv),
    native!(c"request", codec_natives::request),
    native!(c"send", natives::send),
    native!(c"set_timeout", natives::set_timeout),
    native!(c"switch", natives::switch),
    native!(c"buffered", message_natives::buffered),
    native!(c"close", message_natives::close),
    native!(c"close_fault", message_natives::close_fault),
    native!(c"close_info", message_natives::close_info),
    native!(c"control", message_natives::control),
    native!(c"hub_close", hub_natives::close),
    native!(c"hub_count", hub_natives::count),
    native!(c"hub_metric", hub_natives::metric),
    native!(c"hub_publish", hub_natives::publish),
    native!(c"hub_register", hub_natives::register),
    native!(c"hub_send", hub_natives::send),
    native!(c"hub_subscribe", hub_natives::subscribe),
    native!(c"hub_topics", hub_natives::topics),
    native!(c"hub_unsubscribe", hub_natives::unsubscribe),
    native!(c"mailbox_open", mailbox_natives::open),
    native!(c"mailbox_take", mailbox_natives::take),
    native!(c"mailbox_wait", mailbox_natives::wait),
    native!(c"mailbox_wake", mailbox_natives::wake),
    native!(c"open", message_natives::open),
    native!(c"receive", message_natives::receive),
    native!(c"send_message", message_natives::send),
    native!(c"shutdown", message_natives::shutdown),
    native!(c"state", message_natives::state),
    native!(c"stream_finish", message_natives::stream_finish),
    native!(c"stream_open", message_natives::stream_open),
    native!(c"stream_write", message_natives::stream_write),
    native!(c"switch_messages", message_natives::switch),
    native!(c"listen_accept", listen_natives::accept),
    native!(c"listen_address", listen_natives::address),
    native!(c"listen_close", listen_natives::close),
    native!(c"listen_fd", listen_natives::fd),
    native!(c"listen_is_open", listen_natives::is_open),
    native!(c"listen_open", listen_natives::open),
    native!(c"listen_waiting", listen_natives::waiting),
    native!(c"socket_bind", listen_natives::bind),
    native!(c"socket_close", listen_natives::stream_close),
    native!(c"socket_drain", listen_natives::drain),
    native!(c"socket_fd", listen_natives::stream_fd),
    native!(c"socket_name", listen_natives::stream_name),
    native!(c"socket_peer", listen_natives::stream_peer),
    native!(c"socket_readable", listen_natives::readable),
    native!(c"socket_receive", listen_natives::receive),
    native!(c"socket_send", listen_natives::send),
    native!(c"socket_shutdown", listen_natives::shutdown),
    native!(c"socket_state", listen_natives::stream_state),
    native!(c"socket_timeouts", listen_natives::timeouts),
    native!(c"new_key", peer_natives::new_key),
    native!(c"peer_beat", peer_natives::beat),
    native!(c"peer_between", peer_natives::between),
    native!(c"peer_close", peer_natives::close),
    native!(c"peer_feed", peer_natives::feed),
    native!(c"peer_lost", peer_natives::lost),
    native!(c"peer_new", peer_natives::new),
    native!(c"peer_offer", peer_natives::offer),
    native!(c"peer_open", peer_natives::open),
    native!(c"peer_output", peer_natives::output),
    native!(c"peer_take", peer_natives::take),
    native!(c"accept_key", tarantool_natives::accept),
    native!(c"close_read", tarantool_natives::close_read),
    native!(c"frame_decode", tarantool_natives::decode),
    native!(c"frame_mask", tarantool_natives::mask_data),
    native!(c"framed_close", tarantool_natives::close_framed),
    native!(c"framed_feed", tarantool_natives::feed),
    native!(c"framed_judge", tarantool_natives::judge),
    native!(c"framed_lost", tarantool_natives::lost),
    native!(c"framed_new", tarantool_natives::new),
    native!(c"framed_next", tarantool_natives::next),
    native!(c"framed_output", tarantool_natives::output),
    native!(c"framed_ping", tarantool_natives::ping),
    native!(c"framed_rules", tarantool_natives::rules),
    native!(c"framed_send", tarantool_natives::send),
    native!(c"framed_state", tarantool_natives::state),
    native!(c"http_request", tarantool_natives::http_request),
    native!(c"http_response", tarantool_natives::http_response),
    native!(c"http_upgrade", tarantool_natives::http_upgrade),
    native!(c"utf8_check", tarantool_natives::utf8),
    native!(c"websockets_gone", websockets_natives::gone),
    native!(c"websockets_goodbye", websockets_natives::goodbye),
    native!(c"websockets_host", websockets_natives::host),
    native!(c"websockets_interface", websockets_natives::interface),
    native!(c"websockets_open", websockets_natives::open),
    native!(c"websockets_refusal", websockets_natives::refusal),
    native!(c"websockets_request", websockets_natives::request),
    native!(c"websockets_settings", websockets_natives::settings),
    native!(c"websockets_slow", websockets_natives::slow),
    native!(c"websockets_status", websockets_natives::status),
    native!(c"websockets_write", websockets_natives::write),
];

/// A module of ours.
struct Module {
    /// What `require` calls it.
    name: &'static CStr,
    /// Where it stands, for tracebacks.
    chunk: &'static CStr,
    /// Its shim.
    source: &'static str,
    /// Whether `require` finds it.
    shown: Shown,
    /// For `package.preload`.
    open: lua::lua_CFunction,
}

/// Whether `require` finds a module.
enum Shown {
    Always,
    /// As `websocket_lua_modules` says.
    If(LuaModules),
    /// A part of others, which find it by `natives.module`.
    Never,
}

/// A module's row: its name, its chunk's name in tracebacks, its shim, and who finds it.
macro_rules! module {
    ($name:literal, $chunk:literal, $file:literal, $shown:expr) => {{
        unsafe extern "C-unwind" fn open(state: *mut lua::lua_State) -> c_int {
            // SAFETY: Lua calls this with its own state, and the row is named as it is.
            unsafe { open_named(state, $name) }
        }
        Module { name: $name, chunk: $chunk, source: include_str!($file), shown: $shown, open }
    }};
}

const RESTY: Shown = Shown::If(LuaModules::Resty);
const LUA_WEBSOCKETS: Shown = Shown::If(LuaModules::LuaWebsockets);
const PART: Shown = Shown::Never;
const TARANTOOL: Shown = Shown::If(LuaModules::Tarantool);

const MODULES: &[Module] = &[
    module!(c"resty.websocket", c"@resty/websocket.lua", "websocket.lua", Shown::Always),
    module!(c"resty.websocket.client", c"@resty/websocket/client.lua", "client.lua", RESTY),
    module!(c"resty.websocket.protocol", c"@resty/websocket/protocol.lua", "protocol.lua", RESTY),
    module!(c"resty.websocket.server", c"@resty/websocket/server.lua", "server.lua", RESTY),
    module!(c"resty.websocket.connect", c"@resty/websocket/connect.lua", "connect.lua", PART),
    module!(c"resty.websocket.fast", c"@resty/websocket/fast.lua", "fast.lua", PART),
    module!(c"resty.websocket.hub", c"@resty/websocket/hub.lua", "hub.lua", PART),
    module!(c"resty.websocket.listen", c"@resty/websocket/listen.lua", "listen.lua", Shown::Always),
    module!(c"resty.websocket.methods", c"@resty/websocket/methods.lua", "methods.lua", PART),
    module!(
        c"resty.websocket.raw_stream",
        c"@resty/websocket/raw_stream.lua",
        "raw_stream.lua",
        PART
    ),
    module!(c"resty.websocket.options", c"@resty/websocket/options.lua", "options.lua", PART),
    module!(c"websocket", c"@websocket.lua", "tarantool/websocket.lua", TARANTOOL),
    module!(c"websocket.frame", c"@websocket/frame.lua", "tarantool/frame.lua", TARANTOOL),
    module!(
        c"websocket.handshake",
        c"@websocket/handshake.lua",
        "tarantool/handshake.lua",
        TARANTOOL
    ),
    module!(c"websocket.opening", c"@websocket/opening.lua", "tarantool/opening.lua", PART),
    module!(c"websocket.peer", c"@websocket/peer.lua", "tarantool/peer.lua", PART),
    module!(c"websocket.socket", c"@websocket/socket.lua", "tarantool/socket.lua", PART),
    module!(c"websocket.ssl", c"@websocket/ssl.lua", "tarantool/ssl.lua", TARANTOOL),
    module!(
        c"websocket.utf8_validator",
        c"@websocket/utf8_validator.lua",
        "tarantool/utf8_validator.lua",
        TARANTOOL
    ),
    module!(c"websockets", c"@websockets.lua", "websockets/websockets.lua", LUA_WEBSOCKETS),
    module!(
        c"websockets.connection",
        c"@websockets/connection.lua",
        "websockets/connection.lua",
        PART
    ),
    module!(c"websockets.methods", c"@websockets/methods.lua", "websockets/methods.lua", PART),
    module!(c"websockets.reader", c"@websockets/reader.lua", "websockets/reader.lua", PART),
];

/// Makes the modules that `chosen` says known to every Lua VM of this configuration, those of
/// `lua_code_cache off` included. To be called when the directives have been read and before
/// init_by_lua runs, which is in postconfiguration. False: no memory.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn register(cf: *mut ffi::ngx_conf_t, chosen: impl Fn(LuaModules) -> bool) -> bool {
    let shown = |module: &&Module| match module.shown {
        Shown::Always => true,
        Shown::If(family) => chosen(family),
        Shown::Never => false,
    };
    MODULES.iter().filter(shown).all(|module| {
        let (name, open) = (module.name.as_ptr(), Some(module.open));
        // SAFETY: by contract; name and function are static.
        let rc = unsafe { ffi::ngx_http_lua_add_package_preload(cf, name, open) };
        rc == ffi::NGX_OK as _
    })
}

/// `natives.module(name)`: one of our modules, for another one's shim.
unsafe extern "C-unwind" fn module(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with its own state; the argument stays on the stack meanwhile.
    unsafe {
        let name = lua::luaL_checklstring(state, 1, std::ptr::null_mut());
        open_named(state, CStr::from_ptr(name))
    }
}

/// Pushes the module of this name, loaded on first use. Raises what its chunk raises.
///
/// # Safety
/// `state` must be the state a C function was called with.
unsafe fn open_named(state: *mut lua::lua_State, name: &CStr) -> c_int {
    // SAFETY: plain stack work; Lua errors leave this frame with nothing to drop.
    unsafe {
        push_natives(state);
        lua::lua_getfield(state, -1, name.as_ptr());
        if lua::lua_type(state, -1) != lua::LUA_TNIL {
            return 1;
        }
        let Some(module) = MODULES.iter().find(|module| module.name == name) else {
            return 1;
        };
        let (code, len) = (module.source.as_ptr().cast(), module.source.len());
        if lua::luaL_loadbuffer(state, code, len, module.chunk.as_ptr()) != lua::LUA_OK {
            lua::lua_error(state);
        }
        lua::lua_pushvalue(state, -3);
        lua::lua_call(state, 1, 1);
        lua::lua_pushvalue(state, -1);
        lua::lua_setfield(state, -4, module.name.as_ptr());
        1
    }
}

/// Pushes the natives' table, made on first use.
///
/// # Safety
/// `state` must be valid.
unsafe fn push_natives(state: *mut lua::lua_State) {
    const KEY: &CStr = c"nginx-lua-websocket.natives";
    // SAFETY: plain stack work, balanced.
    unsafe {
        lua::lua_getfield(state, lua::LUA_REGISTRYINDEX, KEY.as_ptr());
        if lua::lua_type(state, -1) == lua::LUA_TTABLE {
            return;
        }
        lua::lua_settop(state, -2);
        lua::lua_createtable(state, 0, (NATIVES.len() + MODULES.len() + 3) as c_int);
        lua::lua_pushcclosure(state, fast::addresses, 0);
        lua::lua_setfield(state, -2, c"addresses".as_ptr());
        lua::lua_pushcclosure(state, module, 0);
        lua::lua_setfield(state, -2, c"module".as_ptr());
        lua::lua_pushcclosure(state, vm_memory::raw_pace, 0);
        lua::lua_setfield(state, -2, c"pace".as_ptr());

        // The metatable of sessions: known to the natives only, as their upvalue.
        lua::lua_createtable(state, 0, 2);
        lua::lua_pushcclosure(state, entry::collect, 0);
        lua::lua_setfield(state, -2, c"__gc".as_ptr());
        lua::lua_pushboolean(state, 0);
        lua::lua_setfield(state, -2, c"__metatable".as_ptr());

        for (name, function) in NATIVES {
            lua::lua_pushvalue(state, -1);
            lua::lua_pushcclosure(state, *function, 1);
            lua::lua_setfield(state, -3, name.as_ptr());
        }
        lua::lua_settop(state, -2);
        lua::lua_pushvalue(state, -1);
        lua::lua_setfield(state, lua::LUA_REGISTRYINDEX, KEY.as_ptr());
    }
}
