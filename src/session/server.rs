//! A server-side session: its state, its output and its place in nginx's events. What it can do
//! for Lua stands in `frames` (one call, one frame: the drop-in API) and `messages` (the protocol
//! kept by the module); one connection may use both, a message at a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ws_hub::ConnId;
use ws_proto::ext::{Agreed, Encoder};
use ws_proto::{Conn, Masking, Settings, Style};

use super::dialogue::{Dialogue, End, Role};
use super::intake::Intake;
use super::messages::Each;
use super::outbox::Outbox;
use super::outgoing::SlowConsumer;
use super::random::bytes;
use super::stats::Tally;
use super::{heartbeat::Heartbeat, stats, IoError};
use crate::ngx::clock::now_ms;
use crate::ngx::link::Link;
use crate::ngx::lua_conf::LuaConf;
use crate::ngx::lua_wait::{Parking, Semaphore};
use crate::ngx::per_worker::PerWorker;
use crate::ngx::pooled::Pooled;
use crate::ngx::request::Request;
use crate::ngx::takeover::{self, Takeover};
use crate::ngx::wake;
use crate::ngx::wire::Sent;

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
    /// The agreed compression.
    pub deflate: Option<Agreed>,
    /// What the peer is told when the worker quits; None: nothing.
    pub shutdown: Option<Rc<ShutdownClose>>,
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

/// Result of waiting for output to drain.
#[derive(Debug)]
pub enum Drained {
    /// Below the high-water mark.
    Yes,
    /// The calling light thread has been parked and must yield.
    Parked,
    /// It will not drain (or not in time).
    Failed(IoError),
    /// ngx_lua refuses to park the caller: its text.
    Denied(String),
}

/// How far our side of the stream is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Output goes on.
    Open,
    /// It ends when the outbox is empty.
    Asked,
    /// All has left. The stream ends with this turn of the event loop, unless nginx closes the
    /// connection before.
    Due,
}

/// Close frames that went through a session in frame style.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closes {
    /// Lua has sent one.
    pub sent: bool,
    /// Lua was handed the peer's.
    pub taken: bool,
}

