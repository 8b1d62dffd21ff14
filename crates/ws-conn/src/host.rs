//! What a connection asks of the world: of the process it lives in (`Host`) and of the bytes' way in
//! and out (`Io`). Both are passed to each call, so a connection holds neither a clock, nor a source
//! of random numbers, nor a socket.

use ws_proto::Error;

use crate::Pool;

/// The process: its clock, its random numbers, its counters, the memory that connections share.
pub trait Host {
    /// Milliseconds on a clock that only goes forward.
    fn now_ms(&self) -> u64;
    /// A masking key from a strong source (RFC 6455 5.3, 10.3).
    fn masking_key(&self) -> [u8; 4];
    /// Keeps count.
    fn count(&self, event: Counted);
    /// Memory shared by connections.
    fn pool(&self) -> &Pool;
    /// Takes the memory of a payload that nobody needs any more, for the pool: who lives for long has
    /// `Pool::tidy` called now and then.
    fn recycle(&self, body: Vec<u8>) {
        self.pool().recycle(body);
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A message (or, in frame style, a data frame) of so many bytes came.
    MessageIn(usize),
    /// One was queued.
    MessageOut(usize),
    /// A message was compressed: its bytes before and after.
    Compressed(usize, usize),
    /// A ping of the heartbeat was queued.
    Ping,
    /// Nothing came after one.
    PingTimeout,
    /// The connection ends by this rule.
    Broken(Error),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// So many bytes.
    Data(usize),
    /// Nothing now; the owner is told when there is.
    Again,
    /// The peer ended its side.
    Eof,
    /// A socket error, as errno (0 where TLS gave none).
    Failed(i32),
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes taken, all of them or as many as fit.
    Bytes(usize),
    /// A socket error, as errno (0 where TLS gave none).
    Failed(i32),
}

/// How many pieces one `Io::send` gets at most.
pub const MAX_PARTS: usize = 16;

/// The way of the bytes: a socket, plain or TLS.
pub trait Io {
    /// Whether a read may bring something.
    fn read_ready(&self) -> bool;
    /// Reads at most `buf.len()` bytes. `Recv::Again` has seen to it that more is noticed.
    fn recv(&self, buf: &mut [u8]) -> Recv;
    /// Reads at most `limit` bytes into the spare capacity of `buf`, which grows by what came.
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv;
    /// Sends what lies in one piece.
    fn send_one(&self, part: &[u8]) -> Sent {
        self.send(&[part])
    }
    /// Sends at most `MAX_PARTS` parts, in order.
    fn send(&self, parts: &[&[u8]]) -> Sent;
    /// Whether bytes were taken that have not left yet (TLS).
    fn holds_back(&self) -> bool {
        false
    }
    /// Not everything was taken: `flush` is to be called when more is.
    fn want_write(&self) {}
}

/// No way in or out: for a connection whose bytes are fed (`Connection::feed`).
#[derive(Clone, Copy, Debug)]
pub struct NoIo;

impl Io for NoIo {
    fn read_ready(&self) -> bool {
        false
    }
    fn recv(&self, _buf: &mut [u8]) -> Recv {
        Recv::Again
    }
    fn recv_into(&self, _buf: &mut Vec<u8>, _limit: usize) -> Recv {
        Recv::Again
    }
    fn send(&self, _parts: &[&[u8]]) -> Sent {
        Sent::Bytes(0)
    }
}
