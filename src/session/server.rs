//! A server-side session: its state, its output and its place in nginx's events. What it can do
//! for Lua stands in `frames` (one call, one frame: the drop-in API) and `messages` (the protocol
//! kept by the module); one connection may use both, a message at a time.

use std::cell::Cell;
use std::rc::Rc;

use ws_conn::{Config, Connection, End, IoError, News, Rate, Role, Style, Tally};
use ws_hub::ConnId;
use ws_proto::ext::Agreed;
use ws_proto::Masking;

use super::messages::Each;
use super::worker::{self, Worker};
use super::{random, stats};
use crate::ngx::clock::now_ms;
use crate::ngx::link::Link;
use crate::ngx::lua_conf::LuaConf;
use crate::ngx::lua_wait::{Semaphore, Wait, Waiters};
use crate::ngx::per_worker::PerWorker;
use crate::ngx::pooled::Pooled;
use crate::ngx::process;
use crate::ngx::request::Request;
use crate::ngx::takeover::{self, Takeover};

static CONF: PerWorker<Cell<Option<LuaConf>>> = PerWorker::new(Cell::new(None));

/// ngx_lua's directives, looked up once per worker.
fn lua_conf() -> LuaConf {
    let known = CONF.get().unwrap_or_else(LuaConf::lookup);
    CONF.set(Some(known));
    known
}

/// What a session is opened with. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it starts as.
    pub style: Style,
    /// Longest payload of a received frame.
    pub max_frame: u64,
    /// Longest received message.
    pub max_message: u64,
    /// How long a read may wait (`NEVER` ends it for no time); None means ngx_lua's directive.
    pub recv_timeout: Option<u64>,
    /// How long a write may wait, likewise.
    pub send_timeout: Option<u64>,
    /// A send that leaves more than this pending waits for the peer.
    pub high_water: usize,
    /// What happens when more than `high_water` would wait for pushed messages.
    pub slow: SlowConsumer,
    /// Idle time after which the module pings, and how long it waits for anything to come.
    /// None: no heartbeat.
    pub heartbeat: Option<(u64, u64)>,
    /// How often messages may come.
    pub rate: Option<Rate>,
    /// How long it may live: so long, and up to so long more, at random.
    pub lifetime: Option<(u64, u64)>,
    /// The agreed compression.
    pub extension: Option<Agreed>,
    /// What the peer is told when the worker quits; None: nothing.
    pub shutdown: Option<Rc<ShutdownClose>>,
    /// Whether the end of the handler closes what is still open: 1000, or 1011 where it failed.
    pub handler_close: bool,
}

/// The goodbye of a worker that has been told to quit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownClose {
    /// Close code.
    pub code: u16,
    /// Reason, UTF-8 of at most 123 bytes.
    pub reason: Vec<u8>,
    /// Milliseconds over which connections are spread, so that not all come back at once.
    pub over: u64,
}

/// What happens to a reader over its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It misses the message.
    Drop,
    /// It is closed with 1013.
    Close,
}

/// A time-out that never passes.
pub const NEVER: u64 = u64::MAX;

/// How far our side of the stream is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputEnd {
    /// Output goes on.
    Open,
    /// It ends when the outbox is empty.
    Asked,
    /// All has left. The stream ends with this turn of the event loop, unless nginx closes the
    /// connection before.
    Due,
}

pub(super) struct State {
    pub conn: Connection,
    /// Our side of the stream ends when all has left.
    pub end_output: OutputEnd,
    pub recv_timeout: u64,
    pub send_timeout: u64,
    pub slow: SlowConsumer,
    /// When the present reader and writer began to wait: time-outs count idle time.
    pub reading_since: u64,
    draining_since: u64,
    /// What to say when the worker quits, until it is said.
    pub shutdown: Option<Rc<ShutdownClose>>,
    /// The timer runs for this goodbye, and no longer for the heartbeat.
    pub goodbye: Option<Rc<ShutdownClose>>,
    pub log_errors: bool,
    /// Set where no handler reads: who is told of messages.
    pub alone: Option<Rc<Each>>,
    /// The peer is told that the handler has ended.
    handler_close: bool,
    /// The worker quits, and this connection keeps it until the peer ends it.
    pub stays: bool,
    /// A compressor and an inflater went with it.
    packs: bool,
}

