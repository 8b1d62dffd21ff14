//! A session frame by frame, as lua-resty-websocket works: nothing automatic, one call a frame.

use ws_proto::{close, header, opcode, Event, Payload, Style};

use super::intake::RecvError;
use super::outbox::BURST;
use super::random::masking_key;
use super::scratch;
use super::server::{Io, Session};
use super::IoError;
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Parking;
use crate::ngx::request::Request;

/// A payload of this size may go to the kernel from where it lies, without a copy.
const DIRECT_SEND: usize = 8 * 1024;
/// A payload of this size always does.
const NEVER_COPIED: usize = 64 * 1024;

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
    /// Message calls have read half a message.
    Mixed,
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

impl Session {
    /// The next frame, or parks the light thread that runs in `r`. `again` says that the caller
    /// was parked by the call before.
    pub fn take(&self, r: Request, max_frame: f64, again: bool) -> Taken {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !again && self.reader.waiters() > 0 {
            return Taken::Failed(io.intake.io_error(IoError::BusyReading));
        }
        if io.style == Style::Messages {
            // Whole messages that came while message calls were in use are handed out as frames.
            if let Some(message) = io.dialogue.pop() {
                let op = if message.text { opcode::TEXT } else { opcode::BINARY };
                let view = FrameView::new(true, op, &message.data);
                io.free_lent();
                io.lent = Some(message.data);
                return Taken::Frame(view);
            }
            if !io.intake.set_style(Style::Frames) {
                return Taken::Mixed;
            }
            io.style = Style::Frames;
        }
        if let Some((fin, opcode, payload)) = io.ready.take() {
            let view = FrameView::new(fin, opcode, &payload);
            io.free_lent();
            io.lent = Some(payload);
            self.note(io, &view);
            return Taken::Frame(view);
        }
        io.free_lent();
        if !self.link.is_open() {
            return Taken::Failed(io.intake.end().unwrap_or(RecvError::Ended));
        }
        io.limit_frames(max_frame);
        let lent = &mut io.lent;
        match io.intake.next(&self.link, |event| lend(lent, event)) {
            Some(Ok(view)) => {
                self.note(io, &view);
                return Taken::Frame(view);
            }
            Some(Err(RecvError::Io(stage, IoError::Closed))) if self.link.is_aborted() => {
                return Taken::Failed(RecvError::Io(stage, IoError::ClientAborted));
            }
            Some(Err(end)) => return Taken::Failed(end),
            None => {}
        }

        let now = now_ms();
        if !again {
            io.reading_since = now;
        }
        let since = io.reading_since.max(io.intake.last_in());
        let deadline = since.saturating_add(io.recv_timeout);
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

    /// The next frame, if it is here and taking it needs nothing but taking it: nobody waits for
    /// it, and no error or change of style is due. None: ask `take`.
    #[inline]
    pub fn take_now(&self, max_frame: f64) -> Option<FrameView> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let plain = io.style == Style::Frames && io.ready.is_none() && self.link.is_open();
        if !plain || self.reader.waiters() > 0 {
            return None;
        }
        io.free_lent();
        if !io.intake.may_bring(&self.link) {
            return None;
        }
        io.limit_frames(max_frame);
        let view = match io.intake.next_plain(&self.link) {
            Some((opcode, data, len)) => FrameView { fin: true, opcode, code: None, data, len },
            None => {
                let lent = &mut io.lent;
                io.intake.next(&self.link, |event| lend(lent, event))?.ok()?
            }
        };
        self.note(io, &view);
        Some(view)
    }

