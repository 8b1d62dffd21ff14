//! The receiving half of a connection: from the socket through the codec, one event at a time.

use ws_proto::{Conn, Error, Event, Plain, Stage};

use crate::host::{Host, Io, Recv};
use crate::pool::NoMemory;
use crate::stash::Stash;
use crate::IoError;

/// A payload with at least so much missing is read straight into its own buffer.
const DIRECT_READ: usize = 32 * 1024;

/// What stops receiving.
#[derive(Clone, Copy, Debug)]
pub enum RecvError {
    /// The connection was taken away from its owner.
    Ended,
    /// The peer broke a rule.
    Protocol(Error),
    /// The transport failed while `Stage` was being read.
    Io(Stage, IoError),
}

impl From<NoMemory> for RecvError {
    fn from(_: NoMemory) -> Self {
        RecvError::Protocol(Error::NoMemory)
    }
}

/// Received bytes and what they became so far.
#[derive(Debug)]
pub(crate) struct Receiver {
    conn: Conn,
    stash: Stash,
    end: Option<RecvError>,
    last_in: u64,
}

impl Receiver {
    /// A receiver of nothing yet.
    pub fn new(conn: Conn, now: u64) -> Receiver {
        Receiver { conn, stash: Stash::default(), end: None, last_in: now }
    }

    /// Gives it bytes that somebody else has read.
    pub fn append(&mut self, host: &impl Host, bytes: &[u8]) {
        if self.end.is_none() {
            self.last_in = host.now_ms();
            if let Err(err) = self.stash.append(bytes, host.pool()) {
                self.end = Some(err.into());
            }
        }
    }

    /// Nothing more will be received: gives back what decompressing took.
    pub fn free_inflater(&mut self) {
        self.conn.end();
    }

    /// When the last byte came, on nginx's clock.
    pub fn last_in(&self) -> u64 {
        self.last_in
    }

    /// The codec, for its settings and for what it refused.
    pub fn codec(&mut self) -> &mut Conn {
        &mut self.conn
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
    #[inline]
    pub fn may_bring(&self, io: &impl Io) -> bool {
        self.end.is_some() || self.has_bytes(io)
    }

    /// Whether bytes wait that the codec has not seen, as far as is known without a read.
    #[inline]
    pub fn has_bytes(&self, io: &impl Io) -> bool {
        !self.stash.is_empty() || io.read_ready()
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

    /// Reads until one event is whole and hands it to `sink`, with whether bytes have come behind it; its
    /// payload stays where it is in memory until the next call. `None`: nothing more is there now. An error is final, and
    /// every later call repeats it.
    pub fn next<R>(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        sink: impl FnOnce(Event<'_>, bool) -> R,
    ) -> Option<Result<R, RecvError>> {
        if let Some(end) = self.end {
            return Some(Err(end));
        }
        self.stash.tidy(host.pool());
        if !self.has_bytes(io) {
            return None;
        }
        let result = self.run(host, io, sink).transpose();
        self.stash.give_back(host.pool());
        if let Some(Err(end)) = result {
            self.end = Some(end);
            self.stash.clear(host.pool());
        }
        result
    }

    /// The plain frame (see `ws_proto::Plain`) that comes next, if it is here: its opcode, and where
    /// its payload lies until the next call. None: `next` has to look.
    #[inline(never)]
    pub fn next_plain(&mut self, host: &impl Host, io: &impl Io) -> Option<(u8, *const u8, usize)> {
        if self.end.is_some() {
            return None;
        }
        let fresh = self.stash.is_empty();
        if fresh {
            if self.conn.is_mid_frame() {
                return None;
            }
            match self.refill(host, io) {
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
            self.stash.give_back(host.pool());
        }
        Some((opcode, data, len))
    }

    /// Whether memory is held for what came, which `end_turn` gives back at the end of a turn.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.stash.is_holding()
    }

    /// The end of a turn: what nobody has asked for is kept in memory of its own.
    #[inline]
    pub fn end_turn(&mut self, host: &impl Host) {
        self.stash.end_turn(host.pool());
    }

    /// What the stash holds comes first.
    fn run<R>(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        sink: impl FnOnce(Event<'_>, bool) -> R,
    ) -> Result<Option<R>, RecvError> {
        loop {
            if !self.stash.is_empty() {
                let mut input = self.stash.rest();
                let before = input.len();
                let event = self.conn.feed(&mut input).map_err(RecvError::Protocol)?;
                let taken = before - input.len();
                if let Some(event) = event {
                    let done = sink(event, taken < before || io.read_ready());
                    self.stash.consume(taken);
                    return Ok(Some(done));
                }
                self.stash.consume(taken);
            }
            if !io.read_ready() {
                return Ok(None);
            }
            self.offer_memory(host);
            let body = self.conn.body_room().filter(|(_, missing)| *missing >= DIRECT_READ);
            if let Some((body, missing)) = body {
                let got = io.recv_into(body, missing);
                let Some(n) = self.arrived(host, got)? else { return Ok(None) };
                match self.conn.body_filled(n).map_err(RecvError::Protocol)? {
                    Some(event) => return Ok(Some(sink(event, io.read_ready()))),
                    None => continue,
                }
            }
            if !self.refill(host, io)? {
                return Ok(None);
            }
        }
    }

    /// Reads once into the empty stash. Returns whether anything came.
    fn refill(&mut self, host: &impl Host, io: &impl Io) -> Result<bool, RecvError> {
        if !io.read_ready() {
            return Ok(false);
        }
        let got = io.recv(self.stash.room(host.pool())?);
        let came = self.arrived(host, got);
        match came {
            Ok(Some(n)) => self.stash.filled(n),
            _ => self.stash.clear(host.pool()),
        }
        Ok(came?.is_some())
    }

    /// Where a large payload needs more memory than it has, gives it the worker's spare: that is
    /// there already, so what a header announces still allocates nothing.
    fn offer_memory(&mut self, host: &impl Host) {
        let Some((missing, have, room)) = self.conn.body_awaited() else { return };
        if missing >= DIRECT_READ && room < DIRECT_READ {
            let least = have + missing.min(have.max(DIRECT_READ));
            if let Some(spare) = host.pool().take_body(least, have + missing) {
                host.recycle(self.conn.assemble_in(spare));
            }
        }
    }

    /// Notes what a read brought: so many bytes, nothing now, or the end.
    fn arrived(&mut self, host: &impl Host, got: Recv) -> Result<Option<usize>, RecvError> {
        match got {
            Recv::Data(n) => {
                self.last_in = host.now_ms();
                Ok(Some(n))
            }
            Recv::Again => Ok(None),
            Recv::Eof => Err(self.io_error(IoError::Closed)),
            Recv::Failed(errno) => Err(self.io_error(IoError::from_errno(errno))),
        }
    }
}
