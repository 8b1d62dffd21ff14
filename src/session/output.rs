//! Output on its way out, the same whatever it is and whatever carries it: it leaves as far as the
//! kernel takes it, the transport hears whether more waits, and so do those who wait for room.

use ws_conn::{Connection, Host, Io, IoError, Outbox};

use super::waiting::Waiting;
use super::worker::Worker;
use crate::ngx::transport::Transport;

/// A connection's output, or bytes of a stream.
pub trait Output {
    /// Sends as much as the kernel takes.
    fn flush(&mut self, io: &impl Io);
    /// Whether anything waits to leave, here or in the transport.
    fn has_pending(&self, io: &impl Io) -> bool;
    /// Whether no more than the high-water mark does.
    fn has_room(&self) -> bool;
}

impl Output for Connection {
    #[inline]
    fn flush(&mut self, io: &impl Io) {
        Connection::flush(self, &Worker, io);
    }
    #[inline]
    fn has_pending(&self, io: &impl Io) -> bool {
        Connection::has_pending(self, io)
    }
    #[inline]
    fn has_room(&self) -> bool {
        Connection::has_room(self)
    }
}

/// Bytes that leave as they are queued.
#[derive(Debug)]
pub struct Bytes {
    /// What waits.
    pub queue: Outbox,
    /// Why nothing more can be sent.
    pub end: Option<IoError>,
    /// When something last left.
    pub last_out: u64,
    /// How much has left.
    pub sent: u64,
    /// The high-water mark.
    pub mark: usize,
}

impl Bytes {
    /// Nothing yet.
    pub fn new(mark: usize) -> Bytes {
        Bytes { queue: Outbox::default(), end: None, last_out: Worker.now_ms(), sent: 0, mark }
    }
}

impl Output for Bytes {
    fn flush(&mut self, io: &impl Io) {
        if self.has_pending(io) {
            match self.queue.flush(Worker.pool(), io) {
                Ok(0) => {}
                Ok(n) => {
                    self.sent += n as u64;
                    self.last_out = Worker.now_ms();
                }
                Err(err) => self.end = Some(err),
            }
        }
    }
    fn has_pending(&self, io: &impl Io) -> bool {
        self.end.is_none() && (!self.queue.is_empty() || io.holds_back())
    }
    fn has_room(&self) -> bool {
        self.queue.len() <= self.mark
    }
}

/// Sends as much as the kernel takes, and says what is left. Returns whether anything is.
pub fn send(output: &mut impl Output, on: &impl Transport, waiting: Option<&Waiting>) -> bool {
    output.flush(on.io());
    note_left(output, on, waiting)
}

/// Tells the transport whether output waits, and those who wait for it to leave.
pub fn note_left(output: &impl Output, on: &impl Transport, waiting: Option<&Waiting>) -> bool {
    let pending = output.has_pending(on.io());
    on.note_output(pending);
    if let Some(waiting) = waiting {
        if output.has_room() {
            waiting.tell_room();
        }
    }
    pending
}
