//! The one door between Lua and Rust. A raw C function per native: arguments are looked at, the
//! safe body runs behind `guarded`, and only then are results pushed or an error raised, with
//! nothing left to drop but what the results own. So neither a panic crosses into C nor a Lua
//! error into Rust, and a function may end by yielding its light thread.
//!
//! Raw functions instead of mlua's safe ones because those cost 80 ns a call and cannot yield.

use std::cell::RefCell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::os::raw::{c_char, c_int};
use std::rc::Rc;

use mlua::ffi as lua;
use ws_conn::{FrameReader, IoError};
use ws_proto::handshake::client::Opening;
use ws_proto::FrameCheck;

use super::memory::{self, LARGE};
use super::number;
use crate::ffi;
use crate::hub::{Errand, Mailbox, Roll};
use crate::ngx::cosocket::Cosocket;
use crate::ngx::guard::guarded;
use crate::ngx::lending;
use crate::ngx::listener::Listener;
use crate::ngx::lua_wait::{self, Wait, CANNOT_WAIT};
use crate::ngx::request::Request;
use crate::proxy::Pair;
use crate::session::{recycle, Carried, Session, Stream};

/// What a native answers to a first argument that is none of ours.
pub const NOT_OURS: &str = "bad argument #1 (websocket connection expected)";
/// What it answers where no request is (init_by_lua).
pub const NO_REQUEST: &str = "no request found";
/// What it answers to a call of the other style inside a message.
pub const MIXED: &str =
    "frame calls and message calls may not be mixed while a message is half read";

/// The arguments of one call, valid while it runs.
pub struct Args<'l> {
    state: *mut lua::lua_State,
    call: PhantomData<&'l ()>,
    /// Numbers as strings, for `bytes`: Lua would have to make one.
    texts: RefCell<Vec<Box<[u8]>>>,
}

/// A cosocket's methods, by the place of their names in the metatable of our userdata: to make a
/// string, even one that is there, lets the collector take a step.
#[derive(Clone, Copy)]
pub enum Method {
    /// `send`
    Send = 1,
    /// `receive`
    Receive,
    /// `receiveany`
    ReceiveAny,
}

impl Method {
    /// Every one, with its name.
    pub const ALL: [(Method, &'static CStr); 3] = [
        (Method::Send, c"send"),
        (Method::Receive, c"receive"),
        (Method::ReceiveAny, c"receiveany"),
    ];
}

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

/// What a userdata of ours holds: one count of something that may outlive it.
pub enum Object {
    /// A server's connection.
    Session(Rc<Session>),
    /// A client's opening handshake.
    Opening(Box<RefCell<Opening>>),
    /// A connection whose bytes a socket of Lua's carries.
    Carried(Box<RefCell<Carried>>),
    /// A subscriber that is no connection.
    Mailbox(Mailbox),
    /// A question who subscribes a topic.
    Roll(Box<RefCell<Roll>>),
    /// Something that the worker is asked for which talks to brokers.
    Errand(Box<Errand>),
    /// A port opened from Lua.
    Listener(Listener),
    /// A connection of such a port.
    Stream(Rc<Stream>),
    /// A client and its upstream.
    Pair(Rc<Pair>),
    /// The rules of messages, for who reads frames.
    FrameCheck(Box<RefCell<FrameCheck>>),
    /// What puts frames together that come in pieces.
    FrameReader(Box<RefCell<FrameReader>>),
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
    /// `nil, text`
    pub fn nil_err(text: impl Into<Vec<u8>>) -> Outcome {
        Outcome::two(Value::Nil, Value::Bytes(text.into()))
    }
}

/// A native's body.
pub type Body = fn(&Args) -> Outcome;

impl<'l> Args<'l> {
    /// The request whose Lua code is calling; None in phases without one (init_by_lua).
    pub fn request(&self) -> Option<Request<'l>> {
        // SAFETY: ngx_lua keeps the current request in the Lua state; it is alive while its Lua
        // code runs, which is the time of this call.
        unsafe { Request::from_ptr(ffi::ngx_http_lua_get_request(self.state.cast())) }
    }

    /// Writes a line about a peer into the request's log, if there is one.
    pub fn log_line(&self, line: Option<String>) {
        if let (Some(line), Some(r)) = (line, self.request()) {
            r.info(&line);
        }
    }

