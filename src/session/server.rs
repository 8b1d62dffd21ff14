//! A server-side session: a connection, its request's place in nginx's events, and who waits. What it
//! can do for Lua stands in `frames` (one call, one frame: the drop-in API) and `messages` (the
//! protocol kept by the module); one connection may use both, a message at a time. How it begins
//! stands in `begin`, what nginx's events do with it in `events`.

use std::cell::Cell;
use std::rc::Rc;

use ws_conn::{Connection, IoError, Tally};
use ws_hub::ConnId;

use super::driver::Driver;
use super::options::{ShutdownClose, SlowConsumer};
use super::partner::Partner;
use super::waiting::Waiting;
use crate::ngx::clock::now_ms;
use crate::ngx::link::Link;
use crate::ngx::lua_conf::LuaConf;
use crate::ngx::lua_wait::Wait;
use crate::ngx::per_worker::PerWorker;
use crate::ngx::pooled::Pooled;
use crate::ngx::request::Request;
use crate::ngx::transport::Transport;

static CONF: PerWorker<Cell<Option<LuaConf>>> = PerWorker::new(Cell::new(None));

/// ngx_lua's directives, looked up once per worker.
pub(super) fn lua_conf() -> LuaConf {
    let known = CONF.get().unwrap_or_else(LuaConf::lookup);
    CONF.set(Some(known));
    known
}

/// What a session holds while it is used.
pub(super) struct State {
    pub driver: Driver,
    pub slow: SlowConsumer,
    /// What to say when the worker quits, until it is said.
    pub shutdown: Option<Rc<ShutdownClose>>,
    /// The timer runs for this goodbye, and no longer for the heartbeat.
    pub goodbye: Option<Rc<ShutdownClose>>,
    pub log_errors: bool,
    /// Set where no handler reads: who is told of messages.
    pub alone: Option<Rc<Each>>,
    /// Set where another connection takes what comes.
    pub partner: Option<Rc<dyn Partner>>,
    /// The peer is told that the handler has ended.
    pub handler_close: bool,
    /// The request is freed once no handler needs it.
    pub detach: bool,
    /// The worker quits, and this connection keeps it until the peer ends it.
    pub stays: bool,
}

impl State {
    /// Whether the conversation goes on, and is to end with its handler.
    #[inline]
    pub fn tells_return(&self) -> bool {
        self.handler_close && self.alone.is_none() && self.partner.is_none() && self.goes_on()
    }

    /// Whether the conversation goes on.
    #[inline]
    pub fn goes_on(&self) -> bool {
        let conn = &self.driver.conn;
        !conn.is_over() && !conn.is_closing() && conn.write_end().is_none()
    }
}

/// Told of every message of a connection without a handler: whether it is text, and its bytes.
pub type Each = dyn Fn(bool, &[u8]);

/// Who is told what becomes of a connection, by the number that goes with it.
pub struct Watch {
    /// It has ended; once.
    pub ended: fn(u32),
    /// There is room for output again, after `Session::tell_room`.
    pub room: fn(u32),
}

/// A server-side connection.
///
/// Reference-counted: one count lies in the request's pool (given back by its last cleanup), one in
/// the Lua userdata (given back by `__gc`); either may go first. When the request goes first, `link`
/// is dead and every call answers that the session has ended. When the Lua object goes first, the
/// session lives on for its pending output. A parked light thread holds the userdata on its stack,
/// so the semaphores outlive their waiters.
pub struct Session {
    pub(super) link: Link,
    pub(super) waiting: Waiting,
    pub(super) io: Pooled<State>,
    /// The hub, with its registration, until the end.
    watch: Cell<Option<(&'static Watch, u32)>>,
    /// It waits for room.
    wants_room: Cell<bool>,
    /// Given by the hub.
    id: Cell<Option<ConnId>>,
    /// When it began; 0 before.
    opened: Cell<u64>,
}

impl Session {
    pub(super) fn new(waiting: Waiting, io: Pooled<State>) -> Session {
        Session {
            link: Link::new(),
            waiting,
            io,
            watch: Cell::new(None),
            wants_room: Cell::new(false),
            id: Cell::new(None),
            opened: Cell::new(0),
        }
    }

    /// It begins now.
    pub(super) fn note_begin(&self) {
        self.opened.set(now_ms());
    }

    /// Whether `begin` has been called.
    pub fn has_begun(&self) -> bool {
        self.opened.get() > 0
    }

    /// Sets time-outs, in milliseconds; None: as ngx_lua's directives say for `r`.
    pub fn set_timeouts(&self, r: Request, send: Option<u64>, read: Option<u64>) {
        let conf = lua_conf();
        self.waiting.send_timeout.set(send.unwrap_or_else(|| conf.send_timeout_ms(r)));
        self.waiting.recv_timeout.set(read.unwrap_or_else(|| conf.read_timeout_ms(r)));
    }

