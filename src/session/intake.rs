//! The receiving half of a session: socket to codec, one event at a time. Used by the session
//! when Lua asks for a frame and when nginx reports bytes.

use ws_proto::{Conn, Event, Plain, Stage, Style};

use super::stash::Stash;
use super::{scratch, IoError};
use crate::ngx::clock::now_ms;
use crate::ngx::link::Link;
use crate::ngx::wire::Recv;

/// A payload with at least so much missing is read straight into its own buffer.
pub(super) const DIRECT_READ: usize = 32 * 1024;

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

    /// Nothing more will be received: gives back what decompressing took.
    pub fn free_inflater(&mut self) {
        self.conn.end();
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

    /// Whether bytes have been read that the codec has not seen.
    pub fn has_stash(&self) -> bool {
        !self.stash.is_empty()
    }

    /// Whether `next` has anything to say: bytes, or the end.
    #[inline]
    pub fn may_bring(&self, link: &Link) -> bool {
        self.end.is_some() || self.has_bytes(link)
    }

    /// Whether bytes wait that the codec has not seen, as far as is known without a read.
    #[inline]
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
        self.stash.tidy();
        if !self.has_bytes(link) {
            return None;
        }
        let result = self.run(link, sink).transpose();
        self.keep_rest(link);
        if let Some(Err(end)) = result {
            self.end = Some(end);
            self.stash.clear();
        }
        result
    }

    /// The plain frame (see `ws_proto::Plain`) that comes next, if it is here: its opcode, and where
    /// its payload lies until the next call. None: `next` has to look.
    #[inline]
    pub fn next_plain(&mut self, link: &Link) -> Option<(u8, *const u8, usize)> {
        if self.end.is_some() {
            return None;
        }
        let fresh = self.stash.is_empty();
        if fresh {
            if self.conn.is_mid_frame() {
                return None;
            }
            match self.refill(link) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(end) => {
                    self.end = Some(end);
                    return None;
                }
            }
        }
        let rest = self.stash.rest();
        let Plain { opcode, payload } = self.conn.plain(rest)?;
        let end = payload.end;
        let payload = &rest[payload];
        let (data, len) = (payload.as_ptr(), payload.len());
        self.stash.consume(end);
        if fresh {
            self.keep_rest(link);
        }
        Some((opcode, data, len))
    }

    /// After an event, which may lie in the stash: gives the worker's buffer back, at the latest
    /// when the turn ends.
    fn keep_rest(&mut self, link: &Link) {
        if !self.stash.give_back() {
            link.post_flush();
        }
    }

    /// The end of a turn: what nobody has asked for is kept in memory of its own.
    pub fn settle(&mut self) {
        self.stash.settle();
    }

    /// What the stash holds comes first.
    fn run<R>(
        &mut self,
        link: &Link,
        sink: impl FnOnce(Event<'_>) -> R,
    ) -> Result<Option<R>, RecvError> {
        loop {
            if !self.stash.is_empty() {
                let mut input = self.stash.rest();
                let before = input.len();
                let event = self.conn.feed(&mut input).map_err(RecvError::Protocol)?;
                let taken = before - input.len();
                if let Some(event) = event {
                    let done = sink(event);
                    self.stash.consume(taken);
                    return Ok(Some(done));
                }
                self.stash.consume(taken);
            }
            if !link.read_ready() {
                return Ok(None);
            }
            self.offer_memory();
            let body = self.conn.body_room().filter(|(_, missing)| *missing >= DIRECT_READ);
            if let Some((body, missing)) = body {
                let got = link.recv_into(body, missing);
                let Some(n) = self.arrived(got)? else { return Ok(None) };
                match self.conn.body_filled(n).map_err(RecvError::Protocol)? {
                    Some(event) => return Ok(Some(sink(event))),
                    None => continue,
                }
            }
            if !self.refill(link)? {
                return Ok(None);
            }
        }
    }

    /// Reads once into the empty stash. Returns whether anything came.
    fn refill(&mut self, link: &Link) -> Result<bool, RecvError> {
        if !link.read_ready() {
            return Ok(false);
        }
        let got = link.recv(self.stash.room());
        let came = self.arrived(got);
        match came {
            Ok(Some(n)) => self.stash.filled(n),
            _ => self.stash.clear(),
        }
        Ok(came?.is_some())
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
    fn arrived(&mut self, got: Recv) -> Result<Option<usize>, RecvError> {
        match got {
            Recv::Data(n) => {
                self.last_in = now_ms();
                Ok(Some(n))
            }
            Recv::Again => Ok(None),
            Recv::Eof => Err(self.io_error(IoError::Closed)),
            Recv::Failed(errno) => Err(self.io_error(IoError::from_errno(errno))),
        }
    }
}
