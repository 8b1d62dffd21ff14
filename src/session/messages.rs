//! A session message by message: the module keeps the protocol. Bytes are read as they come,
//! whether Lua waits or not, so pings are answered and a close is noticed while a handler does
//! something else; a reader that does not come stops the reading.

use std::rc::Rc;

use ws_proto::{opcode, Event, Payload, Style};

use super::dialogue::{Dialogue, End, SendError};
use super::frames::Sending;
use super::heartbeat::{Beat, Heartbeat};
use super::intake::RecvError;
use super::outbox::Outbox;
use super::outgoing::{Delivery, Outgoing, SlowConsumer};
use super::random::bytes;
use super::server::{Closing, Ending, Io, Session};
use super::stats::{self, Counter};
use super::IoError;
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Parking;
use crate::ngx::request::Request;

/// nginx does not say when a handler has ended and its connection lingers. A reader in another
/// request looks so often, in milliseconds; one in the session's own request ends with it.
const LOOK_AGAIN: u64 = 1000;

/// A message lying in memory that stays as it is until the session is used again.
#[derive(Debug)]
pub struct MessageView {
    /// Text, or binary.
    pub text: bool,
    /// Where it lies.
    pub data: *const u8,
    /// Its length in bytes.
    pub len: usize,
}

/// Result of asking for a message.
#[derive(Debug)]
pub enum Received {
    /// A message; to be copied before the session is used again.
    Message(MessageView),
    /// None yet: the calling light thread has been parked and must yield.
    Parked,
    /// None in time.
    Timeout,
    /// Another light thread is reading.
    Busy,
    /// Frame calls have read half a message, or half a frame has come.
    Mixed,
    /// The connection has ended.
    Ended(End),
    /// ngx_lua refuses to park the caller: its text.
    Denied(String),
}

/// The log line for a peer's fault.
pub fn broken_rule(err: ws_proto::Error) -> String {
    format!("websocket peer broke a rule: {err} ({})", err.rule())
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both sides may send.
    Open,
    /// A close frame was sent, the peer's has not come.
    Closing,
    /// Nothing more can be sent or received.
    Closed,
}

impl Session {
    /// The next message, or parks the light thread that runs in `r` for at most `timeout`
    /// milliseconds (None: the session's own). `again` says that the caller was parked by the
    /// call before.
    pub fn receive(&self, r: Request, timeout: Option<u64>, again: bool) -> Received {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !again && self.reader.waiters() > 0 {
            return Received::Busy;
        }
        if io.style == Style::Frames {
            if io.half_read || io.ready.is_some() || !io.intake.set_style(Style::Messages) {
                return Received::Mixed;
            }
            io.style = Style::Messages;
        }
        io.free_lent();
        if !self.link.is_open() {
            return Received::Ended(io.dialogue.end().cloned().unwrap_or(End::Dropped));
        }
        if !io.dialogue.has_messages() {
            self.converse(io);
        } else if io.dialogue.is_full() {
            // Reading had stopped. There is room now, and what came meanwhile may be a ping.
            self.link.post_flush();
        }
        if let Some(view) = io.next_message() {
            return Received::Message(view);
        }
        if let Some(end) = io.dialogue.end() {
            return Received::Ended(end.clone());
        }
        let now = now_ms();
        if !again {
            io.reading_since = now;
        }
        let deadline = io.reading_since.saturating_add(timeout.unwrap_or(io.recv_timeout));
        // Only a time given with the call may be none: a loop over calls without one waits.
        if now >= deadline && (again || timeout.is_some()) {
            return Received::Timeout;
        }
        let mut wait = deadline.saturating_sub(now);
        if !self.link.is_of(r) {
            wait = wait.min(LOOK_AGAIN);
        }
        match self.reader.park(r, wait) {
            Parking::Parked => Received::Parked,
            Parking::Denied(text) => Received::Denied(text),
        }
    }

