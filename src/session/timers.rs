//! What a session does when its timer is due: the connection's deadlines, and a goodbye where the
//! worker quits.

use super::random;
use super::server::{Session, State};
use super::worker::Worker;
use crate::ngx::transport::Transport;

/// Milliseconds between two signs of life of a connection that keeps a quitting worker alive.
const STAY: u64 = 3_600_000;

impl Session {
    /// The worker has been told to quit: says goodbye, now or spread over some time. Done from a
    /// timer, because nginx calls the read handler outside of its event loop then.
    pub(super) fn quit(&self, io: &mut State) {
        let is_told = io.shutdown.is_some() || io.goodbye.is_some() || io.driver.conn.is_over();
        let unattended = io.alone.is_some() || io.partner.is_some();
        if !is_told && unattended && !io.stays {
            // No handler waits here, whose timer would keep the worker: nginx ends a worker that
            // quits as soon as no timer is left.
            io.stays = true;
            self.run_timer(io);
            self.react(io);
        }
        if let Some(shutdown) = io.shutdown.take() {
            let delay = match shutdown.over {
                0 => 1,
                over => 1 + u64::from_le_bytes(random::bytes()) % over,
            };
            io.goodbye = Some(shutdown);
            self.link.set_timer(delay, true);
        }
    }

    /// The session's timer is due.
    pub(super) fn on_timer(&self, io: &mut State) {
        if !self.link.is_open() {
            return;
        }
        if let Some(shutdown) = io.goodbye.take() {
            io.driver.conn.end_with(&Worker, shutdown.code, &shutdown.reason);
        } else {
            self.run_timer(io);
        }
        self.react(io);
    }

    fn run_timer(&self, io: &mut State) {
        let must_run = io.stays || io.driver.conn.is_closing();
        let again = io.driver.timer(&self.link, must_run);
        if !again && io.stays && !io.driver.conn.is_over() {
            self.link.set_timer(STAY, true);
        }
    }
}