    /// Sends an unmasked data frame where nobody has to wait or be told of anything. Returns its
    /// bytes. None: ask `send`.
    #[inline]
    pub fn send_now(&self, op: u8, payload: &[u8]) -> Option<usize> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if io.write_end.is_some() || io.dialogue.is_closing() || !self.link.is_open() {
            return None;
        }
        self.put_now(io, op, payload)
    }

    /// Sends an unmasked data frame, unless it would have to wait. Returns its bytes. None is for an
    /// error of the socket, too, which is known from then on.
    #[inline]
    pub(super) fn put_now(&self, io: &mut Io, op: u8, payload: &[u8]) -> Option<usize> {
        let before = io.outbox.len();
        if before + header::LONGEST + payload.len() > io.high_water {
            return None;
        }
        if payload.len() >= DIRECT_SEND {
            let head = header::encode(true, 0, op, payload.len() as u64, None);
            self.put_large(io, head.as_ref(), payload);
            if io.write_end.is_some() {
                return None;
            }
            io.dialogue.tally.message_out(payload.len());
            return Some(head.as_ref().len() + payload.len());
        }
        io.dialogue.tally.message_out(payload.len());
        io.outbox.push_plain(op, payload);
        // What waits already is under way.
        if before == 0 {
            self.link.set_pending(true);
            self.link.post_flush();
        }
        Some(io.outbox.len() - before)
    }

    /// Lets an unmasked frame go, by the cheapest way. A short one leaves at the end of this turn,
    /// with all that comes until then.
    pub(super) fn put(&self, io: &mut Io, head: &[u8], payload: &[u8]) {
        if payload.len() < DIRECT_SEND {
            io.outbox.push(head, payload, None);
            self.queued(io);
        } else {
            self.put_large(io, head, payload);
        }
    }

    /// A larger one is offered to the kernel at once, from where it lies; but where the peer has sent
    /// several and each is answered, a system call for each costs more than a copy of each, and they
    /// leave together.
    fn put_large(&self, io: &mut Io, head: &[u8], payload: &[u8]) {
        let burst = io.intake.has_bytes(&self.link) || io.dialogue.has_messages();
        if payload.len() < NEVER_COPIED && (burst || self.has_pending(io)) {
            io.outbox.push_burst(head, payload);
            if io.outbox.len() >= BURST {
                self.flush_now(io);
            } else {
                self.queued(io);
            }
            return;
        }
        if self.has_pending(io) {
            self.flush_now(io);
        }
        if io.write_end.is_some() {
            return;
        }
        if self.has_pending(io) {
            io.outbox.push(head, payload, None);
            self.queued(io);
        } else {
            self.send_direct(io, head, payload);
        }
    }

    /// Sends one frame, see `put`. A masked one leaves with everything else of this turn of the event
    /// loop. `None`: the session's own request has ended.
    pub fn send(
        &self,
        fin: bool,
        op: u8,
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
        // The module sent a close frame: nothing may follow it (RFC 6455 5.5.1).
        if io.dialogue.is_closing() {
            return Some(Err(IoError::Closed));
        }
        let key = masked.then(masking_key);
        let head = header::encode(fin, 0, op, payload.len() as u64, key);
        let head = head.as_ref();
        let bytes = head.len() + payload.len();
        if !opcode::is_control(op) {
            io.dialogue.tally.message_out(payload.len());
        }
        if key.is_none() {
            self.put(io, head, payload);
        } else {
            io.outbox.push(head, payload, key);
            self.queued(io);
        }
        if op == opcode::CLOSE {
            self.close_sent(io);
        }
        Some(match io.write_end {
            Some(err) => Err(err),
            None => Ok(Sending { bytes, over: io.outbox.len() > io.high_water }),
        })
    }

    /// nginx reports bytes in frame style. Without a reader nothing is read: the peer is slowed
    /// down by TCP, as with a cosocket.
    pub(super) fn frame_readable(&self, io: &mut Io) {
        if self.reader.waiters() == 0 || io.ready.is_some() {
            return;
        }
        // The reader itself reads what begins a frame: it gets its payload without a copy.
        if !io.intake.is_mid_frame() {
            return self.reader.wake_all();
        }
        match io.intake.next(&self.link, keep) {
            Some(Ok(frame)) => io.ready = Some(frame),
            Some(Err(_)) => {}
            None => return,
        }
        self.reader.wake_all();
    }
}

impl Session {
    /// Keeps count of a frame handed out.
    #[inline]
    fn note(&self, io: &mut Io, frame: &FrameView) {
        if !opcode::is_control(frame.opcode) {
            io.half_read = !frame.fin;
            io.dialogue.tally.message_in(frame.len);
        } else if frame.opcode == opcode::CLOSE {
            io.closes.taken = true;
            if io.closes.sent {
                self.part(io);
            }
        }
    }

    /// Lua has sent a close frame. The last of two is the end of the conversation, and leaves at
    /// once.
    fn close_sent(&self, io: &mut Io) {
        io.closes.sent = true;
        if io.closes.taken {
            self.flush_now(io);
            self.part(io);
        }
    }
}

impl Io {
    /// What was handed out has been copied, unless `lending` says otherwise.
    #[inline]
    pub(super) fn free_lent(&mut self) {
        if let Some(lent) = self.lent.take() {
            scratch::recycle(lent);
        }
    }

    /// Sets the longest payload of frames that have not begun to come. Lua's number as it is: it is
    /// asked with every frame, and hardly ever another one.
    #[inline]
    fn limit_frames(&mut self, max: f64) {
        if self.max_frame != max {
            self.max_frame = max;
            self.intake.set_max_frame(max as u64);
        }
    }
}

/// Notes where the payload lies, so that it is copied once, into Lua's memory.
fn lend(lent: &mut Option<Vec<u8>>, event: Event<'_>) -> FrameView {
    let (fin, opcode, payload) = frame(event);
    let view = FrameView::new(fin, opcode, payload.as_ref());
    if let Payload::Owned(bytes) = payload {
        *lent = Some(bytes);
    }
    view
}

/// Copies a frame that nobody asks for at this moment.
fn keep(event: Event<'_>) -> (bool, u8, Vec<u8>) {
    let (fin, opcode, payload) = frame(event);
    let payload = match payload {
        Payload::Slice(bytes) => bytes.to_vec(),
        Payload::Owned(bytes) => bytes,
    };
    (fin, opcode, payload)
}

fn frame(event: Event<'_>) -> (bool, u8, Payload<'_>) {
    match event {
        Event::Frame { fin, opcode, payload } => (fin, opcode, payload),
        _ => unreachable!("a codec in frame style finds frames only"),
    }
}
