//! A session message by message: the module keeps the protocol. Bytes are read as they come,
//! whether Lua waits or not, so pings are answered and a close is noticed while a handler does
//! something else; a reader that does not come stops the reading.

use std::rc::Rc;

use ws_conn::{Connection, End, NoIo, Phase, SendError, Shared, Style, View};
use ws_proto::opcode;

use super::random;
use super::server::{Session, SlowConsumer, State};
use super::worker::Worker;
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;

/// nginx does not say when a handler has ended and its connection lingers. A reader in another
/// request looks so often, in milliseconds; one in the session's own request ends with it.
const LOOK_AGAIN: u64 = 1000;

/// Why no message came.
#[derive(Debug)]
pub enum NoMessage {
    /// None in time.
    Timeout,
    /// Another light thread is reading.
    Busy,
    /// Frame calls have read half a message, or half a frame has come.
    Mixed,
    /// The connection has ended.
    Ended(End),
}

/// Why a close handshake was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclosed {
    /// The session's own request has ended, long before.
    Ended,
    /// Not in time.
    Timeout,
}

/// What a connection made of a message for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Queued.
    Queued,
    /// Not queued: too much is waiting for this reader, who misses the message.
    Dropped,
    /// Not queued: too much is waiting for this reader, who is being closed for it.
    Closed,
    /// The connection has ended or is ending.
    Gone,
}