impl State {
    /// Whether the conversation goes on, and is to end with its handler.
    fn tells_return(&self) -> bool {
        let conn = &self.conn;
        let goes_on = !conn.is_over() && !conn.is_closing() && conn.write_end().is_none();
        self.handler_close && self.alone.is_none() && goes_on
    }
}

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
    pub(super) reader: Semaphore,
    pub(super) writers: Waiters,
    pub(super) closers: Waiters,
    pub(super) io: Pooled<State>,
    /// The hub, with its registration, until the end.
    watch: Cell<Option<(&'static Watch, u32)>>,
    /// It waits for room.
    wants_room: Cell<bool>,
    /// Given by the hub.
    id: Cell<Option<ConnId>>,
    /// When it began; 0 before.
    opened: Cell<u64>,
    /// It counts as an open connection.
    counted: Cell<bool>,
}

impl Session {
    /// A session for `r`, which it is bound to; messages for it wait until it begins. None: no
    /// memory.
    pub fn prepare(r: Request, options: Options) -> Option<Rc<Session>> {
        let conf = lua_conf();
        let now = now_ms();
        let config = Config {
            role: Role::Server,
            style: options.style,
            masking: Masking::Required,
            max_frame: options.max_frame,
            max_message: options.max_message,
            mark: options.high_water,
            heartbeat: options.heartbeat,
            rate: options.rate,
            lifetime: options.lifetime.map(|(time, over)| {
                time.saturating_add(u64::from_le_bytes(random::bytes()) % over.saturating_add(1))
            }),
            extension: options.extension,
            late: false,
            answer: None,
            words: None,
        };
        let io = State {
            conn: Connection::new(&Worker, &config),
            end_output: OutputEnd::Open,
            recv_timeout: options.recv_timeout.unwrap_or_else(|| conf.read_timeout_ms(r)),
            send_timeout: options.send_timeout.unwrap_or_else(|| conf.send_timeout_ms(r)),
            slow: options.slow,
            reading_since: now,
            draining_since: now,
            shutdown: options.shutdown,
            goodbye: None,
            log_errors: conf.log_errors(r),
            alone: None,
            handler_close: options.handler_close,
            stays: false,
            packs: config.extension.is_some(),
        };
        let session = Rc::new(Session {
            link: Link::new(),
            reader: Semaphore::new()?,
            writers: Waiters::default(),
            closers: Waiters::default(),
            watch: Cell::new(None),
            wants_room: Cell::new(false),
            id: Cell::new(None),
            opened: Cell::new(0),
            counted: Cell::new(false),
            io: Pooled::new(r, io),
        });
        session.link.check_abort(conf.checks_client_abort(r));
        takeover::bind(r, session.clone()).then_some(session)
    }

    /// Takes the connection of `r` over for the session that was prepared for it. The 101 response
    /// must have left.
    pub fn begin(self: &Rc<Session>, r: Request) {
        let first = takeover::take(r, self);
        self.opened.set(now_ms());
        stats::opened();
        self.counted.set(true);
        let mut io = self.io.borrow_mut();
        io.conn.preread(&Worker, &first);
        if let Some(ms) = io.conn.first_timeout(&Worker, u32::from_le_bytes(random::bytes())) {
            self.set_timer(ms, false);
        }
        if io.shutdown.is_some() || io.alone.is_some() {
            self.link.want_quit_notice();
        }
        // Too late for nginx's notice.
        if process::is_quitting() {
            self.quit(&mut io);
        }
        if io.conn.buffered() > 0 {
            self.link.set_pending(true);
        } else if io.tells_return() {
            self.link.await_return();
        }
        // A connection that nobody reads from yet must answer pings all the same.
        if io.conn.style() == Style::Messages || io.conn.buffered() > 0 {
            self.link.post_flush();
        }
    }

    /// Whether `begin` has been called.
    pub fn has_begun(&self) -> bool {
        self.opened.get() > 0
    }

    /// Sets time-outs, in milliseconds; None: as ngx_lua's directives say for `r`.
    pub fn set_timeouts(&self, r: Request, send: Option<u64>, read: Option<u64>) {
        let conf = lua_conf();
        let mut io = self.io.borrow_mut();
        io.send_timeout = send.unwrap_or_else(|| conf.send_timeout_ms(r));
        io.recv_timeout = read.unwrap_or_else(|| conf.read_timeout_ms(r));
    }

    /// Whether output is below the high-water mark; parks the light thread that runs in `r` if
    /// not. `again` says that the caller was parked by the call before.
    pub fn drained(&self, r: Request, again: bool) -> Wait<Result<(), IoError>> {
        self.make_room(&mut self.io.borrow_mut(), r, again)
    }

