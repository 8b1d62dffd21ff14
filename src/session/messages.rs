//! A session message by message: the module keeps the protocol. Bytes are read as they come,
//! whether Lua waits or not, so pings are answered and a close is noticed while a handler does
//! something else; a reader that does not come stops the reading.

use ws_conn::{Connection, End, NoIo, Phase, SendError, Shared, Style, View};

use super::options::SlowConsumer;
use super::server::{Session, State};
use super::worker::Worker;
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::ngx::transport::Transport;

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
    /// Callbacks take the messages.
    Served,
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
        if self.waiting.is_served() {
            return none(NoMessage::Served);
        }
        if !again && self.waiting.reader.waiters() > 0 {
            return none(NoMessage::Busy);
        }
        if !io.driver.conn.begin(Style::Messages) {
            return none(NoMessage::Mixed);
        }
        if !self.link.is_open() {
            return none(NoMessage::Ended(io.driver.conn.end().cloned().unwrap_or(End::Dropped)));
        }
        // What there is is taken as messages, whatever style the next call asks for. Who was woken
        // reads by itself what came, and gets it without a copy.
        if !again && !io.driver.conn.has_items() {
            self.converse(io);
        }
        let message = io.driver.conn.poll_message(&Worker, self.link.io());
        self.react(io);
        if let Some(view) = message {
            return Wait::Ready(Ok(view));
        }
        if io.driver.conn.is_over() {
            return none(NoMessage::Ended(io.driver.conn.outcome().unwrap_or(End::Dropped)));
        }
        let longest = timeout.unwrap_or(self.waiting.recv_timeout.get());
        let deadline = self.waiting.read_deadline(again, 0, longest);
        let now = now_ms();
        // Only a time given with the call may be none: a loop over calls without one waits.
        if now >= deadline && (again || timeout.is_some()) {
            return none(NoMessage::Timeout);
        }
        let mut wait = deadline.saturating_sub(now);
        if !self.link.is_of(r) {
            wait = wait.min(LOOK_AGAIN);
        }
        self.waiting.reader.park(r, wait)
    }

    /// The next message, if it is here and taking it needs nothing but taking it. None: ask
    /// `receive`.
    #[inline]
    pub fn receive_now(&self) -> Option<View> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let conn = &io.driver.conn;
        let plain = conn.style() == Style::Messages
            && (conn.has_bytes(self.link.io()) || conn.has_items())
            && self.link.is_open();
        if !plain || self.waiting.is_awaited() {
            return None;
        }
        let message = io.driver.conn.poll_message(&Worker, self.link.io());
        self.react(io);
        message
    }

    /// Sends a message where nobody has to wait or be told of anything. Returns its bytes. None: ask
    /// `send_message`. With `valid` it is known that it would be fit for a text.
    #[inline]
    pub fn send_message_now(&self, text: bool, valid: bool, data: &[u8]) -> Option<usize> {
        if !self.link.is_open() {
            return None;
        }
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let sent = io.driver.conn.send_message_now(&Worker, self.link.io(), text, valid, data);
        self.react(io);
        sent
    }

    /// Reads what there is, answers what must be answered, wakes whom it concerns.
    #[inline]
    pub(super) fn converse(&self, io: &mut State) {
        io.driver.conn.handle_read(&Worker, self.link.io());
        self.react(io);
    }

    /// nginx reports bytes in message style. A light thread that waits for a message reads by
    /// itself, and gets the payload without a copy; should it be gone when its turn comes, the
    /// flush at the end of this one reads.
    pub(super) fn message_readable(&self, io: &mut State) {
        if self.waiting.is_awaited() && io.driver.conn.may_hand_over() {
            self.waiting.wake_reader();
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
        self.write(r, again, |conn| conn.send_message(&Worker, self.link.io(), text, data))
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
        if !self.link.is_open()
            || (io.driver.conn.is_closing() && io.driver.conn.write_end().is_none())
        {
            return Wait::Ready(Err(SendError::Closed));
        }
        match self.make_room(io, r, again) {
            Wait::Ready(Ok(())) => {}
            Wait::Ready(Err(err)) => return Wait::Ready(Err(SendError::Io(err))),
            Wait::Parked => return Wait::Parked,
            Wait::Denied(text) => return Wait::Denied(text),
        }
        let sent = send(&mut io.driver.conn);
        self.react(io);
        Wait::Ready(match io.driver.conn.write_end() {
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
            // With callbacks the request may have ended with the handshake, before its caller runs.
            return Wait::Ready(match io.driver.conn.end() {
                Some(End::Closed { .. }) if again => Ok(()),
                Some(End::Unanswered) if again => Err(Unclosed::Timeout),
                _ => Err(Unclosed::Ended),
            });
        }
        // The rest of a message that was half read in frames makes no sense as one.
        io.driver.conn.begin(Style::Messages);
        let mut begun = again;
        if !again {
            if self.waiting.is_served() {
                // Whoever closes asks for nothing more, and what waits would hold the close frame up.
                while io.driver.conn.take_item(&Worker).is_some() {}
            }
            begun = io.driver.conn.close(&Worker, code, reason, timeout);
            if begun && timeout == 0 {
                io.driver.conn.end_unanswered(&Worker);
            }
            self.react(io);
            self.flush_now(io);
        }
        self.converse(io);
        if let Some(end) = io.driver.conn.end() {
            // The connection's own timer may have come first.
            let unanswered = begun && *end == End::Unanswered;
            self.flush_now(io);
            return Wait::Ready(if unanswered { Err(Unclosed::Timeout) } else { Ok(()) });
        }
        let unread = io.driver.conn.has_bytes(self.link.io());
        match io.driver.conn.handle_timeout(&Worker, unread) {
            Some(left) => self.waiting.closers.park(r, left),
            None => {
                self.react(io);
                Wait::Ready(Err(Unclosed::Timeout))
            }
        }
    }

    /// Drops the TCP connection at once.
    pub fn shutdown(&self) {
        let mut io = self.io.borrow_mut();
        io.driver.conn.drop_now();
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
            io.driver.conn.share(&Worker, self.link.io(), message)
        } else if !self.has_begun() {
            io.driver.conn.share(&Worker, &NoIo, message)
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
        io.driver.conn.close_slow(&Worker);
        self.react(io);
    }

    /// Closes from elsewhere, without waiting for the peer's answer: what was sent before goes
    /// out first, and whoever waits in `recv` learns of it now.
    pub fn end_with(&self, code: u16, reason: &[u8]) {
        if self.link.is_open() {
            let mut io = self.io.borrow_mut();
            io.driver.conn.end_with(&Worker, code, reason);
            self.react(&mut io);
        }
    }

    /// How it ended, for the numbers: of frames, what can be said of them.
    pub fn outcome(&self) -> Option<End> {
        self.io.borrow().driver.conn.outcome()
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        if self.link.is_open() {
            self.io.borrow().driver.conn.phase()
        } else {
            Phase::Closed
        }
    }
}
