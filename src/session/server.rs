//! A server-side session: frames in, frames out, on a connection taken over from nginx. Called by
//! the Lua entry (`take`, `send`, ...) and by nginx's events (`Takeover`), never both at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::BytesMut;
use ws_proto::{close, header, opcode, Conn, Event, Masking, Payload, Settings, Style};

use super::intake::{Intake, RecvError};
use super::outbox::Outbox;
use super::random::masking_key;
use super::{stats, IoError};
use crate::ngx::clock::now_ms;
use crate::ngx::link::{Link, Sent, MAX_PARTS};
use crate::ngx::lua_conf::LuaConf;
use crate::ngx::lua_wait::{Parking, Semaphore};
use crate::ngx::request::Request;
use crate::ngx::takeover::{self, Takeover};

/// A payload of this size goes to the kernel from where it lies, without a copy.
const DIRECT_SEND: usize = 8 * 1024;
/// A send that leaves more than this pending waits for the peer.
const HIGH_WATER: usize = 256 * 1024;

thread_local! {
    static CONF: Cell<Option<LuaConf>> = const { Cell::new(None) };
}

/// ngx_lua's directives, looked up once per worker.
fn lua_conf() -> LuaConf {
    let known = CONF.get().unwrap_or_else(LuaConf::lookup);
    CONF.set(Some(known));
    known
}

/// What a session is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest payload of a received frame, in bytes.
    pub max_recv_len: u64,
    /// Milliseconds for reading and for sending; None means ngx_lua's directives.
    pub timeout: Option<u64>,
}

/// A frame whose payload lies in memory that stays as it is until the session is used again.
#[derive(Debug)]
pub struct FrameView {
    /// The last fragment of its message.
    pub fin: bool,
    /// One of `ws_proto::opcode`.
    pub opcode: u8,
    /// A close frame's code.
    pub code: Option<u16>,
    /// Start of the payload; of a close frame's reason.
    pub data: *const u8,
    /// Its length in bytes.
    pub len: usize,
}

impl FrameView {
    fn new(fin: bool, opcode: u8, payload: &[u8]) -> FrameView {
        // The codec has refused a close frame of one byte, the only one that does not parse.
        let (code, rest) = match opcode {
            opcode::CLOSE => close::parse(payload).unwrap_or((None, payload)),
            _ => (None, payload),
        };
        FrameView { fin, opcode, code, data: rest.as_ptr(), len: rest.len() }
    }
}

/// Result of asking for a frame.
#[derive(Debug)]
pub enum Taken {
    /// A frame; to be copied before the session is used again.
    Frame(FrameView),
    /// None yet: the calling light thread has been parked and must yield.
    Parked,
    /// None, and none will come (or not in time).
    Failed(RecvError),
    /// ngx_lua refuses to park the caller: its text.
    Denied(String),
}

/// Result of a send.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Bytes of the frame on the wire, header included.
    pub bytes: usize,
    /// More is pending than the high-water mark allows: call `drained` and wait.
    pub over: bool,
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

struct Io {
    intake: Intake,
    /// The frame that woke the reader, until it takes it.
    ready: Option<(bool, u8, BytesMut)>,
    /// Memory of the frame last handed out, freed when the session is used again.
    lent: Option<BytesMut>,
    outbox: Outbox,
    /// Why nothing more can be written.
    write_end: Option<IoError>,
    read_timeout: u64,
    send_timeout: u64,
    /// When the present reader and writer began to wait: time-outs count idle time.
    reading_since: u64,
    draining_since: u64,
    last_out: u64,
    log_errors: bool,
}

/// A server-side connection.
///
/// Reference-counted: one count lies in the request's pool (given back by its last cleanup), one in
/// the Lua userdata (given back by `__gc`); either may go first. When the request goes first, `link`
/// is dead and every call answers `Ended`. When the Lua object goes first, the session lives on for
/// its pending output. A parked light thread holds the userdata on its stack, so the semaphores
/// outlive their waiters.
pub struct Session {
    link: Link,
    reader: Semaphore,
    /// Made by the first send that has to wait.
    writers: RefCell<Option<Semaphore>>,
    io: RefCell<Io>,
}

