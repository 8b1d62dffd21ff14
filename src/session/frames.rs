//! A session frame by frame, as lua-resty-websocket works: nothing automatic, one call a frame.

use ws_conn::{IoError, RecvError, SendError, Style, View};

use super::server::{Session, State};
use super::worker::Worker;
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::ngx::transport::Transport;

/// Why no frame came.
#[derive(Clone, Copy, Debug)]
pub enum Missed {
    /// None will come, or not in time.
    Failed(RecvError),
    /// Message calls have read half a message.
    Mixed,
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
    /// The next frame (to be copied before the session is used again), or parks the light thread that
    /// runs in `r`. `again` says that the caller was parked by the call before.
    pub fn take(&self, r: Request, max_frame: f64, again: bool) -> Wait<Result<View, Missed>> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let failed = |err| Wait::Ready(Err(Missed::Failed(err)));
        if !again && self.waiting.reader.waiters() > 0 {
            return failed(io.driver.conn.io_error(IoError::BusyReading));
        }
        // Whole messages that came while message calls were in use are handed out as frames.
        if !io.driver.conn.has_items() {
            if !io.driver.conn.begin(Style::Frames) {
                return Wait::Ready(Err(Missed::Mixed));
            }
            if !self.link.is_open() {
                return failed(io.driver.conn.read_end().unwrap_or(RecvError::Ended));
            }
        }
        let frame = io.driver.conn.poll_frame(&Worker, self.link.io(), max_frame as u64);
        self.react(io);
        match frame {
            Some(Ok(view)) => return Wait::Ready(Ok(view)),
            Some(Err(RecvError::Io(stage, IoError::Closed))) if self.link.is_aborted() => {
                return failed(RecvError::Io(stage, IoError::ClientAborted));
            }
            Some(Err(err)) => return failed(err),
            None => {}
        }

        let last_in = io.driver.conn.last_in();
        let longest = self.waiting.recv_timeout.get();
        let deadline = self.waiting.read_deadline(again, last_in, longest);
        let now = now_ms();
        if again && now >= deadline {
            if io.log_errors {
                self.link.info("lua tcp socket read timed out");
            }
            return failed(io.driver.conn.io_error(IoError::Timeout));
        }
        self.waiting.reader.park(r, deadline.saturating_sub(now))
    }

    /// The next frame, if it is here and taking it needs nothing but taking it: nobody waits for
    /// it, and no error or change of style is due. None: ask `take`.
    #[inline]
    pub fn take_now(&self, max_frame: f64) -> Option<View> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let plain = io.driver.conn.style() == Style::Frames
            && io.driver.conn.has_bytes(self.link.io())
            && self.link.is_open();
        if !plain || self.waiting.reader.waiters() > 0 {
            return None;
        }
        let frame = io.driver.conn.poll_frame_now(&Worker, self.link.io(), max_frame as u64);
        self.react(io);
        frame
    }

    /// Sends an unmasked data frame where nobody has to wait or be told of anything. Returns its
    /// bytes. None: ask `send`.
    #[inline]
    pub fn send_now(&self, op: u8, payload: &[u8]) -> Option<usize> {
        if !self.link.is_open() {
            return None;
        }
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        let sent = io.driver.conn.send_frame_now(&Worker, self.link.io(), op, payload);
        self.react(io);
        sent
    }

    /// Sends one frame. A short one leaves with everything else of this turn of the event loop.
    /// `None`: the session's own request has ended.
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
        let sent = io.driver.conn.send_frame(&Worker, self.link.io(), fin, op, payload, masked);
        self.react(io);
        Some(match (sent, io.driver.conn.write_end()) {
            (Err(SendError::Io(err)), _) | (_, Some(err)) => Err(err),
            // The module sent a close frame: nothing may follow it (RFC 6455 5.5.1).
            (Err(_), None) => Err(IoError::Closed),
            (Ok(bytes), None) => Ok(Sending { bytes, over: !io.driver.conn.has_room() }),
        })
    }

    /// nginx reports bytes in frame style. Without a reader nothing is read: the peer is slowed
    /// down by TCP, as with a cosocket.
    pub(super) fn frame_readable(&self, io: &mut State) {
        if self.waiting.reader.waiters() == 0 || io.driver.conn.has_items() {
            return;
        }
        if io.driver.conn.read_frame(&Worker, self.link.io()) {
            self.waiting.reader.wake_all();
        }
        self.react(io);
    }
}
