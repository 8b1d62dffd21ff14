//! The few calls that every message makes, for LuaJIT's FFI: compiled into the caller's trace they
//! cost a tenth of a native. Each does its work or nothing at all: whenever there is more to it (an
//! error, a wait, a rule), it returns zero, and the shim asks the native of the same purpose.
//! fast.lua declares these functions to Lua.

use std::ffi::{c_int, c_void};

use mlua::ffi as lua;

use super::entry::{Object, Slot};
use super::memory::LARGE;
use crate::ffi;
use crate::ngx::guard::guarded;
use crate::session::Session;

/// What a call hands out: fast.lua's `struct nlw_view`. Of 16 bytes, the largest that LuaJIT takes
/// for a constant of a trace.
#[repr(C)]
pub struct View {
    /// To be copied at once: the memory is the session's, until any session is used again.
    data: *const u8,
    len: u32,
    /// A close frame's code; -1 for none.
    code: c_int,
}

impl View {
    fn new(data: *const u8, len: usize, code: c_int) -> View {
        // No Lua string is longer than 2 GiB: to make one of this fails either way.
        View { data, len: u32::try_from(len).unwrap_or(u32::MAX), code }
    }
}

/// Added to the kind of a frame that is not its message's last.
const NOT_LAST: c_int = 16;
/// Added where the connection's log takes debug lines.
const DEBUG: c_int = 32;

/// `kind = recv_frame(session, max_len, view)`: opcode + 1, `NOT_LAST`, `DEBUG`.
unsafe extern "C" fn recv_frame(slot: *const Slot, max: f64, out: *mut View) -> c_int {
    // SAFETY: fast.lua passes a userdata and a view of its own, alive during the call.
    let (Some(session), Some(out)) = (unsafe { (session(slot), out.as_mut()) }) else { return 0 };
    guarded("recv", 0, || {
        let Some(frame) = session.take_now(max) else { return 0 };
        *out = View::new(frame.data, frame.len, frame.code.map_or(-1, c_int::from));
        let debug = if session.logs_debug() { DEBUG } else { 0 };
        c_int::from(frame.opcode) + 1 + if frame.fin { 0 } else { NOT_LAST } + debug
    })
}

/// `bytes = send_frame(session, opcode, payload, len, max_len)`: a whole data frame.
unsafe extern "C" fn send_frame(
    slot: *const Slot,
    op: c_int,
    data: *const u8,
    len: usize,
    max: f64,
) -> c_int {
    // SAFETY: fast.lua passes a userdata and a string with its length, alive during the call.
    let (Some(session), payload) = (unsafe { (session(slot), bytes(data, len)) }) else {
        return 0;
    };
    let fits = len as f64 <= max;
    if !fits {
        return 0;
    }
    guarded("send", 0, || session.send_now(op as u8, payload).unwrap_or(0) as c_int)
}

/// `kind = recv_message(session, view)`: 1 for binary, 2 for text.
unsafe extern "C" fn recv_message(slot: *const Slot, out: *mut View) -> c_int {
    // SAFETY: as for `recv_frame`.
    let (Some(session), Some(out)) = (unsafe { (session(slot), out.as_mut()) }) else { return 0 };
    guarded("recv", 0, || {
        let Some(message) = session.receive_now() else { return 0 };
        *out = View::new(message.data, message.len, -1);
        1 + c_int::from(message.text)
    })
}

/// `bytes = send_message(session, text, data, len)`
unsafe extern "C" fn send_message(
    slot: *const Slot,
    text: bool,
    data: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: as for `send_frame`.
    let (Some(session), data) = (unsafe { (session(slot), bytes(data, len)) }) else {
        return 0;
    };
    guarded("send", 0, || session.send_message_now(text, data).unwrap_or(0) as c_int)
}

/// # Safety
/// `slot` must be null or the memory of a userdata that lives as long as the result.
unsafe fn session<'l>(slot: *const Slot) -> Option<&'l Session> {
    // SAFETY: by contract; `get` tells our userdata from others.
    match unsafe { slot.as_ref() }?.get()? {
        Object::Session(session) => Some(session),
        _ => None,
    }
}

/// # Safety
/// `data` must point to `len` bytes that live as long as the result.
unsafe fn bytes<'l>(data: *const u8, len: usize) -> &'l [u8] {
    // SAFETY: by contract; a Lua string's address is never null, even when it is empty.
    unsafe { ffi::slice(data, len) }
}

/// Pushes the addresses of the functions, in fast.lua's order, and how long a large string is.
///
/// # Safety
/// `state` must be the state a C function was called with.
pub unsafe extern "C-unwind" fn addresses(state: *mut lua::lua_State) -> c_int {
    let all = [
        recv_frame as *mut c_void,
        send_frame as *mut c_void,
        recv_message as *mut c_void,
        send_message as *mut c_void,
    ];
    // SAFETY: five values, where Lua guarantees room for twenty.
    unsafe {
        for address in all {
            lua::lua_pushlightuserdata(state, address);
        }
        lua::lua_pushnumber(state, LARGE as f64);
    }
    all.len() as c_int + 1
}