pub(super) struct Io {
    pub intake: Intake,
    pub dialogue: Dialogue,
    pub style: Style,
    /// In frame style: the frame that woke the reader, until it takes it.
    pub ready: Option<(bool, u8, Vec<u8>)>,
    /// In frame style: the limit on frames that was last asked with.
    pub max_frame: f64,
    /// In frame style: the data frame last handed out was not its message's last.
    pub half_read: bool,
    /// Memory of what was last handed out, freed when the session is used again.
    pub lent: Option<Vec<u8>>,
    pub outbox: Outbox,
    /// Why nothing more can be written.
    pub write_end: Option<IoError>,
    /// The end that is put off has been held up for one flush.
    pub last_call: bool,
    /// Our side of the stream ends when the outbox is empty.
    pub end_output: Ending,
    /// In frame style: which close frames there were.
    pub closes: Closes,
    pub recv_timeout: u64,
    pub send_timeout: u64,
    pub high_water: usize,
    pub slow: SlowConsumer,
    /// When the present reader and writer began to wait: time-outs count idle time.
    pub reading_since: u64,
    draining_since: u64,
    closing_since: u64,
    last_out: u64,
    pub heartbeat: Option<Heartbeat>,
    /// What to say when the worker quits, until it is said.
    pub shutdown: Option<Rc<ShutdownClose>>,
    /// The timer runs for this goodbye, and no longer for the heartbeat.
    pub goodbye: Option<Rc<ShutdownClose>>,
    pub log_errors: bool,
    /// Set where no handler reads: who is told of messages.
    pub alone: Option<Rc<Each>>,
    /// The worker quits, and this connection keeps it until the peer ends it.
    pub stays: bool,
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
    /// Made by the first send that has to wait.
    writers: RefCell<Option<Semaphore>>,
    /// Made by the first close that has to wait.
    pub(super) closers: RefCell<Option<Semaphore>>,
    pub(super) io: Pooled<Io>,
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
    /// A session for `r`, which it is bound to; messages for it wait until it begins. None: no
    /// memory.
    pub fn prepare(r: Request, options: Options) -> Option<Rc<Session>> {
        let conf = lua_conf();
        let now = now_ms();
        let settings = Settings {
            style: options.style,
            masking: Masking::Required,
            max_frame: options.max_frame,
            max_message: options.max_message,
            max_fragments: MAX_FRAGMENTS,
        };
        let (conn, encoder) = match &options.deflate {
            Some(agreed) => (
                Conn::with_deflate(settings, agreed, ws_proto::ext::Role::Server),
                Some(Encoder::new(agreed, ws_proto::ext::Role::Server)),
            ),
            None => (Conn::new(settings), None),
        };
        let io = Io {
            intake: Intake::new(conn),
            dialogue: Dialogue::new(Role::Server, encoder),
            style: options.style,
            ready: None,
            max_frame: options.max_frame as f64,
            half_read: false,
            lent: None,
            outbox: Outbox::default(),
            write_end: None,
            last_call: false,
            end_output: Ending::Open,
            closes: Closes::default(),
            recv_timeout: options.recv_timeout.unwrap_or_else(|| conf.read_timeout_ms(r)),
            send_timeout: options.send_timeout.unwrap_or_else(|| conf.send_timeout_ms(r)),
            high_water: options.high_water,
            slow: options.slow,
            reading_since: now,
            draining_since: now,
            closing_since: now,
            last_out: now,
            heartbeat: options
                .heartbeat
                .map(|(interval, timeout)| Heartbeat::new(interval.max(1), timeout))
                .map(|heartbeat| heartbeat.spread(u64::from_le_bytes(bytes()))),
            shutdown: options.shutdown,
            goodbye: None,
            log_errors: conf.log_errors(r),
            alone: None,
            stays: false,
        };
        let session = Rc::new(Session {
            link: Link::new(),
            reader: Semaphore::new()?,
            writers: RefCell::new(None),
            closers: RefCell::new(None),
            watch: Cell::new(None),
            wants_room: Cell::new(false),
            id: Cell::new(None),
            opened: Cell::new(0),
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
        let mut io = self.io.borrow_mut();
        io.intake.preread(first);
        if let Some(heartbeat) = &io.heartbeat {
            self.link.set_timer(heartbeat.first(), false);
        }
        if io.shutdown.is_some() || io.alone.is_some() {
            self.link.want_quit_notice();
        }
        // Too late for nginx's notice.
        if wake::is_quitting() {
            self.quit(&mut io);
        }
        if !io.outbox.is_empty() {
            self.link.set_pending(true);
        }
        // A connection that nobody reads from yet must answer pings all the same.
        if io.style == Style::Messages {
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
    pub fn drained(&self, r: Request, again: bool) -> Drained {
        let mut io = self.io.borrow_mut();
        if let Some(err) = io.write_end {
            return Drained::Failed(err);
        }
        if !self.link.is_open() {
            return Drained::Failed(IoError::Closed);
        }
        if io.outbox.len() <= io.high_water {
            return Drained::Yes;
        }
        let now = now_ms();
        // The time-out counts from the last progress. A writer that joins others must not put it
        // off: a stalled peer would never fail while new sends keep coming.
        if !again && waiters(&self.writers) == 0 {
            io.draining_since = now;
        }
        let deadline = io.draining_since.max(io.last_out).saturating_add(io.send_timeout);
        if again && now >= deadline {
            if io.log_errors {
                self.link.info("lua tcp socket write timed out");
            }
            return Drained::Failed(IoError::Timeout);
        }
        match park(&self.writers, r, deadline.saturating_sub(now)) {
            Parking::Parked => Drained::Parked,
            Parking::Denied(text) => Drained::Denied(text),
        }
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
        if !self.wants_room.get() || self.io.borrow().outbox.len() > ROOM {
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
        let waited = now_ms().saturating_sub(io.last_out);
        let stuck = io.slow == SlowConsumer::Close && waited > io.send_timeout;
        let closes = stuck && !io.outbox.is_empty() && io.dialogue.end().is_none();
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
        self.io.borrow().outbox.len()
    }

    /// What this connection has moved.
    pub fn tally(&self) -> Tally {
        self.io.borrow().dialogue.tally
    }

    fn on_readable(&self, io: &mut Io) {
        if self.link.must_drop() {
            io.intake.stop(IoError::Closed);
            io.dialogue.finish(End::Lost(IoError::Closed));
            io.write_end.get_or_insert(IoError::Closed);
            self.wake_all();
            return;
        }
        if self.link.is_draining() {
            return;
        }
        if self.link.has_quit_notice() {
            self.quit(io);
        }
        match io.style {
            Style::Frames if !io.dialogue.is_closing() => self.frame_readable(io),
            _ => self.message_readable(io),
        }
    }

    pub(super) fn has_pending(&self, io: &Io) -> bool {
        !io.outbox.is_empty() || self.link.tls_pending()
    }

    /// After frames were queued: they leave at the end of this turn, or now where much waits.
    /// Returns whether more is pending than the high-water mark allows.
    pub(super) fn queued(&self, io: &mut Io) -> bool {
        self.link.set_pending(true);
        if io.outbox.len() > io.high_water {
            self.flush_now(io);
        } else {
            self.link.post_flush();
        }
        io.outbox.len() > io.high_water
    }

    /// Offers a large frame to the kernel from where it lies, without a copy. Nothing may be
    /// pending before it. What is not taken is copied and queued.
    pub(super) fn send_direct(&self, io: &mut Io, head: &[u8], payload: &[u8]) {
        match self.link.send(&[head, payload]) {
            Sent::Failed(errno) => io.write_end = Some(IoError::from_errno(errno)),
            Sent::Bytes(n) if n >= head.len() => {
                io.outbox.push_rest(&[], &payload[n - head.len()..]);
            }
            Sent::Bytes(n) => io.outbox.push_rest(&head[n..], payload),
        }
        io.last_out = now_ms();
        let pending = io.write_end.is_none() && self.has_pending(io);
        if pending {
            self.link.want_write();
        } else {
            self.link.shrink();
        }
        self.link.set_pending(pending);
    }

    /// Sends as much as the kernel takes.
    pub(super) fn flush_now(&self, io: &mut Io) {
        if !self.has_begun() {
            return;
        }
        // TLS that has failed must not be asked again: nginx logs what OpenSSL then says at crit.
        if io.write_end.is_none() {
            match io.outbox.flush(&self.link) {
                Ok(0) => {}
                Ok(_) => io.last_out = now_ms(),
                Err(err) => io.write_end = Some(err),
            }
        }
        let pending = io.write_end.is_none() && self.has_pending(io);
        self.link.set_pending(pending);
        if !pending {
            self.link.shrink();
            self.link.want_write();
        }
        if io.outbox.len() <= io.high_water {
            wake(&self.writers);
        }
    }

    /// Ends our side of the stream once all has left. A handler that was told of the end before
    /// runs first: the connection is closed when it returns, and that ends the stream too.
    fn end_stream(&self, io: &mut Io) {
        if io.end_output == Ending::Open || io.write_end.is_some() || self.has_pending(io) {
            return;
        }
        if io.end_output == Ending::Asked {
            io.end_output = Ending::Due;
            self.link.post_flush();
        } else {
            io.end_output = Ending::Open;
            self.link.end_output();
        }
    }

    /// After both close frames: nginx need not wait for the peer's end of the stream before it
    /// closes the connection (RFC 6455 7.1.1 has the server close first), where everything of ours
    /// has left and nothing of the peer's is unread, which would make a reset of the close.
    pub(super) fn part(&self, io: &Io) {
        let clean = io.write_end.is_none() && !self.has_pending(io);
        if clean && !io.intake.has_bytes(&self.link) {
            self.link.no_linger();
        }
    }

    /// Waits for the end of the close handshake. None: the light thread has been parked.
    pub(super) fn park_closer(&self, io: &mut Io, r: Request, ms: u64, again: bool) -> Closing {
        let now = now_ms();
        if !again {
            io.closing_since = now;
        }
        let deadline = io.closing_since.saturating_add(ms);
        if now >= deadline {
            return Closing::Timeout;
        }
        match park(&self.closers, r, deadline - now) {
            Parking::Parked => Closing::Parked,
            Parking::Denied(text) => Closing::Denied(text),
        }
    }

    pub(super) fn wake_all(&self) {
        self.reader.wake_all();
        wake(&self.writers);
        wake(&self.closers);
    }
}

/// Who waits for room is told when no more than this waits to be sent.
const ROOM: usize = 16 * 1024;

/// Fragments of one message: enough for any honest peer, and no way to make us work for nothing.
pub const MAX_FRAGMENTS: u32 = 1 << 20;

/// Result of waiting for the peer's close frame.
#[derive(Debug)]
pub enum Closing {
    /// The connection has ended.
    Done,
    /// The session's own request has ended, long before.
    Ended,
    /// The calling light thread has been parked and must yield.
    Parked,
    /// Not in time.
    Timeout,
    /// ngx_lua refuses to park the caller: its text.
    Denied(String),
}

fn park(slot: &RefCell<Option<Semaphore>>, r: Request, ms: u64) -> Parking {
    let mut slot = slot.borrow_mut();
    if slot.is_none() {
        *slot = Semaphore::new();
    }
    match slot.as_ref() {
        Some(semaphore) => semaphore.park(r, ms),
        None => Parking::Denied("no memory".to_string()),
    }
}

fn waiters(slot: &RefCell<Option<Semaphore>>) -> i32 {
    slot.borrow().as_ref().map_or(0, Semaphore::waiters)
}

fn wake(slot: &RefCell<Option<Semaphore>>) {
    if let Some(semaphore) = slot.borrow().as_ref() {
        semaphore.wake_all();
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
        {
            let mut io = self.io.borrow_mut();
            if io.style == Style::Messages && self.link.is_open() {
                self.converse(&mut io);
                self.last_call(&mut io);
            }
            self.flush_now(&mut io);
            self.end_stream(&mut io);
            io.intake.settle();
        }
        self.tend();
        self.told_room();
    }

    fn timer(&self) {
        self.on_timer(&mut self.io.borrow_mut());
        self.tend();
    }

    fn knows_end(&self) -> bool {
        let io = self.io.borrow();
        let ended = io.intake.end().is_some() || io.dialogue.end().is_some();
        // Without a handler nobody is to be ended: `tend` sees to the request.
        let is_awaited = self.reader.waiters() > 0 || waiters(&self.closers) > 0;
        ended || is_awaited || io.alone.is_some()
    }

    fn has_unread(&self) -> bool {
        let io = self.io.borrow();
        io.ready.is_some() || io.dialogue.has_messages() || io.intake.has_stash()
    }

    fn pending(&self) -> bool {
        let io = self.io.borrow();
        io.write_end.is_none() && self.has_pending(&io)
    }

    fn discard(&self) {
        let mut io = self.io.borrow_mut();
        io.outbox.clear();
        io.write_end.get_or_insert(IoError::Closed);
        self.link.set_pending(false);
    }

    fn drain_timeout(&self) -> u64 {
        // No limit is as long as nginx's timers go.
        self.io.borrow().send_timeout.min(i32::MAX as u64)
    }

    fn ended(&self) {
        let code = self.io.borrow().dialogue.end().map_or(1006, End::code);
        self.wake_all();
        self.give_up();
        // Last: whoever sees it gone in the numbers finds no subscription of it either.
        if self.has_begun() {
            stats::closed(code);
        }
    }

    fn leave_pool(&self) {
        if self.io.leave().is_err() {
            // What is borrowed now would be used after its memory is gone.
            std::process::abort();
        }
        // Hundreds of kilobytes, which Lua's collector knows nothing of.
        let mut io = self.io.borrow_mut();
        io.intake.free_inflater();
        io.dialogue.free_encoder();
    }
}
