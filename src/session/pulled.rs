//! Connections over sockets of Lua's: the transport that does nothing, since a shim carries the bytes,
//! and the way past the socket for what is large.

use std::cell::{Cell, RefCell};

use ws_conn::{Io, NoIo, Recv, Sent};

use crate::ngx::cosocket::Cosocket;
use crate::ngx::transport::Transport;
use crate::ngx::wire::Wire;

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
    fn wire(&self) -> Option<&Wire> {
        None
    }
    fn post_flush(&self) {}
    fn set_timer(&self, _ms: u64, _must_run: bool) {}
    fn info(&self, text: &str) {
        self.0.replace(Some(text.to_string()));
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
