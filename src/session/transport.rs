//! What carries a connection's bytes: a request that was taken over, its upstream's, one that a port of
//! ours accepted, a cosocket between two of its own calls. A `Driver` knows them by one trait, so a new
//! way of bytes is one more implementation, and whoever owns it calls the driver when it is told of
//! something.

use std::cell::{Cell, RefCell};

use ws_conn::{Io, NoIo, Recv, Sent};

use crate::ngx::accepted::Accepted;
use crate::ngx::cosocket::Cosocket;
use crate::ngx::leg::Leg;
use crate::ngx::link::Link;
use crate::ngx::wire::Wire;

/// The way of the bytes, its place in the events, its end and its log.
///
/// All of it only notes or does what it says: none calls back into who calls it. After the transport
/// has gone every call is a no-op, and reads and writes fail.
pub trait Transport {
    /// What reads and writes.
    type Io: Io;
    /// Reading and writing.
    fn io(&self) -> &Self::Io;
    /// Has the owner called once, at the end of this turn: everything sent in it leaves together.
    fn post_flush(&self);
    /// Has the owner called in `ms` milliseconds, instead of when that was due before. A worker that
    /// quits does not wait for it, unless `must_run`.
    fn set_timer(&self, ms: u64, must_run: bool);
    /// Output waits to leave, or does not any more: whoever would end the transport by itself is to
    /// know that, and what sending took is given back.
    fn note_output(&self, waits: bool);
    /// Ends our side of the stream, once all has left: the peer reads to its end.
    fn end_output(&self);
    /// Ends both sides at once.
    fn cut(&self);
    /// A line in the connection's log, at level info: no remote peer logs above it.
    fn info(&self, text: &str);
}

/// A request that was taken over, until it ends.
impl Transport for Link {
    type Io = Wire;
    #[inline]
    fn io(&self) -> &Wire {
        self
    }
    #[inline]
    fn post_flush(&self) {
        Link::post_flush(self);
    }
    fn set_timer(&self, ms: u64, must_run: bool) {
        Link::set_timer(self, ms, must_run);
    }
    #[inline]
    fn note_output(&self, waits: bool) {
        self.set_pending(waits);
        if !waits {
            self.shrink();
            self.want_write();
        }
    }
    fn end_output(&self) {
        (**self).end_output();
    }
    fn cut(&self) {
        self.hang_up();
    }
    fn info(&self, text: &str) {
        (**self).info(text);
    }
}

/// An accepted connection, until it is closed. Its timer bounds how long output may stay.
impl Transport for Accepted {
    type Io = Wire;
    fn io(&self) -> &Wire {
        self
    }
    fn post_flush(&self) {
        Accepted::post_flush(self);
    }
    fn set_timer(&self, ms: u64, _must_run: bool) {
        self.limit_drain(ms);
    }
    fn note_output(&self, waits: bool) {
        if !waits {
            self.shrink();
            self.want_write();
        }
    }
    fn end_output(&self) {
        (**self).end_output();
    }
    fn cut(&self) {
        self.close();
    }
    fn info(&self, text: &str) {
        (**self).info(text);
    }
}

/// A connection whose events are ours, until it is given back.
impl Transport for Leg {
    type Io = Wire;
    #[inline]
    fn io(&self) -> &Wire {
        self
    }
    fn post_flush(&self) {
        Leg::post_flush(self);
    }
    fn set_timer(&self, ms: u64, must_run: bool) {
        Leg::set_timer(self, ms, must_run);
    }
    fn note_output(&self, waits: bool) {
        if !waits {
            self.shrink();
            self.want_write();
        }
    }
    fn end_output(&self) {
        (**self).end_output();
    }
    fn cut(&self) {
        self.hang_up();
    }
    fn info(&self, text: &str) {
        (**self).info(text);
    }
}

/// A socket of Lua's: whoever calls the connection sends what is queued, closes the socket when it is
/// over and asks for the time, so nothing is done here. The log's line waits for the caller, too.
#[derive(Default)]
pub struct Pulled(RefCell<Option<String>>);

impl Pulled {
    /// The line for the log, if there is one.
    pub fn line(self) -> Option<String> {
        self.0.into_inner()
    }
}

impl Transport for Pulled {
    type Io = NoIo;
    fn io(&self) -> &NoIo {
        &NoIo
    }
    fn post_flush(&self) {}
    fn set_timer(&self, _ms: u64, _must_run: bool) {}
    fn note_output(&self, _waits: bool) {}
    fn end_output(&self) {}
    fn cut(&self) {}
    fn info(&self, text: &str) {
        self.0.replace(Some(text.to_string()));
    }
}

impl Io for Wire {
    #[inline]
    fn read_ready(&self) -> bool {
        Wire::read_ready(self)
    }
    fn recv(&self, buf: &mut [u8]) -> Recv {
        Wire::recv(self, buf)
    }
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        Wire::recv_into(self, buf, limit)
    }
    #[inline(always)]
    fn send_one(&self, part: &[u8]) -> Sent {
        Wire::send_one(self, part)
    }
    fn send(&self, parts: &[&[u8]]) -> Sent {
        Wire::send(self, parts)
    }
    fn holds_back(&self) -> bool {
        self.tls_pending()
    }
    fn want_write(&self) {
        Wire::want_write(self);
    }
}

/// Bytes past a cosocket. What it reports itself is left to it: the end and errors.
pub struct Past<'a> {
    socket: &'a Cosocket<'a>,
    /// Why no more was read or taken: errno, 0 for none.
    pub failed: Cell<Option<i32>>,
}

impl<'a> Past<'a> {
    /// For reading where the cosocket's buffer is empty, for sending where it may (`may_send`).
    pub fn new(socket: &'a Cosocket<'a>) -> Past<'a> {
        Past { socket, failed: Cell::new(None) }
    }
}

impl Io for Past<'_> {
    fn read_ready(&self) -> bool {
        self.failed.get().is_none() && self.socket.read_ready()
    }
    fn recv(&self, buf: &mut [u8]) -> Recv {
        self.kept(self.socket.recv(buf))
    }
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        self.kept(self.socket.recv_into(buf, limit))
    }
    fn send(&self, parts: &[&[u8]]) -> Sent {
        let mut sent = 0;
        for part in parts {
            match self.socket.offer(part) {
                Ok(n) => {
                    sent += n;
                    if n < part.len() {
                        break;
                    }
                }
                Err(errno) => {
                    self.failed.set(Some(errno));
                    break;
                }
            }
        }
        Sent::Bytes(sent)
    }
}

impl Past<'_> {
    fn stop(&self, errno: i32) -> Recv {
        self.failed.set(Some(errno));
        Recv::Again
    }

    fn kept(&self, got: Recv) -> Recv {
        match got {
            Recv::Data(n) => Recv::Data(n),
            // The cosocket's next read finds it.
            Recv::Failed(errno) => self.stop(errno),
            Recv::Again | Recv::Eof => self.stop(0),
        }
    }
}
