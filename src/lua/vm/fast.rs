//! The few calls that every message makes, for LuaJIT's FFI: compiled into the caller's trace they
//! cost a tenth of a native. Each does its work or nothing at all: whenever there is more to it (an
//! error, a wait, a rule), it returns zero, and the shim asks the native of the same purpose.
//! fast.lua declares these functions to Lua.

use std::ffi::{c_int, c_void};

use mlua::ffi as lua;
use ws_conn::View;
use ws_proto::opcode;

use super::memory::LARGE;
use super::object::{Object, Slot};
use crate::ffi;
use crate::ngx::guard::guarded;
use crate::ngx::lending;
use crate::session::{Event, Session};

/// Lends bytes by the view, where nothing else is lent.
fn lend(data: *const u8, len: usize, code: Option<u16>) {
    let view = lending::view();
    view.data.set(data);
    // No Lua string is longer than 2 GiB: to make one of this fails either way.
    view.len.set(u32::try_from(len).unwrap_or(u32::MAX));
    view.code.set(code.map_or(-1, c_int::from));
    lending::lend();
}

/// Added to the kind of a frame that is not its message's last.
const NOT_LAST: c_int = 16;
/// Added where the connection's log takes debug lines.
const DEBUG: c_int = 32;

/// `kind = recv_frame(session, max_len)`: opcode + 1, `NOT_LAST`, `DEBUG`. The payload is in the view.
unsafe extern "C" fn recv_frame(slot: *const Slot, max: f64) -> c_int {
    // SAFETY: fast.lua passes a userdata, alive during the call.
    let Some(session) = (unsafe { session(slot) }) else { return 0 };
    if lending::is_lent() {
        return 0;
    }
    guarded("recv", 0, || {
        let Some(frame) = session.take_now(max) else { return 0 };
        lend(frame.data, frame.len, frame.code);
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

/// `kind = recv_message(session)`: 1 for binary, 2 for text. The payload is in the view.
unsafe extern "C" fn recv_message(slot: *const Slot) -> c_int {
    // SAFETY: as for `recv_frame`.
    let Some(session) = (unsafe { session(slot) }) else { return 0 };
    if lending::is_lent() {
        return 0;
    }
    guarded("recv", 0, || {
        let Some(message) = session.receive_now() else { return 0 };
        lend(message.data, message.len, None);
        1 + c_int::from(message.opcode == opcode::TEXT)
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
    guarded("send", 0, || session.send_message_now(text, false, data).unwrap_or(0) as c_int)
}

/// `bytes = send_lent(session, text, number)`: the message that is lent by this number.
unsafe extern "C" fn send_lent(slot: *const Slot, text: bool, number: u32) -> c_int {
    // SAFETY: as for `recv_frame`.
    let Some(session) = (unsafe { session(slot) }) else { return 0 };
    let view = lending::view();
    if !view.is_lent_by(number) {
        return 0;
    }
    // SAFETY: what is lent stays where it is.
    let data = unsafe { bytes(view.data.get(), view.len.get() as usize) };
    let valid = view.text.get();
    guarded("send", 0, || session.send_message_now(text, valid, data).unwrap_or(0) as c_int)
}

/// The kinds of events, for serving.lua.
mod kind {
    use std::ffi::c_int;

    pub const BINARY: c_int = 1;
    pub const TEXT: c_int = 2;
    pub const OPEN: c_int = 3;
    pub const GAP: c_int = 4;
    pub const DRAIN: c_int = 5;
    pub const CLOSED: c_int = 6;
    /// Added where a message stays lent while its callback looks at it.
    pub const RAW: c_int = 8;
    /// Added where another runner has to be started first.
    pub const START: c_int = 16;
    /// Added where the callback before has left something in `ngx.ctx`.
    pub const CTX: c_int = 32;
}

/// Lends a message; returns its kind.
fn lend_message(view: &View) -> c_int {
    lend(view.data, view.len, None);
    if view.opcode == opcode::TEXT {
        kind::TEXT
    } else {
        kind::BINARY
    }
}

/// `kind = next_event(runner)`: what to call for, of the connection whose number is in the view's
/// code; a message is in the view. 0: nothing, for now.
unsafe extern "C" fn next_event(slot: *const Slot) -> c_int {
    // SAFETY: as for `recv_frame`.
    let Some(Object::Runner(runner)) = (unsafe { Slot::object(slot) }) else { return 0 };
    guarded("a callback", 0, || {
        let (event, starts) = runner.next();
        let (kind, number) = match event {
            Event::Nothing => return 0,
            Event::Open(number) => (kind::OPEN, number),
            Event::Gap(number) => (kind::GAP, number),
            Event::Drain(number) => (kind::DRAIN, number),
            Event::Closed(number) => (kind::CLOSED, number),
            Event::Message(number, view) => (lend_message(&view), number),
            Event::Raw(number, view) => {
                let kind = lend_message(&view);
                lending::lend_by_number(kind == kind::TEXT);
                (kind + kind::RAW, number)
            }
        };
        lending::view().code.set(number as c_int);
        let start = if starts { kind::START } else { 0 };
        kind + start + if runner.has_ctx() { kind::CTX } else { 0 }
    })
}

/// # Safety
/// `slot` must be null or the memory of a userdata that lives as long as the result.
unsafe fn session<'l>(slot: *const Slot) -> Option<&'l Session> {
    // SAFETY: by contract.
    match unsafe { Slot::object(slot) }? {
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

/// Pushes the addresses of the functions and of the view, in fast.lua's order, and how long a large string is.
///
/// # Safety
/// `state` must be the state a C function was called with.
pub unsafe extern "C-unwind" fn addresses(state: *mut lua::lua_State) -> c_int {
    let all = [
        recv_frame as *mut c_void,
        send_frame as *mut c_void,
        recv_message as *mut c_void,
        send_message as *mut c_void,
        send_lent as *mut c_void,
        next_event as *mut c_void,
        std::ptr::from_ref(lending::view()).cast_mut().cast(),
    ];
    // SAFETY: eight values, where Lua guarantees room for twenty.
    unsafe {
        for address in all {
            lua::lua_pushlightuserdata(state, address);
        }
        lua::lua_pushnumber(state, LARGE as f64);
    }
    all.len() as c_int + 1
}