impl Session {
    /// Takes the connection of `r` over. The 101 response must have been sent. None: no memory.
    pub fn accept(r: Request, options: Options) -> Option<Rc<Session>> {
        let conf = lua_conf();
        let now = now_ms();
        let settings = Settings {
            style: Style::Frames,
            masking: Masking::Required,
            max_frame: options.max_recv_len,
            max_message: u64::MAX,
            max_fragments: u32::MAX,
        };
        let session = Rc::new(Session {
            link: Link::new(),
            reader: Semaphore::new()?,
            writers: RefCell::new(None),
            io: RefCell::new(Io {
                intake: Intake::new(Conn::new(settings)),
                ready: None,
                lent: None,
                outbox: Outbox::default(),
                write_end: None,
                read_timeout: options.timeout.unwrap_or_else(|| conf.read_timeout_ms(r)),
                send_timeout: options.timeout.unwrap_or_else(|| conf.send_timeout_ms(r)),
                reading_since: now,
                draining_since: now,
                last_out: now,
                log_errors: conf.log_errors(r),
            }),
        });
        let first = takeover::take(r, session.clone())?;
        session.io.borrow_mut().intake.preread(first);
        stats::opened();
        Some(session)
    }

    /// Sets the time-outs for reading and for sending, in milliseconds.
    pub fn set_timeouts(&self, read: u64, send: u64) {
        let mut io = self.io.borrow_mut();
        io.read_timeout = read;
        io.send_timeout = send;
    }

    /// Sets both time-outs back to ngx_lua's directives, as they hold for `r`.
    pub fn reset_timeouts(&self, r: Request) {
        let conf = lua_conf();
        self.set_timeouts(conf.read_timeout_ms(r), conf.send_timeout_ms(r));
    }

    /// The next frame, or parks the light thread that runs in `r`. `again` says that the caller
    /// was parked by the call before.
    pub fn take(&self, r: Request, max_frame: u64, again: bool) -> Taken {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !again && self.reader.waiters() > 0 {
            return Taken::Failed(io.intake.io_error(IoError::BusyReading));
        }
        if let Some((fin, opcode, payload)) = io.ready.take() {
            let view = FrameView::new(fin, opcode, &payload);
            io.lent = Some(payload);
            return Taken::Frame(view);
        }
        io.lent = None;
        if !self.link.is_open() {
            return Taken::Failed(io.intake.end().unwrap_or(RecvError::Ended));
        }
        io.intake.set_max_frame(max_frame);
        let lent = &mut io.lent;
        match io.intake.next(&self.link, |event| lend(lent, event)) {
            Some(Ok(view)) => return Taken::Frame(view),
            Some(Err(end)) => return Taken::Failed(end),
            None => {}
        }

        let now = now_ms();
        if !again {
            io.reading_since = now;
        }
        let deadline = io.reading_since.max(io.intake.last_in()) + io.read_timeout;
        if again && now >= deadline {
            if io.log_errors {
                self.link.info("lua tcp socket read timed out");
            }
            return Taken::Failed(io.intake.io_error(IoError::Timeout));
        }
        match self.reader.park(r, deadline.saturating_sub(now)) {
            Parking::Parked => Taken::Parked,
            Parking::Denied(text) => Taken::Denied(text),
        }
    }

    /// Queues one frame. It leaves with everything else of this turn of the event loop; a large
    /// unmasked payload is offered to the kernel at once, from where it lies.
    /// `None`: the session's own request has ended.
    pub fn send(
        &self,
        fin: bool,
        opcode: u8,
        payload: &[u8],
        masked: bool,
    ) -> Option<Result<Sending, IoError>> {
        if !self.link.is_open() {
            return None;
        }
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if let Some(err) = io.write_end {
            return Some(Err(err));
        }
        let key = masked.then(masking_key);
        let head = header::encode(fin, 0, opcode, payload.len() as u64, key);
        let head = head.as_ref();
        let bytes = head.len() + payload.len();

        if key.is_none() && payload.len() >= DIRECT_SEND && !self.has_pending(io) {
            match self.link.send(&[head, payload]) {
                Sent::Failed(errno) => {
                    let err = IoError::from_errno(errno);
                    io.write_end = Some(err);
                    return Some(Err(err));
                }
                Sent::Bytes(n) if n >= head.len() => {
                    io.outbox.push(&[], &payload[n - head.len()..], None);
                }
                Sent::Bytes(n) => io.outbox.push(&head[n..], payload, None),
            }
            io.last_out = now_ms();
            if !self.has_pending(io) {
                self.link.shrink();
                return Some(Ok(Sending { bytes, over: false }));
            }
            self.link.want_write();
            self.link.set_pending(true);
        } else {
            io.outbox.push(head, payload, key);
            self.link.set_pending(true);
            if io.outbox.len() > HIGH_WATER {
                self.flush_now(io);
            } else {
                self.link.post_flush();
            }
        }
        Some(match io.write_end {
            Some(err) => Err(err),
            None => Ok(Sending { bytes, over: io.outbox.len() > HIGH_WATER }),
        })
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
        if io.outbox.len() <= HIGH_WATER {
            return Drained::Yes;
        }
        let now = now_ms();
        let mut writers = self.writers.borrow_mut();
        // The time-out counts from the last progress. A writer that joins others must not put it
        // off: a stalled peer would never fail while new sends keep coming.
        if !again && writers.as_ref().map_or(0, Semaphore::waiters) == 0 {
            io.draining_since = now;
        }
        let deadline = io.draining_since.max(io.last_out) + io.send_timeout;
        if again && now >= deadline {
            if io.log_errors {
                self.link.info("lua tcp socket write timed out");
            }
            return Drained::Failed(IoError::Timeout);
        }
        if writers.is_none() {
            *writers = Semaphore::new();
        }
        let Some(writers) = writers.as_ref() else {
            return Drained::Denied("no memory".to_string());
        };
        match writers.park(r, deadline.saturating_sub(now)) {
            Parking::Parked => Drained::Parked,
            Parking::Denied(text) => Drained::Denied(text),
        }
    }