    /// The waiting half of a send.
    pub(super) fn make_room(
        &self,
        io: &mut State,
        r: Request,
        again: bool,
    ) -> Wait<Result<(), IoError>> {
        if let Some(err) = io.conn.write_end() {
            return Wait::Ready(Err(err));
        }
        if !self.link.is_open() {
            return Wait::Ready(Err(IoError::Closed));
        }
        if io.conn.has_room() {
            return Wait::Ready(Ok(()));
        }
        let now = now_ms();
        // The time-out counts from the last progress. A writer that joins others must not put it
        // off: a stalled peer would never fail while new sends keep coming.
        if !again && self.writers.waiters() == 0 {
            io.draining_since = now;
        }
        let since = io.draining_since.max(io.conn.last_out());
        let deadline = since.saturating_add(io.send_timeout);
        if again && now >= deadline {
            if io.log_errors {
                self.link.info("lua tcp socket write timed out");
            }
            return Wait::Ready(Err(IoError::Timeout));
        }
        self.writers.park(r, deadline.saturating_sub(now))
    }

    /// Whether the session's own request is alive and its handler runs.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
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
    fn told_room(&self) {
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
        self.reader.wake_all();
    }

    /// Closes a peer that has taken nothing for the time-out of sending, where slow ones are closed.
    /// Whether it has.
    pub fn close_if_stuck(&self) -> bool {
        let mut io = self.io.borrow_mut();
        let waited = now_ms().saturating_sub(io.conn.last_out());
        let stuck = io.slow == SlowConsumer::Close && waited > io.send_timeout;
        let closes = stuck && io.conn.buffered() > 0 && io.conn.end().is_none();
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

    /// Bytes that were sent and not yet taken by the kernel.
    pub fn buffered(&self) -> usize {
        self.io.borrow().conn.buffered()
    }

    /// What this connection has moved.
    pub fn tally(&self) -> Tally {
        self.io.borrow().conn.tally()
    }

    fn on_readable(&self, io: &mut State) {
        if self.link.must_drop() {
            io.conn.lost(IoError::Closed);
            io.conn.take_news();
            self.wake_all();
            return;
        }
        if self.link.is_draining() {
            return;
        }
        if self.link.has_quit_notice() {
            self.quit(io);
        }
        match io.conn.style() {
            Style::Frames if !io.conn.is_closing() => self.frame_readable(io),
            _ => self.message_readable(io),
        }
    }

    /// Acts on what the last calls of the connection have brought.
    #[inline]
    pub(super) fn react(&self, io: &mut State) {
        let news = io.conn.take_news();
        if !news.is_none() {
            self.act(io, news);
        }
    }

    fn act(&self, io: &mut State, news: News) {
        if news.has(News::BROKEN) {
            if let Some(err) = io.conn.fault() {
                self.link.info(&broken_rule(err));
            }
        }
        if news.has(News::CUT) {
            self.link.set_pending(false);
            self.link.hang_up();
        }
        if news.has(News::OVER) {
            // RFC 6455 7.1.1: the server ends TCP first, once its close frame is out, which nothing
            // can follow and which therefore leaves at once. Frames are their handler's to end.
            if io.conn.end().is_some() {
                io.end_output = OutputEnd::Asked;
            }
            self.flush_now(io);
            self.wake_all();
        } else {
            if news.has(News::OUTPUT) {
                self.queued(io);
            }
            if news.has(News::LEFT) {
                self.note_pending(io);
            }
            if news.has(News::ITEMS) {
                self.reader.wake_all();
            }
        }
        let more = io.conn.take_news();
        if news.has(News::AGAIN) || news.has(News::OVER) || !more.is_none() {
            self.link.post_flush();
        }
    }

    /// After frames were queued: they leave at the end of this turn, or now where much waits.
    fn queued(&self, io: &mut State) {
        self.link.set_pending(true);
        if io.conn.has_room() {
            self.link.post_flush();
        } else {
            self.flush_now(io);
        }
    }

    /// Sends as much as the kernel takes.
    pub(super) fn flush_now(&self, io: &mut State) {
        if self.has_begun() {
            io.conn.flush(&Worker, &self.link);
            self.note_pending(io);
        }
    }

    /// Tells nginx whether output waits, and those who wait for it to leave.
    fn note_pending(&self, io: &mut State) {
        let pending = io.conn.has_pending(&self.link);
        self.link.set_pending(pending);
        if !pending {
            self.link.shrink();
            self.link.want_write();
            if io.tells_return() && self.link.is_open() {
                self.link.await_return();
            }
        }
        if io.conn.has_room() {
            self.writers.wake_all();
        }
    }

    /// Ends our side of the stream once all has left. A handler that was told of the end before
    /// runs first: the connection is closed when it returns, and that ends the stream too.
    fn end_stream(&self, io: &mut State) {
        let ended = io.conn.write_end().is_some() || io.conn.has_pending(&self.link);
        if io.end_output == OutputEnd::Open || ended {
            return;
        }
        if io.end_output == OutputEnd::Asked {
            io.end_output = OutputEnd::Due;
            self.link.post_flush();
        } else {
            io.end_output = OutputEnd::Open;
            self.link.end_output();
        }
    }

    /// Gone means gone: whoever looks from now on finds neither the connection nor a subscription of
    /// it, however long its handler goes on. Not from within a call of the hub.
    fn note_end(&self, code: u16) {
        self.give_up();
        // Last: whoever sees it gone in the numbers finds no subscription of it either.
        if self.counted.take() {
            stats::closed(code);
        }
    }

    pub(super) fn set_timer(&self, ms: u64, must_run: bool) {
        // No limit is as long as nginx's timers go.
        self.link.set_timer(ms.min(i32::MAX as u64), must_run);
    }

    pub(super) fn wake_all(&self) {
        self.reader.wake_all();
        self.writers.wake_all();
        self.closers.wake_all();
    }
}

/// Who waits for room is told when no more than this waits to be sent.
const ROOM: usize = 16 * 1024;

/// The log line for a peer's fault.
pub fn broken_rule(err: ws_proto::Error) -> String {
    match err {
        ws_proto::Error::NoMemory => "websocket connection closed: no memory".to_string(),
        err => format!("websocket peer broke a rule: {err} ({})", err.rule()),
    }
}

impl Takeover for Session {
    fn link(&self) -> &Link {
        &self.link
    }