impl Session {
    /// The next message (to be copied before the session is used again), or parks the light thread
    /// that runs in `r` for at most `timeout` milliseconds (None: the session's own). `again` says
    /// that the caller was parked by the call before.
    pub fn receive(
        &self,
        r: Request,
        timeout: Option<u64>,
        again: bool,
    ) -> Wait<Result<View, NoMessage>> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let none = |why| Wait::Ready(Err(why));
        if !again && self.reader.waiters() > 0 {
            return none(NoMessage::Busy);
        }
        if !io.conn.begin(Style::Messages) {
            return none(NoMessage::Mixed);
        }
        if !self.link.is_open() {
            return none(NoMessage::Ended(io.conn.end().cloned().unwrap_or(End::Dropped)));
        }
        // What there is is taken as messages, whatever style the next call asks for.
        if !io.conn.has_items() {
            self.converse(io);
        }
        let message = io.conn.poll_message(&Worker, &self.link);
        self.react(io);
        if let Some(view) = message {
            return Wait::Ready(Ok(view));
        }
        if io.conn.is_over() {
            return none(NoMessage::Ended(io.conn.outcome().unwrap_or(End::Dropped)));
        }
        let now = now_ms();
        if !again {
            io.reading_since = now;
        }
        let deadline = io.reading_since.saturating_add(timeout.unwrap_or(io.recv_timeout));
        // Only a time given with the call may be none: a loop over calls without one waits.
        if now >= deadline && (again || timeout.is_some()) {
            return none(NoMessage::Timeout);
        }
        let mut wait = deadline.saturating_sub(now);
        if !self.link.is_of(r) {
            wait = wait.min(LOOK_AGAIN);
        }
        self.reader.park(r, wait)
    }

    /// The next message, if it is here and taking it needs nothing but taking it. None: ask
    /// `receive`.
    #[inline]
    pub fn receive_now(&self) -> Option<View> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let plain = io.conn.style() == Style::Messages && self.link.is_open();
        if !plain || self.reader.waiters() > 0 {
            return None;
        }
        let message = io.conn.poll_message(&Worker, &self.link);
        self.react(io);
        message
    }

    /// Sends a message where nobody has to wait or be told of anything. Returns its bytes. None: ask
    /// `send_message`.
    #[inline]
    pub fn send_message_now(&self, text: bool, data: &[u8]) -> Option<usize> {
        if !self.link.is_open() {
            return None;
        }
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let sent = io.conn.send_message_now(&Worker, &self.link, text, data);
        self.react(io);
        sent
    }

    /// Reads what there is, answers what must be answered, wakes whom it concerns.
    fn converse(&self, io: &mut State) {
        io.conn.handle_read(&Worker, &self.link);
        self.react(io);
    }

    /// nginx reports bytes in message style. A light thread that waits for a message reads by
    /// itself, and gets the payload without a copy; should it be gone when its turn comes, the
    /// flush at the end of this one reads.
    pub(super) fn message_readable(&self, io: &mut State) {
        if self.reader.waiters() > 0 && io.conn.may_hand_over() {
            self.reader.wake_all();
            self.link.post_flush();
        } else {
            self.converse(io);
        }
    }

    /// Sends a message, once the peer has read what waits above the high-water mark; until then the
    /// light thread that runs in `r` is parked. Where that takes too long nothing of it is sent.
    pub fn send_message(
        &self,
        r: Request,
        text: bool,
        data: &[u8],
        again: bool,
    ) -> Wait<Result<usize, SendError>> {
        self.write(r, again, |conn| conn.send_message(&Worker, &self.link, text, data))
    }

    /// As `send_message`, by any call of the connection that sends.
    pub fn write(
        &self,
        r: Request,
        again: bool,
        send: impl FnOnce(&mut Connection) -> Result<usize, SendError>,
    ) -> Wait<Result<usize, SendError>> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !self.link.is_open() || (io.conn.is_closing() && io.conn.write_end().is_none()) {
            return Wait::Ready(Err(SendError::Closed));
        }
        match self.make_room(io, r, again) {
            Wait::Ready(Ok(())) => {}
            Wait::Ready(Err(err)) => return Wait::Ready(Err(SendError::Io(err))),
            Wait::Parked => return Wait::Parked,
            Wait::Denied(text) => return Wait::Denied(text),
        }
        let sent = send(&mut io.conn);
        self.react(io);
        Wait::Ready(match io.conn.write_end() {
            Some(err) => Err(SendError::Io(err)),
            None => sent,
        })
    }

    /// Sends a close frame (once), and waits for the peer's.
    pub fn close(
        &self,
        r: Request,
        code: Option<u16>,
        reason: &[u8],
        timeout: u64,
        again: bool,
    ) -> Wait<Result<(), Unclosed>> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !self.link.is_open() {
            return Wait::Ready(Err(Unclosed::Ended));
        }
        // The rest of a message that was half read in frames makes no sense as one.
        io.conn.begin(Style::Messages);
        if !again {
            io.conn.close(&Worker, code, reason, timeout);
            self.react(io);
            self.flush_now(io);
        }
        self.converse(io);
        if io.conn.end().is_some() {
            self.flush_now(io);
            return Wait::Ready(Ok(()));
        }
        match io.conn.handle_timeout(&Worker) {
            Some(left) => self.closers.park(r, left),
            None => {
                self.react(io);
                Wait::Ready(Err(Unclosed::Timeout))
            }
        }
    }

    /// Drops the TCP connection at once.
    pub fn shutdown(&self) {
        let mut io = self.io.borrow_mut();
        io.conn.drop_now();
        self.react(&mut io);
    }

    /// Queues a message that goes to many. Who is over its cap misses it, or is closed.
    pub fn deliver(&self, message: &Shared<'_>) -> Delivery {
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
    pub fn offer(&self, message: &Shared<'_>) -> Delivery {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let shared = if self.link.is_open() {
            io.conn.share(&Worker, &self.link, message)
        } else if !self.has_begun() {
            io.conn.share(&Worker, &NoIo, message)
        } else {
            None
        };
        self.react(io);
        match shared {
            None => Delivery::Gone,
            Some(true) => Delivery::Queued,
            Some(false) => Delivery::Dropped,
        }
    }

    /// Closes a peer that does not read: what waits for it is forgotten.
    pub(super) fn close_slow(&self, io: &mut State) {
        io.conn.close_slow(&Worker);
        self.react(io);
    }

    /// Closes from elsewhere, without waiting for the peer's answer: what was sent before goes
    /// out first, and whoever waits in `recv` learns of it now.
    pub fn end_with(&self, code: u16, reason: &[u8]) {
        if self.link.is_open() {
            let mut io = self.io.borrow_mut();
            io.conn.end_with(&Worker, code, reason);
            self.react(&mut io);
        }
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
            let item = {
                let mut io = self.io.borrow_mut();
                let item = io.conn.take_item(&Worker);
                if item.is_none() && self.link.is_open() && !io.conn.is_over() {
                    let before = io.conn.last_in();
                    self.converse(&mut io);
                    if io.conn.has_items() || io.conn.last_in() > before {
                        continue;
                    }
                }
                self.react(&mut io);
                item
            };
            let Some(item) = item else { break };
            each(item.opcode == opcode::TEXT, &item.data);
        }
        let over = self.io.borrow().conn.is_over();
        if over && self.link.is_open() {
            self.io.borrow_mut().alone = None;
            self.link.finish_request();
        }
    }

    /// How the connection ended.
    pub fn end(&self) -> Option<End> {
        self.io.borrow().conn.end().cloned()
    }

    /// How it ended, for the numbers: of frames, what can be said of them.
    pub fn outcome(&self) -> Option<End> {
        self.io.borrow().conn.outcome()
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        if self.link.is_open() {
            self.io.borrow().conn.phase()
        } else {
            Phase::Closed
        }
    }

    /// The worker has been told to quit: says goodbye, now or spread over some time. Done from a
    /// timer, because nginx calls the read handler outside of its event loop then.
    pub(super) fn quit(&self, io: &mut State) {
        let is_told = io.shutdown.is_some() || io.goodbye.is_some() || io.conn.is_over();
        if !is_told && io.alone.is_some() && !io.stays {
            // No handler waits here, whose timer would keep the worker: nginx ends a worker that
            // quits as soon as no timer is left.
            io.stays = true;
            self.set_timer(io.conn.handle_timeout(&Worker).unwrap_or(STAY), true);
            self.react(io);
        }
        if let Some(shutdown) = io.shutdown.take() {
            let delay = match shutdown.over {
                0 => 1,
                over => 1 + u64::from_le_bytes(random::bytes()) % over,
            };
            io.goodbye = Some(shutdown);
            self.set_timer(delay, true);
        }
    }

    /// The session's timer is due.
    pub(super) fn on_timer(&self, io: &mut State) {
        if !self.link.is_open() {
            return;
        }
        if let Some(shutdown) = io.goodbye.take() {
            io.conn.end_with(&Worker, shutdown.code, &shutdown.reason);
        } else {
            match io.conn.handle_timeout(&Worker) {
                Some(ms) => self.set_timer(ms, io.stays),
                None if io.stays && !io.conn.is_over() => self.set_timer(STAY, true),
                None => {}
            }
        }
        self.react(io);
    }
}

/// Milliseconds between two signs of life of a connection that keeps a quitting worker alive.
const STAY: u64 = 3_600_000;

/// Told of every message of a connection without a handler: whether it is text, and its bytes.
pub type Each = dyn Fn(bool, &[u8]);
