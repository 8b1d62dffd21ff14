//! The one door between Lua and Rust. A raw C function per native: arguments are looked at, the
//! safe body runs behind `guarded`, and only then are results pushed or an error raised, with
//! nothing left to drop but what the results own. So neither a panic crosses into C nor a Lua
//! error into Rust, and a function may end by yielding its light thread.
//!
//! Raw functions instead of mlua's safe ones because those cost 80 ns a call and cannot yield.

use std::convert::Infallible;
use std::os::raw::{c_char, c_int};

use mlua::ffi as lua;
use ws_conn::IoError;

use super::memory::{self, LARGE};
use super::object::Slot;
use crate::ngx::guard::guarded;
use crate::ngx::lending;
use crate::ngx::lua_wait::{self, Wait, CANNOT_WAIT};
use crate::session::recycle;

pub use super::args::{Args, Method};
pub use super::object::Object;

/// What a native answers to a first argument that is none of ours.
pub const NOT_OURS: &str = "bad argument #1 (websocket connection expected)";
/// What it answers where no request is (init_by_lua).
pub const NO_REQUEST: &str = "no request found";

/// One result.
pub enum Value {
    /// nil
    Nil,
    /// A boolean.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text known beforehand.
    Str(&'static str),
    /// A text or bytes made for the occasion.
    Bytes(Vec<u8>),
    /// The argument at this (positive) index, as it came: no copy of a string is made.
    Arg(c_int),
    /// Bytes that lie in memory which `lending` keeps as it is until Lua has them.
    View(*const u8, usize),
    /// Received bytes, whose memory is used again.
    Payload(Vec<u8>),
    /// Something of ours, as userdata.
    Object(Object),
    /// An array of byte strings.
    List(Vec<Vec<u8>>),
}

impl Value {
    /// The text of a socket error, given as errno.
    pub fn errno(errno: i32) -> Value {
        Value::Bytes(IoError::from_errno(errno).to_string().into_bytes())
    }

    /// The length of a string that is made for Lua.
    fn len(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::View(_, len) => *len,
            Value::Payload(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// What a native ends with.
pub enum Outcome {
    /// Returns these values.
    Return(Values),
    /// The light thread has been parked: yields. The resume values become the results.
    Yield,
    /// Raises misuse as a Lua error with this text.
    Raise(String),
}

/// At most four results, without heap.
pub struct Values([Option<Value>; 4]);

impl Outcome {
    /// No result.
    pub fn none() -> Outcome {
        Outcome::Return(Values([None, None, None, None]))
    }
    /// One result.
    pub fn one(a: Value) -> Outcome {
        Outcome::Return(Values([Some(a), None, None, None]))
    }
    /// Two results.
    pub fn two(a: Value, b: Value) -> Outcome {
        Outcome::Return(Values([Some(a), Some(b), None, None]))
    }
    /// Three results.
    pub fn three(a: Value, b: Value, c: Value) -> Outcome {
        Outcome::Return(Values([Some(a), Some(b), Some(c), None]))
    }
    /// Four results.
    pub fn four(a: Value, b: Value, c: Value, d: Value) -> Outcome {
        Outcome::Return(Values([Some(a), Some(b), Some(c), Some(d)]))
    }
    /// What a native answers that was not parked, by the text of `Wait::Denied`.
    pub fn denied(text: String) -> Outcome {
        if text == CANNOT_WAIT {
            Outcome::nil_err(text)
        } else {
            Outcome::Raise(text)
        }
    }
    /// What became of a call that may have to wait.
    pub fn waited<T>(wait: Wait<T>, ready: impl FnOnce(T) -> Outcome) -> Outcome {
        match wait {
            Wait::Ready(value) => ready(value),
            Wait::Parked => Outcome::Yield,
            Wait::Denied(text) => Outcome::denied(text),
        }
    }
    /// What became of a call that only waits: a boolean once it is resumed | nil, err
    pub fn parked(wait: Wait<Infallible>) -> Outcome {
        match wait {
            Wait::Ready(never) => match never {},
            Wait::Parked => Outcome::Yield,
            Wait::Denied(text) => Outcome::nil_err(text),
        }
    }
    /// `nil, text`
    pub fn nil_err(text: impl Into<Vec<u8>>) -> Outcome {
        Outcome::two(Value::Nil, Value::Bytes(text.into()))
    }
}

/// A native's body.
pub type Body = fn(&Args) -> Outcome;

/// Runs `body` for a raw C function.
///
/// # Safety
/// `state` must be the state Lua called the function with.
pub unsafe fn call(state: *mut lua::lua_State, body: Body) -> c_int {
    lua_wait::calling(state.cast());
    // SAFETY: by contract; they go with this function.
    let args = unsafe { Args::of(state) };
    let outcome = guarded("a Lua function", None, || Some(body(&args)));
    match outcome.unwrap_or_else(|| Outcome::two(Value::Nil, Value::Str("internal error"))) {
        Outcome::Return(values) => {
            let (mut pushed, mut large) = (0, false);
            let copy = || {
                for value in values.0.into_iter().flatten() {
                    large |= value.len() >= LARGE;
                    // SAFETY: Lua guarantees 20 free stack slots to a C function.
                    unsafe { push(state, value) };
                    pushed += 1;
                }
            };
            lending::while_lent(copy);
            if large {
                // SAFETY: this is the function's state, and nothing is left to drop.
                unsafe { memory::pace(state) };
            }
            pushed
        }
        // SAFETY: the last thing this function does, as lua_yield demands.
        Outcome::Yield => unsafe { lua::lua_yield(state, 0) },
        Outcome::Raise(text) => {
            // SAFETY: the text is copied by Lua and dropped before lua_error leaves this frame.
            unsafe {
                lua::luaL_where(state, 2);
                push(state, Value::Bytes(text.into_bytes()));
                lua::lua_concat(state, 2);
                lua::lua_error(state)
            }
        }
    }
}

/// # Safety
/// `state` must be valid and have a free stack slot (two for an object).
unsafe fn push(state: *mut lua::lua_State, value: Value) {
    // SAFETY: by contract; a `View` is in place because it is lent meanwhile.
    unsafe {
        match value {
            Value::Nil => lua::lua_pushnil(state),
            Value::Arg(index) => lua::lua_pushvalue(state, index),
            Value::Bool(b) => lua::lua_pushboolean(state, c_int::from(b)),
            Value::Int(n) => lua::lua_pushnumber(state, n as f64),
            Value::Str(s) => lua::lua_pushlstring_(state, s.as_ptr().cast(), s.len()),
            Value::Bytes(s) => lua::lua_pushlstring_(state, s.as_ptr().cast(), s.len()),
            Value::Payload(bytes) => {
                lua::lua_pushlstring_(state, bytes.as_ptr().cast(), bytes.len());
                recycle(bytes);
            }
            Value::View(data, len) => lua::lua_pushlstring_(state, data.cast::<c_char>(), len),
            Value::List(list) => {
                lua::lua_createtable(state, list.len().min(1 << 16) as c_int, 0);
                for (i, item) in list.iter().enumerate() {
                    lua::lua_pushlstring_(state, item.as_ptr().cast(), item.len());
                    lua::lua_rawseti_(state, -2, i as c_int + 1);
                }
            }
            Value::Object(object) => {
                let slot = lua::lua_newuserdata(state, std::mem::size_of::<Slot>());
                slot.cast::<Slot>().write(Slot::new(object));
                lua::lua_pushvalue(state, lua::lua_upvalueindex(1));
                lua::lua_setmetatable(state, -2);
            }
        }
    }
}