    /// The string (or number, as a string) at `index`.
    pub fn bytes(&self, index: c_int) -> Option<&[u8]> {
        if let Some(number) = self.number(index) {
            let mut texts = self.texts.borrow_mut();
            texts.push(number::text(number).into_bytes().into());
            let text: *const [u8] = &**texts.last()?;
            // SAFETY: what is boxed does not move, and stays as long as `self`.
            return Some(unsafe { &*text });
        }
        let mut len = 0;
        // SAFETY: the string stays on the stack, unmoved, while this call runs.
        unsafe {
            if lua::lua_type(self.state, index) != lua::LUA_TSTRING {
                return None;
            }
            let data = lua::lua_tolstring(self.state, index, &mut len);
            Some(ffi::slice(data.cast::<u8>(), len))
        }
    }

    /// The strings (numbers as strings) of the array at `index`, copied: unlike an argument, an
    /// element may be collected as soon as it left the stack. Err: the first element that is
    /// neither. None: not a table.
    pub fn list(&self, index: c_int) -> Option<Result<Vec<Vec<u8>>, usize>> {
        // SAFETY: raw access never raises nor makes anything; each element is popped again.
        unsafe {
            if lua::lua_type(self.state, index) != lua::LUA_TTABLE {
                return None;
            }
            let mut list = Vec::new();
            for i in 1..=lua::lua_rawlen(self.state, index) {
                lua::lua_rawgeti(self.state, index, i as lua::lua_Integer);
                let element = self.bytes(-1).map(<[u8]>::to_vec);
                lua::lua_settop(self.state, -2);
                match element {
                    Some(element) => list.push(element),
                    None => return Some(Err(i)),
                }
            }
            Some(Ok(list))
        }
    }

    /// The strings of the array at `index`; None for anything else.
    pub fn strings(&self, index: c_int) -> Option<Vec<Vec<u8>>> {
        self.list(index)?.ok()
    }

    /// The number at `index`; None for anything else.
    pub fn number(&self, index: c_int) -> Option<f64> {
        // SAFETY: type checks and conversions of a number never raise.
        unsafe {
            (lua::lua_type(self.state, index) == lua::LUA_TNUMBER)
                .then(|| lua::lua_tonumber(self.state, index))
        }
    }

    /// The number at `index`, or what a string there stands for; None for anything else.
    pub fn numeric(&self, index: c_int) -> Option<f64> {
        // SAFETY: type checks and conversions never raise; a string stays one.
        unsafe {
            (lua::lua_isnumber(self.state, index) != 0)
                .then(|| lua::lua_tonumber(self.state, index))
        }
    }

    /// The truth of the value at `index`.
    pub fn truth(&self, index: c_int) -> bool {
        // SAFETY: never raises, any index.
        unsafe { lua::lua_toboolean(self.state, index) != 0 }
    }

    /// The boolean at `index`; None for anything else.
    pub fn flag(&self, index: c_int) -> Option<bool> {
        // SAFETY: type checks never raise.
        let is_flag = unsafe { lua::lua_type(self.state, index) == lua::LUA_TBOOLEAN };
        is_flag.then(|| self.truth(index))
    }

    /// The numbers of the array at `index`; None for anything else.
    pub fn numbers(&self, index: c_int) -> Option<Vec<f64>> {
        self.list(index)?.ok()?.iter().map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect()
    }

