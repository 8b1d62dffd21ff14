//! The ways of bytes that a connection may have: a request that was taken over, a cosocket between two
//! of its own calls. (A stream carries bytes for Lua first, see `stream`.)

use std::cell::Cell;

use ws_conn::{Io, Recv, Sent};

use crate::ngx::accepted::Accepted;
use crate::ngx::cosocket::Cosocket;
use crate::ngx::link::Link;

impl Io for Link {
    #[inline]
    fn read_ready(&self) -> bool {
        (**self).read_ready()
    }
    fn recv(&self, buf: &mut [u8]) -> Recv {
        (**self).recv(buf)
    }
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        (**self).recv_into(buf, limit)
    }
    fn send_one(&self, part: &[u8]) -> Sent {
        (**self).send_one(part)
    }
    fn send(&self, parts: &[&[u8]]) -> Sent {
        (**self).send(parts)
    }
    fn holds_back(&self) -> bool {
        self.tls_pending()
    }
    fn want_write(&self) {
        (**self).want_write();
    }
}

impl Io for Accepted {
    fn read_ready(&self) -> bool {
        (**self).read_ready()
    }
    fn recv(&self, buf: &mut [u8]) -> Recv {
        (**self).recv(buf)
    }
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        (**self).recv_into(buf, limit)
    }
    fn send_one(&self, part: &[u8]) -> Sent {
        (**self).send_one(part)
    }
    fn send(&self, parts: &[&[u8]]) -> Sent {
        (**self).send(parts)
    }
    fn holds_back(&self) -> bool {
        self.tls_pending()
    }
    fn want_write(&self) {
        (**self).want_write();
    }
}

/// Bytes past a cosocket. What it reports itself is left to it: the end and errors.
pub struct Past<'a> {
    socket: &'a Cosocket<'a>,
    /// Why the kernel took no more: errno.
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
    fn kept(&self, got: Recv) -> Recv {
        match got {
            Recv::Data(n) => Recv::Data(n),
            _ => {
                // The cosocket's next read finds it.
                self.failed.set(Some(0));
                Recv::Again
            }
        }
    }
}
