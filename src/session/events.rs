//! What nginx's events do with a session whose request was taken over.

use std::rc::Rc;

use ws_conn::{IoError, Style};

use super::server::{Session, State};
use super::worker::Worker;
use crate::ngx::link::Link;
use crate::ngx::parting;
use crate::ngx::takeover::Takeover;
use crate::ngx::transport::Transport;

impl Session {
    fn on_readable(&self, io: &mut State) {
        if self.link.must_drop() {
            io.driver.conn.lost(IoError::Closed);
            io.driver.conn.take_news();
            self.waiting.wake_all();
            return;
        }
        if self.link.is_draining() {
            return;
        }
        if self.link.has_quit_notice() {
            self.quit(io);
        }
        match io.driver.conn.style() {
            // It reads by itself, see `tend`.
            _ if io.partner.is_some() => {}
            Style::Frames if !io.driver.conn.is_closing() => self.frame_readable(io),
            _ => self.message_readable(io),
        }
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
        let (over, partner) = {
            let mut io = self.io.borrow_mut();
            let io = &mut *io;
            let keeps = io.driver.conn.style() != Style::Frames;
            let reads = keeps && io.partner.is_none() && self.link.is_open();
            let was_quiet = io.partner.is_some() && io.driver.conn.is_quiet(self.link.io());
            io.driver.turn(&self.link, Some(&self.waiting), reads);
            self.await_return(io);
            let conn = &io.driver.conn;
            let quiet = was_quiet && self.link.is_open() && conn.is_quiet(self.link.io());
            (conn.is_over(), io.partner.clone().map(|partner| (partner, quiet)))
        };
        if over {
            self.note_end();
        }
        self.told_room();
        match partner {
            Some((partner, quiet)) => partner.flushed(quiet),
            None => self.tend(),
        }
    }

    fn timer(&self) {
        self.on_timer(&mut self.io.borrow_mut());
        self.tend();
    }

    fn pending(&self) -> bool {
        self.io.borrow().driver.conn.has_pending(self.link.io())
    }

    fn knows_end(&self) -> bool {
        let io = self.io.borrow();
        let is_awaited = self.waiting.is_awaited() || self.waiting.closers.waiters() > 0;
        // Without a handler nobody is to be ended: `tend` sees to the request.
        let unattended = io.alone.is_some() || io.partner.is_some();
        io.driver.conn.is_over() || is_awaited || unattended
    }

    fn has_unread(&self) -> bool {
        self.io.borrow().driver.conn.has_unread()
    }

    fn handler_ended(&self, failed: bool) -> bool {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let served = failed && self.waiting.is_served();
        let tells = io.tells_return() || (served && io.goes_on());
        if tells {
            let code = if failed { 1011 } else { 1000 };
            io.driver.conn.end_with(&Worker, code, b"");
            self.react(io);
        }
        tells
    }

    fn discard(&self) {
        self.io.borrow_mut().driver.conn.give_up_output();
        self.link.set_pending(false);
    }

    fn drain_timeout(&self) -> u64 {
        // No limit is as long as nginx's timers go.
        self.waiting.send_timeout.get().min(i32::MAX as u64)
    }

    fn ended(&self) {
        self.io.borrow_mut().driver.conn.end_unsaid();
        self.waiting.wake_all();
        self.note_end();
        let partner = self.io.borrow_mut().partner.take();
        if let Some(partner) = partner {
            partner.ended();
        }
    }

    fn leave_request(&self) {
        if self.io.leave().is_err() {
            // What is borrowed now would be used after its memory is gone.
            std::process::abort();
        }
    }

    fn outlive_end(&self) {
        // Hundreds of kilobytes, which Lua's collector knows nothing of.
        self.io.borrow_mut().driver.free_codecs();
    }

    fn after_turn(self: &Rc<Session>) {
        parting::part(self);
    }
}