    fn readable(&self) {
        self.on_readable(&mut self.io.borrow_mut());
        self.tend();
    }

    fn flush(&self) {
        let code = {
            let mut io = self.io.borrow_mut();
            let io = &mut *io;
            if self.link.is_open() {
                io.conn.handle_turn(&Worker, &self.link);
                self.react(io);
            }
            self.flush_now(io);
            self.end_stream(io);
            io.conn.end_turn(&Worker);
            io.conn.is_over().then(|| io.conn.outcome().map_or(1006, |end: End| end.code()))
        };
        if let Some(code) = code {
            self.note_end(code);
        }
        self.told_room();
        self.tend();
    }

    fn timer(&self) {
        self.on_timer(&mut self.io.borrow_mut());
        self.tend();
    }

    fn pending(&self) -> bool {
        self.io.borrow().conn.has_pending(&self.link)
    }

    fn knows_end(&self) -> bool {
        let io = self.io.borrow();
        let is_awaited = self.reader.waiters() > 0 || self.closers.waiters() > 0;
        // Without a handler nobody is to be ended: `tend` sees to the request.
        io.conn.is_over() || is_awaited || io.alone.is_some()
    }

    fn has_unread(&self) -> bool {
        self.io.borrow().conn.has_unread()
    }

    fn handler_ended(&self, failed: bool) -> bool {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let tells = io.tells_return();
        if tells {
            let code = if failed { 1011 } else { 1000 };
            io.conn.end_with(&Worker, code, b"");
            self.react(io);
        }
        tells
    }

    fn discard(&self) {
        self.io.borrow_mut().conn.give_up_output();
        self.link.set_pending(false);
    }

    fn drain_timeout(&self) -> u64 {
        // No limit is as long as nginx's timers go.
        self.io.borrow().send_timeout.min(i32::MAX as u64)
    }

    fn ended(&self) {
        let code = {
            let mut io = self.io.borrow_mut();
            io.conn.end_unsaid();
            io.conn.outcome().map_or(1006, |end: End| end.code())
        };
        self.wake_all();
        self.note_end(code);
    }

    fn leave_pool(&self) {
        if self.io.leave().is_err() {
            // What is borrowed now would be used after its memory is gone.
            std::process::abort();
        }
        // Hundreds of kilobytes, which Lua's collector knows nothing of.
        self.io.borrow_mut().conn.free_codecs();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.conn.free_lent(&Worker);
        if self.packs {
            worker::codecs_freed();
        }
    }
}
