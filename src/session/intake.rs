//! The receiving half of a session: socket to codec, one event at a time. Used by the session
//! when Lua asks for a frame and when nginx reports bytes.

use ws_proto::{Conn, Event, Stage, Style};

use super::stash::Stash;
use super::{scratch, IoError};
use crate::ngx::clock::now_ms;
use crate::ngx::link::Link;
use crate::ngx::wire::Recv;

/// A payload with at least so much missing is read straight into its own buffer.
const DIRECT_READ: usize = 32 * 1024;

/// What stops receiving.
#[derive(Clone, Copy, Debug)]
pub enum RecvError {
    /// The session's own request has ended.
    Ended,
    /// The peer broke a rule.
    Protocol(ws_proto::Error),
    /// The transport failed while `Stage` was being read.
    Io(Stage, IoError),
}

/// Received bytes and what they became so far. Owned by one session.
pub struct Intake {
    conn: Conn,
    stash: Stash,
    end: Option<RecvError>,
    last_in: u64,
}

impl Intake {
    /// An intake that has received nothing.
    pub fn new(conn: Conn) -> Intake {
        Intake { conn, stash: Stash::default(), end: None, last_in: now_ms() }
    }

    /// Gives it the bytes that came before the session was made.
    pub fn preread(&mut self, first: Vec<u8>) {
        self.stash = Stash::new(first);
    }

    /// When the last byte came, on nginx's clock.
    pub fn last_in(&self) -> u64 {
        self.last_in
    }

    /// Changes the limit on frames whose header has not come yet.
    pub fn set_max_frame(&mut self, max: u64) {
        self.conn.set_max_frame(max);
    }

    /// Goes on in another style. False when half a frame or half a message has come: then the
    /// rules of the style it began in hold to its end.
    pub fn set_style(&mut self, style: Style) -> bool {
        self.conn.set_style(style)
    }

    /// Whether a part of a frame came and the rest is missing.
    pub fn is_mid_frame(&self) -> bool {
        self.conn.is_mid_frame()
    }

    /// Whether the next bytes begin a message.
    pub fn is_between(&self) -> bool {
        self.stash.is_empty() && self.conn.is_between()
    }

    /// Whether `next` has anything to say: bytes, or the end.
    pub fn may_bring(&self, link: &Link) -> bool {
        self.end.is_some() || self.has_bytes(link)
    }

    /// Whether bytes wait that the codec has not seen, as far as is known without a read.
    pub fn has_bytes(&self, link: &Link) -> bool {
        !self.stash.is_empty() || link.read_ready()
    }

    /// `err` as the failure of the read that is due.
    pub fn io_error(&self, err: IoError) -> RecvError {
        RecvError::Io(self.conn.stage(), err)
    }

    /// Ends receiving with `err`, unless it has ended already.
    pub fn stop(&mut self, err: IoError) {
        self.end = Some(self.end.unwrap_or(self.io_error(err)));
    }

    /// Why nothing more can be received.
    pub fn end(&self) -> Option<RecvError> {
        self.end
    }

    /// Reads until one event is whole and hands it to `sink`; its payload stays where it is in
    /// memory until the next call. `None`: nothing more is there now. An error is final, and
    /// every later call repeats it.
    pub fn next<R>(
        &mut self,
        link: &Link,
        sink: impl FnOnce(Event<'_>) -> R,
    ) -> Option<Result<R, RecvError>> {
        if let Some(end) = self.end {
            return Some(Err(end));
        }
        let result = if self.stash.is_empty() {
            self.stash.tidy();
            scratch::lend(|buffer| self.read(link, buffer, sink))
        } else {
            self.run(link, sink)
        };
        let result = result.transpose();
        if let Some(Err(end)) = result {
            self.end = Some(end);
        }
        result
    }

    /// What the stash holds comes first.
    fn run<R>(
        &mut self,
        link: &Link,
        sink: impl FnOnce(Event<'_>) -> R,
    ) -> Result<Option<R>, RecvError> {
        let mut input = self.stash.rest();
        let event = self.conn.feed(&mut input).map_err(RecvError::Protocol)?;
        let left = input.len();
        if let Some(event) = event {
            let done = sink(event);
            self.stash.keep_last(left);
            return Ok(Some(done));
        }
        self.stash.keep_last(left);
        self.stash.tidy();
        scratch::lend(|buffer| self.read(link, buffer, sink))
    }

    fn read<R>(
        &mut self,
        link: &Link,
        buffer: &mut Vec<u8>,
        sink: impl FnOnce(Event<'_>) -> R,
    ) -> Result<Option<R>, RecvError> {
        while link.read_ready() {
            self.offer_memory();
            let body = self.conn.body_room().filter(|(_, missing)| *missing >= DIRECT_READ);
            if let Some((body, missing)) = body {
                let got = link.recv_into(body, missing);
                let Some(n) = self.arrived(link, got)? else { return Ok(None) };
                match self.conn.body_filled(n).map_err(RecvError::Protocol)? {
                    Some(event) => return Ok(Some(sink(event))),
                    None => continue,
                }
            }
            let got = link.recv(buffer);
            let Some(n) = self.arrived(link, got)? else { return Ok(None) };
            let mut input = &mut buffer[..n];
            if let Some(event) = self.conn.feed(&mut input).map_err(RecvError::Protocol)? {
                let left = input.len();
                let done = sink(event);
                self.stash.fill(buffer, n - left, n);
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// Where a large payload needs more memory than it has, gives it the worker's spare: that is
    /// there already, so what a header announces still allocates nothing.
    fn offer_memory(&mut self) {
        let Some((missing, have, room)) = self.conn.body_awaited() else { return };
        if missing >= DIRECT_READ && room < DIRECT_READ {
            let least = have + missing.min(have.max(DIRECT_READ));
            if let Some(spare) = scratch::spare_body(least, have + missing) {
                scratch::recycle(self.conn.assemble_in(spare));
            }
        }
    }

    /// Notes what a read brought: so many bytes, nothing now, or the end.
    fn arrived(&mut self, link: &Link, got: Recv) -> Result<Option<usize>, RecvError> {
        match got {
            Recv::Data(n) => {
                self.last_in = now_ms();
                Ok(Some(n))
            }
            Recv::Again => {
                link.want_read();
                Ok(None)
            }
            Recv::Eof => Err(self.io_error(IoError::Closed)),
            Recv::Failed(errno) => Err(self.io_error(IoError::from_errno(errno))),
        }
    }
}