    /// The session at `index`.
    pub fn session(&self, index: c_int) -> Option<&'l Session> {
        self.shared_session(index).map(|session| &**session)
    }

    /// The same, to be held for longer.
    pub fn shared_session(&self, index: c_int) -> Option<&'l Rc<Session>> {
        match self.object(index)? {
            Object::Session(session) => Some(session),
            _ => None,
        }
    }

    /// The pair at `index`.
    pub fn pair(&self, index: c_int) -> Option<&'l Rc<Pair>> {
        match self.object(index)? {
            Object::Pair(pair) => Some(pair),
            _ => None,
        }
    }

    /// The client's opening handshake at `index`.
    pub fn opening(&self, index: c_int) -> Option<&'l RefCell<Opening>> {
        match self.object(index)? {
            Object::Opening(opening) => Some(opening),
            _ => None,
        }
    }

    /// The connection at `index` whose bytes a socket carries.
    pub fn carried(&self, index: c_int) -> Option<&'l RefCell<Carried>> {
        match self.object(index)? {
            Object::Carried(conn) => Some(conn),
            _ => None,
        }
    }

    /// The listener at `index`.
    pub fn listener(&self, index: c_int) -> Option<&'l Listener> {
        match self.object(index)? {
            Object::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    /// The accepted connection at `index`.
    pub fn stream(&self, index: c_int) -> Option<&'l Rc<Stream>> {
        match self.object(index)? {
            Object::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// The reader of frames at `index`.
    pub fn frame_reader(&self, index: c_int) -> Option<&'l RefCell<FrameReader>> {
        match self.object(index)? {
            Object::FrameReader(reader) => Some(reader),
            _ => None,
        }
    }

    /// The connection behind the cosocket at `index`. None for anything but a connected cosocket
    /// of the current request.
    pub fn cosocket(&self, index: c_int) -> Option<Cosocket<'l>> {
        // Where ngx_lua keeps the userdata in the table that is the socket, also for
        // lua-resty-core.
        const USERDATA: lua::lua_Integer = 1;
        let r = self.request()?;
        // SAFETY: raw access never raises, and what is pushed is popped. The userdata stays in the
        // table at `index`, and so alive, while this call runs; ngx_lua has initialised it.
        unsafe {
            if lua::lua_type(self.state, index) != lua::LUA_TTABLE {
                return None;
            }
            lua::lua_rawgeti(self.state, index, USERDATA);
            let full = lua::lua_type(self.state, -1) == lua::LUA_TUSERDATA;
            let memory = lua::lua_touserdata(self.state, -1);
            let len = if full { lua::lua_rawlen(self.state, -1) } else { 0 };
            lua::lua_settop(self.state, -2);
            Cosocket::find(memory, len, r)
        }
    }

    /// Whether the methods of the table at `index` are C functions that it has from its metatable,
    /// as a cosocket's are: a program may have put its own in their place.
    pub fn has_native_methods(&self, index: c_int, methods: &[Method]) -> bool {
        // SAFETY: raw access never raises nor makes anything; what is pushed is popped. The upvalue is
        // the metatable of our userdata, which has the names.
        unsafe {
            let (state, top) = (self.state, lua::lua_gettop(self.state));
            if lua::lua_type(state, index) != lua::LUA_TTABLE
                || lua::lua_getmetatable(state, index) == 0
            {
                return false;
            }
            let native = methods.iter().all(|method| {
                lua::lua_rawgeti(state, lua::lua_upvalueindex(1), *method as lua::lua_Integer);
                lua::lua_pushvalue(state, -1);
                lua::lua_rawget(state, index);
                let overridden = lua::lua_type(state, -1) != lua::LUA_TNIL;
                lua::lua_settop(state, -2);
                lua::lua_rawget(state, top + 1);
                let native = lua::lua_iscfunction(state, -1) != 0;
                lua::lua_settop(state, -2);
                native && !overridden
            });
            lua::lua_settop(state, top);
            native
        }
    }

    /// A userdata of ours.
    pub fn object(&self, index: c_int) -> Option<&'l Object> {
        // SAFETY: a full userdata of this size is read (a light one has no length, anything else no
        // address), and it is on the stack, so it is not collected during the call; see `Slot::get`
        // for what tells ours from others'.
        unsafe {
            let slot = lua::lua_touserdata(self.state, index).cast::<Slot>();
            if slot.is_null() || lua::lua_rawlen(self.state, index) != std::mem::size_of::<Slot>() {
                return None;
            }
            (*slot).get()
        }
    }
}

/// The memory of a userdata of ours. Lua owns it; `collect` drops the object in it.
#[repr(C)]
pub struct Slot {
    /// Address of `MARK`: an address in this module, which nothing else has reason to hold.
    mark: *const u8,
    object: Option<Object>,
}

static MARK: u8 = 0;

impl Slot {
    /// What it holds. None for memory that is none of ours, and after `collect`.
    pub fn get(&self) -> Option<&Object> {
        self.object.as_ref().filter(|_| std::ptr::eq(self.mark, &raw const MARK))
    }
}

/// Runs `body` for a raw C function.
///
/// # Safety
/// `state` must be the state Lua called the function with.
pub unsafe fn call(state: *mut lua::lua_State, body: Body) -> c_int {
    lua_wait::calling(state.cast());
    let args = Args { state, call: PhantomData, texts: RefCell::default() };
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
                slot.cast::<Slot>().write(Slot { mark: &raw const MARK, object: Some(object) });
                lua::lua_pushvalue(state, lua::lua_upvalueindex(1));
                lua::lua_setmetatable(state, -2);
            }
        }
    }
}

/// `__gc` of our userdata.
pub unsafe extern "C-unwind" fn collect(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this once per userdata of ours, with it as the only argument. The slot is
    // emptied, so that a resurrected userdata finds nothing instead of freed memory.
    unsafe {
        if let Some(slot) = lua::lua_touserdata(state, 1).cast::<Slot>().as_mut() {
            let object = slot.object.take();
            guarded("__gc", (), || drop(object));
        }
    }
    0
}
