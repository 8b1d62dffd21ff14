//! A port opened while a worker runs: a listening socket of ours on nginx's events. What it accepts
//! goes, after the TLS handshake if there is one, into a queue that light threads take from.
//!
//! The socket is the worker's own and bound with SO_REUSEPORT: every worker that opens the same
//! port has one, and the kernel deals connections out. On a reload the new workers' sockets take
//! over; the old one accepts what the kernel has given it and closes.

mod socket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use self::socket::Socket;
use super::accepted::Accepted;
use super::lua_wait::Wait;
use super::port::ListenError;
use super::request::Request;
use super::tls::Tls;

/// Result of asking for a connection.
pub enum Accept {
    /// The oldest that waits.
    Connection(Accepted),
    /// The port is closed, and all it had accepted is taken.
    Closed,
    /// What `tell_end_of` was asked for.
    OwnerEnded,
}

/// A listening socket.
///
/// Owned by its Lua objects; the last of them closes the port.
pub struct Listener(Rc<Socket>);

impl Listener {
    /// Opens a port (0: any that is free). After `limit` connections that wait to be taken no more are
    /// accepted, and as many again wait in the kernel. A TLS handshake has `handshake_ms` milliseconds;
    /// those that go on are not counted (whoever is slow would keep the others out), so what they end
    /// in may wait beyond the limit. `early`: it goes on while the connection is somebody's already.
    pub fn open(
        addr: SocketAddr,
        limit: usize,
        tls: Option<Tls>,
        handshake_ms: u64,
        early: bool,
    ) -> Result<Listener, ListenError> {
        Socket::open(addr, limit, tls, handshake_ms, early).map(Listener)
    }

    /// The address it listens on, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.0.local
    }

    /// Its descriptor; of a closed one, the one it had.
    pub fn fd(&self) -> i32 {
        self.0.fd
    }

    /// Whether it still listens.
    pub fn is_open(&self) -> bool {
        !self.0.lc.get().is_null()
    }

    /// The oldest connection that waits, or parks the light thread that runs in `r` for at most
    /// `ms` milliseconds.
    pub fn accept(&self, r: Request, ms: u64) -> Wait<Accept> {
        if self.0.owner_ended.take() {
            return Wait::Ready(Accept::OwnerEnded);
        }
        if let Some(connection) = self.take() {
            return Wait::Ready(Accept::Connection(connection));
        }
        if !self.is_open() {
            return Wait::Ready(Accept::Closed);
        }
        self.0.taker.park(r, ms)
    }

    /// Has `accept` say once when `r` has ended, whose Lua code opened the port. False: no memory.
    pub fn tell_end_of(&self, r: Request) -> bool {
        let socket = Rc::downgrade(&self.0);
        r.at_end(Box::new(move || {
            if let Some(socket) = socket.upgrade() {
                socket.owner_ended.set(true);
                socket.taker.wake_all();
            }
        }))
    }

    fn take(&self) -> Option<Accepted> {
        let connection = self.0.queue.borrow_mut().pop_front()?;
        if self.0.paused.replace(false) {
            self.0.resume();
        }
        Some(connection)
    }

    /// Whether a connection waits.
    pub fn has_waiting(&self) -> bool {
        !self.0.queue.borrow().is_empty()
    }

    /// Parks the light thread that runs in `r` until a connection waits (or something else
    /// happens: the caller looks again).
    pub fn park(&self, r: Request, ms: u64) -> Wait<Infallible> {
        self.0.taker.park(r, ms)
    }

    /// Stops listening. What has been accepted can still be taken.
    pub fn close(&self) {
        self.0.close();
    }
}
