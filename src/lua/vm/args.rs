//! The arguments of a native, looked at without making anything in Lua: nothing here raises, and what it
//! lends stays on the stack while the call runs.

use std::cell::RefCell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::os::raw::c_int;
use std::rc::Rc;

use mlua::ffi as lua;
use ws_conn::FrameReader;
use ws_proto::handshake::client::Opening;

use super::number;
use super::object::{Object, Slot};
use crate::ffi;
use crate::ngx::cosocket::Cosocket;
use crate::ngx::leaving::Lookout;
use crate::ngx::listener::Listener;
use crate::ngx::peers::Peers;
use crate::ngx::request::Request;
use crate::proxy::Pair;
use crate::session::{Callbacks, Carried, Runner, Session, Stream};

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

impl<'l> Args<'l> {
    /// The arguments of the call that runs in `state`.
    ///
    /// # Safety
    /// `state` must be the state Lua called a native with, and this goes before that returns.
    pub unsafe fn of(state: *mut lua::lua_State) -> Args<'l> {
        Args { state, call: PhantomData, texts: RefCell::default() }
    }

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

    /// The look-out at `index`.
    pub fn lookout(&self, index: c_int) -> Option<&'l Rc<Lookout>> {
        match self.object(index)? {
            Object::Lookout(lookout) => Some(lookout),
            _ => None,
        }
    }

    /// The peers at `index`.
    pub fn peers(&self, index: c_int) -> Option<&'l Rc<Peers>> {
        match self.object(index)? {
            Object::Peers(peers) => Some(peers),
            _ => None,
        }
    }

    /// The pair at `index`.
    pub fn pair(&self, index: c_int) -> Option<&'l Pair> {
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

    /// The set of connections with callbacks at `index`.
    pub fn callbacks(&self, index: c_int) -> Option<&'l Rc<Callbacks>> {
        match self.object(index)? {
            Object::Callbacks(set) => Some(set),
            _ => None,
        }
    }

    /// The runner at `index`.
    pub fn runner(&self, index: c_int) -> Option<&'l Rc<Runner>> {
        match self.object(index)? {
            Object::Runner(runner) => Some(runner),
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
        // address), and it is on the stack, so it is not collected during the call; see `Slot::object`
        // for what tells ours from others'.
        unsafe {
            let slot = lua::lua_touserdata(self.state, index).cast::<Slot>();
            if lua::lua_rawlen(self.state, index) != std::mem::size_of::<Slot>() {
                return None;
            }
            Slot::object(slot)
        }
    }
}
