//! A session whose messages another connection takes, and which takes that one's: a proxy's side towards
//! the client. No handler reads; its partner is told after every event, and does the reading.

use std::rc::Rc;

use ws_conn::{End, Passing, SendError, View};
use ws_proto::opcode;

use super::partner::Partner;
use super::server::Session;
use super::worker::Worker;
use crate::ngx::clock::now_ms;
use crate::ngx::transport::Transport;
use crate::ngx::upstream;

impl Session {
    /// Has `partner` told from now on; it answers the peer's close frame.
    pub fn join(&self, partner: Rc<dyn Partner>) {
        let mut io = self.io.borrow_mut();
        io.partner = Some(partner);
        io.driver.conn.hold_close();
        self.link.want_quit_notice();
    }

    /// Keeps the peer's pings for `take_ping`.
    pub fn show_pings(&self) {
        self.io.borrow_mut().driver.conn.show_pings();
    }

    /// The payload of a ping that has come.
    pub fn take_ping(&self) -> Option<Vec<u8>> {
        self.io.borrow_mut().driver.conn.take_ping()
    }

    /// Sends a ping with a payload.
    pub fn send_ping(&self, data: &[u8]) -> Result<(), SendError> {
        if !self.link.is_open() {
            return Err(SendError::Closed);
        }
        let mut io = self.io.borrow_mut();
        let sent = io.driver.conn.send_control(&Worker, opcode::PING, data);
        self.react(&mut io);
        sent.map(|_| ())
    }

    /// Hands every message that is here to `sink`, until that answers that it has no room for more.
    pub fn pass(&self, sink: impl FnMut(Passing<'_>) -> bool) {
        if self.link.is_open() {
            let mut io = self.io.borrow_mut();
            io.driver.conn.pass(&Worker, self.link.io(), sink);
            self.react(&mut io);
        }
    }

    /// Sends a message that another connection has received. Whether there is room for more.
    pub fn pass_on(&self, message: Passing<'_>) -> Result<bool, SendError> {
        if !self.link.is_open() {
            return Err(SendError::Closed);
        }
        let mut io = self.io.borrow_mut();
        let sent = io.driver.conn.pass_on(&Worker, self.link.io(), message);
        self.react(&mut io);
        sent.map(|_| io.driver.conn.may_pass())
    }

    /// The next message, to be copied before any connection is used again. None: none is here.
    pub fn take_view(&self) -> Option<View> {
        if !self.link.is_open() {
            return None;
        }
        let mut io = self.io.borrow_mut();
        let view = io.driver.conn.poll_message(&Worker, self.link.io());
        self.react(&mut io);
        view
    }

    /// Whether a handler that waits may as well read by itself what has come.
    pub fn may_hand_over(&self) -> bool {
        let io = self.io.borrow();
        let conn = &io.driver.conn;
        self.link.is_open() && conn.may_hand_over() && conn.has_bytes(self.link.io())
    }

    /// Whether more has come of it than was taken.
    pub fn has_more(&self) -> bool {
        let conn = &self.io.borrow().driver.conn;
        conn.has_items() || conn.has_bytes(self.link.io())
    }

    /// Whether nothing waits for who carries its messages.
    pub fn is_quiet(&self) -> bool {
        self.link.is_open() && self.io.borrow().driver.conn.is_quiet(self.link.io())
    }

    /// Sends a message of our own, whatever waits.
    pub fn send_own(&self, message: Passing<'_>) -> Result<(), SendError> {
        self.io.borrow().driver.conn.admit(message.text, message.data)?;
        self.pass_on(message).map(|_| ())
    }

    /// Whether a message may be passed on now.
    pub fn may_pass(&self) -> bool {
        self.io.borrow().driver.conn.may_pass()
    }

    /// How it has ended, or is about to once the peer's close frame is answered; only when everything
    /// that came before was taken.
    pub fn ended_as(&self) -> Option<End> {
        let io = self.io.borrow();
        let end = io.driver.conn.end().or(io.driver.conn.held_close()).cloned();
        if self.link.is_open() {
            end.filter(|_| !io.driver.conn.has_items())
        } else {
            Some(end.unwrap_or(End::Dropped))
        }
    }

    /// Whether nothing more can be sent or received.
    pub fn is_over(&self) -> bool {
        !self.link.is_open() || self.io.borrow().driver.conn.end().is_some()
    }

    /// Sends a close frame, once, and gives the peer `ms` milliseconds for its own.
    pub fn farewell(&self, code: Option<u16>, reason: &[u8], ms: u64) {
        let mut io = self.io.borrow_mut();
        if self.link.is_open() && io.driver.conn.close(&Worker, code, reason, ms) {
            self.react(&mut io);
            self.link.set_timer(ms, true);
        }
    }

    /// Milliseconds for which output has waited without progress; None where none waits, which is asked
    /// of the kernel: what this very turn has queued has waited for nobody.
    pub fn stuck_for(&self) -> Option<u64> {
        let mut io = self.io.borrow_mut();
        if self.link.is_open() && io.driver.conn.buffered() > 0 {
            self.flush_now(&mut io);
        }
        let waits = io.driver.conn.buffered() > 0 && io.driver.conn.end().is_none();
        waits.then(|| now_ms().saturating_sub(io.driver.conn.last_out()))
    }

    /// Ends the request, whose partner is done and has let go of its connection: an upstream's is
    /// closed, and what is queued for the client still leaves.
    pub fn finish(&self) {
        let partner = self.io.borrow_mut().partner.take();
        if self.link.is_open() {
            upstream::close(&self.link);
            self.link.finish_request();
        }
        drop(partner);
    }
}
