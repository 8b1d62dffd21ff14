//! What Lua holds of ours: userdata with one count of something that may outlive it. How ours are told
//! from others', and how they end.

use std::cell::RefCell;
use std::os::raw::c_int;
use std::rc::Rc;

use mlua::ffi as lua;
use ws_conn::FrameReader;
use ws_proto::handshake::client::Opening;
use ws_proto::FrameCheck;

use crate::hub::{Errand, Mailbox, Roll};
use crate::ngx::guard::guarded;
use crate::ngx::leaving::Lookout;
use crate::ngx::listener::Listener;
use crate::ngx::lua_wait::Waiters;
use crate::ngx::peers::Peers;
use crate::proxy::{Held, Refusal};
use crate::session::{Callbacks, Carried, Runner, Session, Stream};

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
    /// Light threads that wait for what Lua knows of.
    Waiters(Waiters),
    /// A question who subscribes a topic.
    Roll(Box<RefCell<Roll>>),
    /// Something that the worker is asked for which talks to brokers.
    Errand(Box<Errand>),
    /// A port opened from Lua.
    Listener(Listener),
    /// A connection of such a port.
    Stream(Rc<Stream>),
    /// A client and its upstream.
    Pair(Held),
    /// Who looks whether a client leaves.
    Lookout(Rc<Lookout>),
    /// An upstream's answer in HTTP.
    Refusal(Box<RefCell<Refusal>>),
    /// Whom an upstream block chooses.
    Peers(Rc<Peers>),
    /// The connections of a location with callbacks.
    Callbacks(Rc<Callbacks>),
    /// A light thread that calls them.
    Runner(Rc<Runner>),
    /// The rules of messages, for who reads frames.
    FrameCheck(Box<RefCell<FrameCheck>>),
    /// What puts frames together that come in pieces.
    FrameReader(Box<RefCell<FrameReader>>),
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
    /// A userdata's memory with `object` in it.
    pub fn new(object: Object) -> Slot {
        Slot { mark: &raw const MARK, object: Some(object) }
    }

    /// What is held by the userdata whose memory this is. None for one that is none of ours, and after
    /// `collect`.
    ///
    /// # Safety
    /// `slot` must be null, or the memory of a userdata, which stays for `'l`.
    pub unsafe fn object<'l>(slot: *const Slot) -> Option<&'l Object> {
        // SAFETY: by contract. The mark is looked at first: whatever bytes others have there are an address,
        // and behind ours is an object.
        unsafe {
            let ours =
                !slot.is_null() && std::ptr::eq((&raw const (*slot).mark).read(), &raw const MARK);
            ours.then(|| (*slot).object.as_ref()).flatten()
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