    /// Whether output is below the high-water mark; parks the light thread that runs in `r` if
    /// not. `again` says that the caller was parked by the call before.
    pub fn drained(&self, r: Request, again: bool) -> Wait<Result<(), IoError>> {
        self.make_room(&self.io.borrow(), r, again)
    }

    /// The waiting half of a send.
    pub(super) fn make_room(
        &self,
        io: &State,
        r: Request,
        again: bool,
    ) -> Wait<Result<(), IoError>> {
        let conn = &io.driver.conn;
        if let Some(err) = conn.write_end() {
            return Wait::Ready(Err(err));
        }
        if !self.link.is_open() {
            return Wait::Ready(Err(IoError::Closed));
        }
        if conn.has_room() {
            return Wait::Ready(Ok(()));
        }
        let waited = self.waiting.for_room(r, again, None, conn.last_out());
        if io.log_errors && matches!(waited, Wait::Ready(Err(IoError::Timeout))) {
            self.link.info("lua tcp socket write timed out");
        }
        waited
    }

    /// Whether the session's own request is alive and its handler runs.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Whether it has ended: of it there is nothing more to be told, see `note_end`.
    pub fn is_gone(&self) -> bool {
        self.has_begun() && (!self.is_open() || self.io.borrow().driver.conn.is_over())
    }

    /// Whether the connection's log takes debug lines.
    pub fn logs_debug(&self) -> bool {
        self.link.logs_debug()
    }

    /// The id under which the hub knows this connection.
    pub fn id(&self) -> Option<ConnId> {
        self.id.get()
    }

    /// Milliseconds since the connection was upgraded.
    pub fn age_ms(&self) -> u64 {
        now_ms().saturating_sub(self.opened.get())
    }

    /// Gives the connection its id.
    pub fn set_id(&self, id: ConnId) {
        self.id.set(Some(id));
    }

    /// Tells `watch`, with `number`, what becomes of this connection. There is one.
    pub fn watch(&self, watch: &'static Watch, number: u32) {
        self.watch.set(Some((watch, number)));
    }

    /// Has the watch told once when there is room for output.
    pub fn tell_room(&self) {
        self.wants_room.set(true);
    }

    /// After output has left. Nothing may be borrowed: who is told may queue more.
    pub(super) fn told_room(&self) {
        if !self.wants_room.get() || self.buffered() > ROOM {
            return;
        }
        self.wants_room.set(false);
        if let Some((watch, number)) = self.watch.get() {
            (watch.room)(number);
        }
    }

    /// Resumes who waits for messages: there is something else to be told.
    pub fn notify(&self) {
        self.waiting.tell_gap();
    }

    /// Closes a peer that has taken nothing for the time-out of sending, where slow ones are closed.
    /// Whether it has.
    pub fn close_if_stuck(&self) -> bool {
        let stuck = self.stuck_for().is_some_and(|ms| ms > self.waiting.send_timeout.get());
        let mut io = self.io.borrow_mut();
        let closes = stuck && io.slow == SlowConsumer::Close;
        if closes {
            self.close_slow(&mut io);
        }
        closes
    }

    /// Ends what the watch keeps for this connection.
    pub fn give_up(&self) {
        if let Some((watch, number)) = self.watch.take() {
            (watch.ended)(number);
        }
    }

    /// Asks something of the connection itself.
    pub fn ask<R>(&self, question: impl FnOnce(&Connection) -> R) -> R {
        question(&self.io.borrow().driver.conn)
    }

    /// Bytes that were sent and not yet taken by the kernel.
    pub fn buffered(&self) -> usize {
        self.io.borrow().driver.conn.buffered()
    }

    /// What this connection has moved.
    pub fn tally(&self) -> Tally {
        self.io.borrow().driver.conn.tally()
    }

    /// Acts on what the last calls of the connection have brought.
    #[inline]
    pub(super) fn react(&self, io: &mut State) {
        if io.driver.react(&self.link, Some(&self.waiting)) {
            self.await_return(io);
        }
    }

    /// Sends as much as the kernel takes.
    pub(super) fn flush_now(&self, io: &mut State) {
        io.driver.flush(&self.link, Some(&self.waiting));
        self.await_return(io);
    }

    /// After each flush: has ours called when the handler returns, where that means something.
    #[inline]
    pub(super) fn await_return(&self, io: &State) {
        let outlives = self.link.outlives_handler();
        if !(io.handler_close || outlives) || self.link.awaits_return() {
            return;
        }
        let pending = io.driver.conn.has_pending(self.link.io());
        if !pending && (outlives || io.tells_return()) && self.link.is_open() {
            self.link.await_return();
        }
    }

    /// Gone means gone: whoever looks from now on finds neither the connection nor a subscription of
    /// it, however long its handler goes on. Not from within a call of the hub.
    pub(super) fn note_end(&self) {
        self.give_up();
        // Last: whoever sees it gone in the numbers finds no subscription of it either.
        self.io.borrow_mut().driver.uncount();
    }
}

/// Who waits for room is told when no more than this waits to be sent.
const ROOM: usize = 16 * 1024;
