//! A connection that this worker makes by itself, outside of any request: to a server that the
//! configuration names. nginx's own connection and events; plain TCP or a unix socket.
//!
//! Owned by whoever has asked for it, who is told by a plain function that something happened, and
//! then asks what. nginx's connection is closed when this is dropped, in its own callback too.

use std::cell::UnsafeCell;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use socket2::SockAddr;

use super::errno;
use super::guard::guarded;
use super::wire::{Recv, Sent, Wire};
use crate::ffi;

/// A connection, or one on its way.
///
/// nginx's connection has a pointer to `Inner`, which stays where it is until the drop, and that
/// takes the pointer, and the event out of nginx's queue, along.
pub struct Client {
    inner: Box<Inner>,
    /// What nginx has not taken yet begins at `sent`.
    out: Vec<u8>,
    sent: usize,
    was_there: bool,
}

struct Inner {
    wire: Wire,
    happened: fn(),
    /// nginx keeps a pointer to it, and would say at error level what our owner says in its way.
    log: UnsafeCell<ffi::ngx_log_t>,
    turn: UnsafeCell<ffi::ngx_event_t>,
}

/// Where to connect to: an address and a port, or the path of a unix socket. Names are not looked
/// up.
pub fn address(host: &str, port: u16) -> Option<SockAddr> {
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip, port).into())
}

/// See `address`.
pub fn unix(path: &str) -> Option<SockAddr> {
    SockAddr::unix(path).ok()
}

impl Client {
    /// Begins to connect. `happened` is called on this worker's event loop whenever there may be
    /// something new.
    pub fn connect(to: &SockAddr, happened: fn()) -> Result<Client, String> {
        // SAFETY: the cycle's log lives as long as the process; zeroed structs are nginx's own
        // initial state (ngx_calloc).
        let inner = unsafe {
            let mut log: ffi::ngx_log_t = ptr::read((*ffi::ngx_cycle).log);
            log.log_level = ffi::NGX_LOG_ALERT as ffi::ngx_uint_t;
            let (log, turn) = (UnsafeCell::new(log), UnsafeCell::new(mem::zeroed()));
            Box::new(Inner { wire: Wire::new(ptr::null_mut()), happened, log, turn })
        };
        let text = b"server";
        let mut name = ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        ffi::ngx_set_errno(0);
        // SAFETY: the peer and its address live for the call, which keeps neither; the connection it
        // makes is ours alone. `inner` does not move, and goes only after the connection.
        unsafe {
            let mut peer: ffi::ngx_peer_connection_t = mem::zeroed();
            peer.sockaddr = to.as_ptr().cast_mut().cast();
            peer.socklen = to.len();
            peer.name = &mut name;
            peer.get = Some(get_peer);
            peer.log = inner.log.get();
            let rc = ffi::ngx_event_connect_peer(&mut peer);
            let c = peer.connection;
            if rc != ffi::NGX_OK as ffi::ngx_int_t && rc != ffi::NGX_AGAIN as ffi::ngx_int_t {
                let why = match ffi::ngx_errno() {
                    0 => "no connection".to_string(),
                    errno => errno::text(errno),
                };
                if !c.is_null() {
                    ffi::ngx_close_connection(c);
                }
                return Err(why);
            }
            let data: *const Inner = &*inner;
            (*c).data = data.cast_mut().cast();
            (*(*c).read).handler = Some(on_event);
            (*(*c).write).handler = Some(on_event);
            inner.wire.set(c);
            let turn = inner.turn.get();
            (*turn).handler = Some(on_turn);
            (*turn).data = data.cast_mut().cast();
            (*turn).log = inner.log.get();
        }
        Ok(Client { inner, out: Vec::new(), sent: 0, was_there: false })
    }

    /// Whether `is_there` has said so.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Whether the connection is there by now.
    pub fn is_there(&mut self) -> Result<bool, String> {
        let c = self.inner.wire.get();
        // SAFETY: the connection is open as long as this is; the option is an int.
        unsafe {
            if self.was_there || (*(*c).write).ready() == 0 {
                return Ok(self.was_there);
            }
            let (mut fault, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
            let at = ptr::addr_of_mut!(fault).cast();
            if libc::getsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_ERROR, at, &mut len) != 0 {
                fault = ffi::ngx_errno();
            }
            if fault != 0 {
                return Err(errno::text(fault));
            }
        }
        self.was_there = true;
        self.inner.wire.want_read();
        Ok(true)
    }

    /// Reads at most `buf.len()` bytes. None: no more now.
    pub fn read(&self, buf: &mut [u8]) -> Result<Option<usize>, String> {
        if !self.inner.wire.read_ready() {
            self.inner.wire.want_read();
            return Ok(None);
        }
        match self.inner.wire.recv(buf) {
            Recv::Data(n) => Ok(Some(n)),
            Recv::Again => Ok(None),
            Recv::Eof => Err("closed by the server".to_string()),
            Recv::Failed(errno) => Err(errno::text(errno)),
        }
    }

    /// These bytes are to leave, at the end of this turn of the event loop.
    pub fn send(&mut self, bytes: Vec<u8>) {
        if self.out.is_empty() {
            self.out = bytes;
        } else {
            self.out.extend(bytes);
        }
        self.call_soon();
    }

    /// Has `happened` called at the end of this turn.
    pub fn call_soon(&self) {
        // SAFETY: the event lies in `inner`, and is taken out of the queue when that goes.
        unsafe {
            let queue = ptr::addr_of_mut!(ffi::ngx_posted_events);
            ffi::ngx_post_event(self.inner.turn.get(), queue);
        }
    }

    /// Sends as much as the kernel takes; the rest when it takes more.
    pub fn flush(&mut self) -> Result<(), String> {
        while self.sent < self.out.len() {
            match self.inner.wire.send_one(&self.out[self.sent..]) {
                Sent::Bytes(0) => break,
                Sent::Bytes(n) => self.sent += n,
                Sent::Failed(errno) => return Err(errno::text(errno)),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.out.shrink_to(64 * 1024);
            self.sent = 0;
        }
        self.inner.wire.want_write();
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let c = self.inner.wire.replace(ptr::null_mut());
        // SAFETY: open until now, and nginx touches an event after its handler no more; the event of
        // ours is unlinked before its memory goes.
        unsafe {
            let turn = self.inner.turn.get();
            if (*turn).posted() != 0 {
                ffi::ngx_delete_posted_event(turn);
            }
            if !c.is_null() {
                ffi::ngx_close_connection(c);
            }
        }
    }
}

/// nginx asks which of several servers: there is one.
unsafe extern "C" fn get_peer(
    _: *mut ffi::ngx_peer_connection_t,
    _: *mut std::ffi::c_void,
) -> ffi::ngx_int_t {
    ffi::NGX_OK as _
}

unsafe extern "C" fn on_event(ev: *mut ffi::ngx_event_t) {
    guarded("client connection", (), || {
        // SAFETY: nginx calls this with an event of a connection of `connect`, which is open, so
        // that its `Inner` is there; `happened` may drop both, and is called last.
        let happened = unsafe {
            let c = (*ev).data.cast::<ffi::ngx_connection_t>();
            let inner = &*(*c).data.cast::<Inner>();
            inner.wire.begin_turn();
            inner.happened
        };
        happened();
    });
}

unsafe extern "C" fn on_turn(ev: *mut ffi::ngx_event_t) {
    guarded("client connection", (), || {
        // SAFETY: nginx calls this with the event of an `Inner`, which is there as long as the event
        // is in the queue.
        let happened = unsafe { (*(*ev).data.cast::<Inner>()).happened };
        happened();
    });
}