    /// The next message, if it is here and taking it needs nothing but taking it. None: ask
    /// `receive`.
    #[inline]
    pub fn receive_now(&self) -> Option<MessageView> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let plain =
            io.style == Style::Messages && io.dialogue.end().is_none() && !io.dialogue.is_ending();
        if !plain || self.reader.waiters() > 0 || !self.link.is_open() {
            return None;
        }
        io.free_lent();
        if io.dialogue.has_messages() {
            // `receive` knows what to do about reading that had stopped.
            return if io.dialogue.is_full() { None } else { io.next_message() };
        }
        if io.dialogue.is_closing() || !io.intake.has_bytes(&self.link) {
            return None;
        }
        let view = match io.intake.next_plain(&self.link) {
            Some((op, data, len)) => {
                io.dialogue.tally.message_in(len);
                Some(MessageView { text: op == opcode::TEXT, data, len })
            }
            None => self.read_on(io, true),
        };
        // What is left is looked at in this turn, even if the reader does not come back.
        if view.is_some() && io.intake.has_bytes(&self.link) {
            self.link.post_flush();
        }
        view
    }

    /// Sends a message where nobody has to wait or be told of anything. Returns its bytes. None: ask
    /// `send_message`.
    #[inline]
    pub fn send_message_now(&self, text: bool, data: &[u8]) -> Option<usize> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if io.write_end.is_some() || !self.link.is_open() {
            return None;
        }
        let op = io.dialogue.plain(text, data)?;
        self.put_now(io, op, data)
    }

    /// Reads what there is, answers what must be answered, wakes whom it concerns.
    pub(super) fn converse(&self, io: &mut Io) {
        if io.dialogue.end().is_some() {
            return;
        }
        if io.dialogue.is_ending() && (!io.dialogue.has_messages() || io.dialogue.is_closing()) {
            self.settle(io);
            return;
        }
        if io.intake.may_bring(&self.link) {
            self.read_on(io, false);
        }
    }

    /// The reading half of `converse`. With `lend` it ends at the first message, which nobody has
    /// to be told of, and leaves its payload where it lies.
    fn read_on(&self, io: &mut Io, lend: bool) -> Option<MessageView> {
        let before = io.outbox.len();
        let put_off = io.dialogue.is_ending();
        let mut news = false;
        let mut lent = None;
        while lent.is_none() && io.dialogue.end().is_none() && !io.dialogue.is_full() {
            let Io { intake, dialogue, outbox, high_water, lent: memory, .. } = &mut *io;
            let room = outbox.len() <= *high_water;
            let next = intake.next(&self.link, |event| match event {
                Event::Message { text, payload } if lend => {
                    dialogue.tally.message_in(payload.len());
                    lent = Some(view(text, payload, memory));
                }
                event => dialogue.absorb(event, outbox, room),
            });
            match next {
                None => break,
                Some(Ok(())) => news = true,
                Some(Err(RecvError::Protocol(err))) => {
                    self.link.info(&broken_rule(err));
                    stats::add(Counter::protocol_error(err.rule()), 1);
                    dialogue.fail(err, outbox);
                }
                Some(Err(RecvError::Io(_, err))) => dialogue.finish(End::Lost(err)),
                Some(Err(RecvError::Ended)) => dialogue.finish(End::Dropped),
            }
        }
        if io.dialogue.end().is_some() {
            self.hang_up_politely(io);
        } else {
            if io.outbox.len() > before {
                self.queued(io);
            }
            if news && lent.is_none() {
                self.reader.wake_all();
            }
            if io.dialogue.is_ending() && !put_off {
                io.last_call = false;
                self.link.post_flush();
            }
        }
        lent
    }

    /// nginx reports bytes in message style. A light thread that waits for a message reads by
    /// itself, and gets the payload without a copy; should it be gone when its turn comes, the
    /// flush at the end of this one reads.
    pub(super) fn message_readable(&self, io: &mut Io) {
        let hand_over = self.reader.waiters() > 0
            && io.intake.is_between()
            && !io.dialogue.is_closing()
            && !io.dialogue.has_messages();
        if hand_over {
            self.reader.wake_all();
            self.link.post_flush();
        } else {
            self.converse(io);
        }
    }

    /// A flush with an end put off. A reader that was waiting runs before the second one, and may
    /// have answered all by then; nobody else holds the close frame up.
    pub(super) fn last_call(&self, io: &mut Io) {
        if io.dialogue.is_ending() {
            if std::mem::replace(&mut io.last_call, true) {
                self.settle(io);
            } else {
                self.link.post_flush();
            }
        }
    }

    fn settle(&self, io: &mut Io) {
        io.dialogue.settle(&mut io.outbox);
        self.hang_up_politely(io);
    }

    /// RFC 6455 7.1.1: the server ends TCP first, once its close frame is out, which nothing can
    /// follow and which therefore leaves at once.
    fn hang_up_politely(&self, io: &mut Io) {
        io.end_output = Ending::Asked;
        self.flush_now(io);
        self.link.post_flush();
        if matches!(io.dialogue.end(), Some(End::Closed { .. })) {
            self.part(io);
        }
        self.wake_all();
    }

    /// Queues a message. See `Dialogue::send`.
    pub fn send_message(&self, text: bool, data: &[u8]) -> Result<Sending, SendError> {
        {
            let mut io = self.io.borrow_mut();
            let io = &mut *io;
            if self.link.is_open() && io.write_end.is_none() {
                if let Some(head) = io.dialogue.send_head(text, data)? {
                    self.put(io, head.as_ref(), data);
                    return match io.write_end {
                        Some(err) => Err(SendError::Io(err)),
                        None => Ok(Sending {
                            bytes: head.as_ref().len() + data.len(),
                            over: io.outbox.len() > io.high_water,
                        }),
                    };
                }
            }
        }
        self.write(|dialogue, out| dialogue.send(text, data, out))
    }

    /// Queues a ping or a pong.
    pub fn send_control(&self, op: u8, data: &[u8]) -> Result<Sending, SendError> {
        self.write(|dialogue, out| dialogue.control(op, data, out))
    }

    /// Opens a message in fragments.
    pub fn open_stream(&self, text: bool) -> Result<(), SendError> {
        self.write(|dialogue, _| dialogue.open_stream(text).map(|()| 0)).map(|_| ())
    }

    /// Queues a fragment.
    pub fn write_stream(&self, data: &[u8]) -> Result<Sending, SendError> {
        self.write(|dialogue, out| dialogue.write_stream(data, out))
    }

    /// Queues the last fragment.
    pub fn finish_stream(&self) -> Result<Sending, SendError> {
        self.write(|dialogue, out| dialogue.finish_stream(out))
    }

    fn write(
        &self,
        send: impl FnOnce(&mut Dialogue, &mut Outbox) -> Result<usize, SendError>,
    ) -> Result<Sending, SendError> {
        if !self.link.is_open() {
            return Err(SendError::Closed);
        }
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if let Some(err) = io.write_end {
            return Err(SendError::Io(err));
        }
        let bytes = send(&mut io.dialogue, &mut io.outbox)?;
        let over = if bytes > 0 { self.queued(io) } else { false };
        match io.write_end {
            Some(err) => Err(SendError::Io(err)),
            None => Ok(Sending { bytes, over }),
        }
    }

    /// Sends a close frame (once), and waits for the peer's.
    pub fn close(
        &self,
        r: Request,
        code: Option<u16>,
        reason: &[u8],
        timeout: u64,
        again: bool,
    ) -> Closing {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !self.link.is_open() {
            return Closing::Ended;
        }
        // The rest of a message that was half read in frames makes no sense as one.
        if io.style == Style::Frames && !io.half_read && io.intake.set_style(Style::Messages) {
            io.style = Style::Messages;
        }
        if !again {
            io.dialogue.close(code, reason, &mut io.outbox);
            self.queued(io);
            self.flush_now(io);
        }
        self.converse(io);
        if io.dialogue.end().is_some() {
            self.flush_now(io);
            return Closing::Done;
        }
        match self.park_closer(io, r, timeout, again) {
            Closing::Timeout => {
                self.drop_now(io);
                Closing::Timeout
            }
            other => other,
        }
    }

    /// Drops the TCP connection at once.
    pub fn shutdown(&self) {
        self.drop_now(&mut self.io.borrow_mut());
    }

    fn drop_now(&self, io: &mut Io) {
        io.dialogue.finish(End::Dropped);
        io.intake.stop(IoError::Closed);
        io.outbox.clear();
        io.write_end.get_or_insert(IoError::Closed);
        self.link.set_pending(false);
        self.link.hang_up();
        self.wake_all();
    }

    /// Queues a message that goes to many. Who is over its cap misses it, or is closed.
    pub fn deliver(&self, message: &Outgoing<'_>) -> Delivery {
        match self.offer(message) {
            Delivery::Dropped => {
                let mut io = self.io.borrow_mut();
                match io.slow {
                    SlowConsumer::Drop => Delivery::Dropped,
                    SlowConsumer::Close => {
                        self.close_slow(&mut io);
                        Delivery::Closed
                    }
                }
            }
            delivery => delivery,
        }
    }

    /// Queues a message that goes to many, unless that is over the cap.
    pub fn offer(&self, message: &Outgoing<'_>) -> Delivery {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let gone = (self.has_begun() && !self.link.is_open())
            || io.write_end.is_some()
            || io.dialogue.is_closing()
            || io.dialogue.end().is_some();
        if gone {
            return Delivery::Gone;
        }
        let mut taken = io.dialogue.share(message, io.high_water, &mut io.outbox);
        if !taken {
            // What this very turn has queued does not make a slow reader: the kernel may take it.
            self.flush_now(io);
            taken =
                io.write_end.is_none() && io.dialogue.share(message, io.high_water, &mut io.outbox);
        }
        if taken {
            self.queued(io);
            Delivery::Queued
        } else if io.write_end.is_some() {
            Delivery::Gone
        } else {
            Delivery::Dropped
        }
    }

    /// Closes a peer that does not read: what waits for it is forgotten.
    pub(super) fn close_slow(&self, io: &mut Io) {
        io.outbox.forget_unsent();
        io.dialogue.close(Some(1013), b"slow consumer", &mut io.outbox);
        self.finish(io, End::SlowConsumer);
    }

    /// Closes from elsewhere, without waiting for the peer's answer: what was sent before goes
    /// out first, and whoever waits in `recv` learns of it now.
    pub fn end_with(&self, code: u16, reason: &[u8]) {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if self.link.is_open() && io.dialogue.end().is_none() {
            io.dialogue.close(Some(code), reason, &mut io.outbox);
            self.finish(io, End::Ended { code, reason: reason.to_vec() });
        }
    }

    fn finish(&self, io: &mut Io, end: End) {
        io.intake.stop(IoError::Closed);
        io.dialogue.finish(end);
        io.end_output = Ending::Asked;
        self.queued(io);
        // Where no handler reads, nobody else would notice (see `tend`).
        self.link.post_flush();
        self.wake_all();
    }

    /// Lets the connection live without a handler, once it begins: `each` is called with every
    /// message, and the request ends when the conversation has ended.
    pub fn run_alone(&self, each: Rc<Each>) {
        self.io.borrow_mut().alone = Some(each);
    }

    /// After bytes have been worked on: hands messages on and ends the request, if the
    /// connection lives without a handler. Nothing may be borrowed, because `each` may publish
    /// to this very connection.
    pub(super) fn tend(&self) {
        let Some(each) = self.io.borrow().alone.clone() else { return };
        loop {
            let message = self.io.borrow_mut().dialogue.pop();
            let Some(message) = message else {
                if self.link.is_open() && self.io.borrow().dialogue.end().is_none() {
                    let before = self.io.borrow().intake.last_in();
                    self.converse(&mut self.io.borrow_mut());
                    let io = self.io.borrow();
                    if io.dialogue.has_messages() || io.intake.last_in() > before {
                        continue;
                    }
                }
                break;
            };
            each(message.text, &message.data);
        }
        let over = self.io.borrow().dialogue.end().is_some();
        if over && self.link.is_open() {
            self.io.borrow_mut().alone = None;
            self.link.finish_request();
        }
    }

    /// How the connection ended.
    pub fn end(&self) -> Option<End> {
        self.io.borrow().dialogue.end().cloned()
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        let io = self.io.borrow();
        if !self.link.is_open() || io.dialogue.end().is_some() {
            Phase::Closed
        } else if io.dialogue.is_closing() {
            Phase::Closing
        } else {
            Phase::Open
        }
    }

    /// The worker has been told to quit: says goodbye, now or spread over some time. Done from a
    /// timer, because nginx calls the read handler outside of its event loop then.
    pub(super) fn quit(&self, io: &mut Io) {
        let is_told = io.shutdown.is_some() || io.goodbye.is_some() || io.dialogue.end().is_some();
        if !is_told && io.alone.is_some() && !io.stays {
            // No handler waits here, whose timer would keep the worker: nginx ends a worker that
            // quits as soon as no timer is left.
            io.stays = true;
            self.link.set_timer(io.heartbeat.as_ref().map_or(STAY, Heartbeat::interval), true);
        }
        if let Some(shutdown) = io.shutdown.take() {
            let delay = match shutdown.over {
                0 => 1,
                over => 1 + u64::from_le_bytes(bytes()) % over,
            };
            io.goodbye = Some(shutdown);
            self.link.set_timer(delay, true);
        }
    }

    /// The session's timer is due.
    pub(super) fn on_timer(&self, io: &mut Io) {
        match io.goodbye.take() {
            Some(shutdown) if self.link.is_open() && io.dialogue.end().is_none() => {
                let (code, reason) = (shutdown.code, shutdown.reason.to_vec());
                io.dialogue.close(Some(code), &reason, &mut io.outbox);
                self.finish(io, End::Ended { code, reason });
            }
            Some(_) => {}
            None => self.beat(io),
        }
    }

    /// The heartbeat's timer is due.
    pub(super) fn beat(&self, io: &mut Io) {
        if io.dialogue.end().is_some() || io.dialogue.is_closing() || !self.link.is_open() {
            return;
        }
        let Some(heartbeat) = &mut io.heartbeat else {
            if io.stays {
                self.link.set_timer(STAY, true);
            }
            return;
        };
        // Reading has stopped because nobody takes the messages: silence says nothing then.
        if io.dialogue.is_full() {
            self.link.set_timer(heartbeat.interval(), io.stays);
            return;
        }
        match heartbeat.beat(now_ms(), io.intake.last_in()) {
            Beat::Wait(ms) => self.link.set_timer(ms, io.stays),
            Beat::Ping(ms) => {
                if io.dialogue.control(opcode::PING, &[], &mut io.outbox).is_ok() {
                    stats::add(Counter::PingsSent, 1);
                    self.queued(io);
                }
                self.link.set_timer(ms, io.stays);
            }
            Beat::Dead => {
                stats::add(Counter::PingTimeouts, 1);
                io.dialogue.finish(End::PingTimeout);
                self.drop_now(io);
            }
        }
    }
}

/// Milliseconds between two signs of life of a connection that keeps a quitting worker alive.
const STAY: u64 = 3_600_000;

/// Told of every message of a connection without a handler: whether it is text, and its bytes.
pub type Each = dyn Fn(bool, &[u8]);

/// Notes where the payload lies, so that it is copied once, into Lua's memory.
fn view(text: bool, payload: Payload<'_>, memory: &mut Option<Vec<u8>>) -> MessageView {
    let view = MessageView { text, data: payload.as_ref().as_ptr(), len: payload.len() };
    if let Payload::Owned(bytes) = payload {
        *memory = Some(bytes);
    }
    view
}

impl Io {
    fn next_message(&mut self) -> Option<MessageView> {
        let message = self.dialogue.pop()?;
        let view = MessageView {
            text: message.text,
            data: message.data.as_ptr(),
            len: message.data.len(),
        };
        self.lent = Some(message.data);
        Some(view)
    }
}