    /// Whether the session's own request is alive and its handler runs.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    fn has_pending(&self, io: &Io) -> bool {
        !io.outbox.is_empty() || self.link.tls_pending()
    }

    /// Sends as much as the kernel takes.
    fn flush_now(&self, io: &mut Io) {
        while self.has_pending(io) {
            let mut parts: [&[u8]; MAX_PARTS] = [&[]; MAX_PARTS];
            let used = io.outbox.parts(&mut parts);
            let offered: usize = parts[..used].iter().map(|part| part.len()).sum();
            match self.link.send(&parts[..used]) {
                Sent::Bytes(n) => {
                    io.outbox.advance(n);
                    io.last_out = if n > 0 { now_ms() } else { io.last_out };
                    if n < offered || self.link.tls_pending() {
                        self.link.want_write();
                        break;
                    }
                }
                Sent::Failed(errno) => {
                    io.write_end = Some(IoError::from_errno(errno));
                    io.outbox.clear();
                    break;
                }
            }
        }
        let pending = io.write_end.is_none() && self.has_pending(io);
        self.link.set_pending(pending);
        if !pending {
            self.link.shrink();
            self.link.want_write();
        }
        if io.outbox.len() <= HIGH_WATER {
            self.wake_writers();
        }
    }

    fn wake_writers(&self) {
        if let Some(writers) = self.writers.borrow().as_ref() {
            writers.wake_all();
        }
    }
}

impl Takeover for Session {
    fn link(&self) -> &Link {
        &self.link
    }

    fn readable(&self) {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if self.link.must_drop() {
            io.intake.stop(IoError::Closed);
            io.write_end.get_or_insert(IoError::Closed);
            self.reader.wake_all();
            self.wake_writers();
            return;
        }
        // Without a reader nothing is read: the peer is slowed down by TCP, as with a cosocket.
        if self.reader.waiters() == 0 || io.ready.is_some() {
            self.link.want_read();
            return;
        }
        match io.intake.next(&self.link, keep) {
            Some(Ok(frame)) => io.ready = Some(frame),
            Some(Err(_)) => {}
            None => return,
        }
        self.reader.wake_all();
    }

    fn flush(&self) {
        self.flush_now(&mut self.io.borrow_mut());
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
        self.io.borrow().send_timeout
    }

    fn ended(&self) {
        stats::closed();
        self.reader.wake_all();
        self.wake_writers();
    }
}

/// Notes where the payload lies, so that it is copied once, into Lua's memory.
fn lend(lent: &mut Option<BytesMut>, event: Event<'_>) -> FrameView {
    let (fin, opcode, payload) = frame(event);
    let view = FrameView::new(fin, opcode, payload.as_ref());
    if let Payload::Owned(bytes) = payload {
        *lent = Some(bytes);
    }
    view
}

/// Copies a frame that nobody asks for at this moment.
fn keep(event: Event<'_>) -> (bool, u8, BytesMut) {
    let (fin, opcode, payload) = frame(event);
    let payload = match payload {
        Payload::Slice(bytes) => BytesMut::from(bytes),
        Payload::Owned(bytes) => bytes,
    };
    (fin, opcode, payload)
}

fn frame(event: Event<'_>) -> (bool, u8, Payload<'_>) {
    match event {
        Event::Frame { fin, opcode, payload } => (fin, opcode, payload),
        _ => unreachable!("a session in frame style gets frames only"),
    }
}
