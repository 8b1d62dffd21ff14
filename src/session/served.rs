//! A session whose messages go to callbacks: what there is to tell of it. Its request outlives the
//! handler, and ends with the conversation, whatever is left to tell then.

use std::rc::Rc;

use ws_conn::{Io, View};

use super::server::Session;
use super::waiting::Sink;
use super::worker::Worker;
use crate::ngx::timer_request::TimerRequest;
use crate::ngx::transport::Transport;

impl Session {
    /// Has `sink` told of what comes to a connection that has begun. There is one.
    pub(super) fn serve(&self, sink: Rc<dyn Sink>, number: u32) {
        self.waiting.serve(sink, number);
        let mut io = self.io.borrow_mut();
        io.handler_close = false;
        self.link.outlive_handler();
        if io.detach {
            self.link.want_parting();
        }
    }

    /// After bytes have been worked on: ends the request where the conversation is over.
    pub(super) fn end_served(&self) {
        let over = self.io.borrow().driver.conn.is_over();
        if over && self.link.is_open() {
            self.link.end_with_handler();
        }
    }

    /// The next message, if it is here.
    pub(super) fn next_message(&self) -> Option<View> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let message = io.driver.conn.poll_message(&Worker, self.link.io());
        self.react(io);
        message
    }

    /// Nobody will ask for what has come.
    pub(super) fn drop_messages(&self) {
        let mut io = self.io.borrow_mut();
        while io.driver.conn.take_item(&Worker).is_some() {}
        self.react(&mut io);
    }

    /// Whether output was above the high-water mark and is not any more. True once.
    pub(super) fn has_drained(&self) -> bool {
        if !self.waiting.was_full() {
            return false;
        }
        let io = self.io.borrow();
        let drained = io.driver.conn.has_room() && !io.driver.conn.is_over();
        if drained {
            self.waiting.clear_full();
        }
        drained
    }

    /// Whether it has ended, and all that came before has been handed out.
    pub(super) fn is_told(&self) -> bool {
        let conn = &self.io.borrow().driver.conn;
        conn.is_over() && !conn.has_items()
    }

    /// Whether there may be something to tell, as far as is known without a read.
    pub(super) fn may_have_more(&self) -> bool {
        let conn = &self.io.borrow().driver.conn;
        let drained = self.waiting.was_full() && conn.has_room();
        conn.is_over() || conn.has_unread() || drained || self.link.read_ready()
    }

    /// Gives the worker's buffer back, so that the next connection need not take another.
    pub(super) fn end_turn(&self) {
        self.io.borrow_mut().driver.conn.end_turn(&Worker);
    }

    /// What `request` logs from now on is about this connection.
    pub(super) fn is_spoken_of(&self, request: &TimerRequest) {
        request.speak_of(&self.link);
    }
}
