//! A connection that this worker makes by itself, outside of any request: to a server that the
//! configuration names, by TCP or a unix socket, in TLS or not. nginx's own connection and events;
//! a name is looked up by nginx's resolver, anew for each connection, and its addresses are tried one
//! after the other.
//!
//! Owned by whoever has asked for it, who is told by a function that something happened, and
//! then asks what. nginx's connection is closed when this is dropped, in its own callback too.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::net::SocketAddr;
use std::ptr;
use std::rc::Rc;

use socket2::SockAddr;

use super::errno;
use super::guard::guarded;
use super::resolve::{literal, Lookup, Resolver};
use super::tls_client::TlsClient;
use super::wire::{Io, Recv, Sent, Wire};
use crate::ffi;

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Place {
    /// A host, by name or address, and its port.
    Host(String, u16),
    /// The path of a unix socket.
    Unix(String),
}

/// A connection, or one on its way.
///
/// nginx's connection has a pointer to `Inner`, which stays where it is until the drop, and that
/// takes the pointer, and the event out of nginx's queue, along.
pub struct Client {
    inner: Box<Inner>,
    step: Step,
    /// The name, for TLS, and for the errors of others.
    host: String,
    tls: Option<Rc<TlsClient>>,
    /// Addresses that have not been tried.
    rest: Vec<SockAddr>,
    /// What nginx has not taken yet begins at `sent`.
    out: Vec<u8>,
    sent: usize,
}

enum Step {
    LookingUp(Lookup, u16),
    Connecting,
    ShakingHands,
    There,
}

struct Inner {
    wire: Wire,
    happened: Rc<dyn Fn()>,
    /// nginx has ended the TLS handshake, well or not.
    shaken: Cell<bool>,
    /// nginx keeps a pointer to it, and would say at error level what our owner says in its way.
    log: UnsafeCell<ffi::ngx_log_t>,
    turn: UnsafeCell<ffi::ngx_event_t>,
}

impl Client {
    /// Begins to connect. `happened` is called on this worker's event loop whenever there may be
    /// something new, never within a call of this.
    pub fn connect(
        to: &Place,
        tls: Option<Rc<TlsClient>>,
        resolver: Option<Resolver>,
        happened: Rc<dyn Fn()>,
    ) -> Result<Client, String> {
        // SAFETY: the cycle's log lives as long as the process; zeroed structs are nginx's own
        // initial state (ngx_calloc).
        let inner = unsafe {
            let mut log: ffi::ngx_log_t = ptr::read((*ffi::ngx_cycle).log);
            log.log_level = ffi::NGX_LOG_ALERT as ffi::ngx_uint_t;
            let mut turn: ffi::ngx_event_t = mem::zeroed();
            turn.handler = Some(on_turn);
            let (log, turn) = (UnsafeCell::new(log), UnsafeCell::new(turn));
            let (wire, shaken) = (Wire::new(ptr::null_mut()), Cell::new(false));
            let inner = Box::new(Inner { wire, happened: happened.clone(), shaken, log, turn });
            (*inner.turn.get()).data = ptr::from_ref(&*inner).cast_mut().cast();
            (*inner.turn.get()).log = inner.log.get();
            inner
        };
        let (step, rest, host) = match to {
            Place::Unix(path) => {
                let at = SockAddr::unix(path).map_err(|_| "not a path of a socket".to_string())?;
                (Step::Connecting, vec![at], String::new())
            }
            Place::Host(host, port) => match literal(host, *port) {
                Some(at) => (Step::Connecting, vec![at.into()], host.clone()),
                None => {
                    let lookup = Lookup::start(resolver, host, happened)?;
                    (Step::LookingUp(lookup, *port), Vec::new(), host.clone())
                }
            },
        };
        let (out, sent) = (Vec::new(), 0);
        let mut client = Client { inner, step, host, tls, rest, out, sent };
        match client.step {
            Step::LookingUp(..) => client.looked_up()?,
            _ => client.try_next("no address".to_string())?,
        }
        Ok(client)
    }

    /// Looks whether the name has been found.
    fn looked_up(&mut self) -> Result<(), String> {
        let Step::LookingUp(lookup, port) = &self.step else { return Ok(()) };
        let Some(found) = lookup.take() else { return Ok(()) };
        let port = *port;
        self.rest = found?.into_iter().rev().map(|ip| SocketAddr::new(ip, port).into()).collect();
        self.step = Step::Connecting;
        self.try_next(format!("{} has no address", self.host))
    }

    /// Begins with the next address; if there is none, this is why not.
    fn try_next(&mut self, mut why: String) -> Result<(), String> {
        self.inner.close();
        while let Some(at) = self.rest.pop() {
            match self.inner.open(&at) {
                Ok(()) => return Ok(()),
                Err(err) => why = err,
            }
        }
        Err(why)
    }

    /// Whether `is_there` has said so.
    pub fn was_there(&self) -> bool {
        matches!(self.step, Step::There)
    }

    /// Whether the connection is there by now.
    pub fn is_there(&mut self) -> Result<bool, String> {
        self.looked_up()?;
        if matches!(self.step, Step::Connecting) {
            let fault = match self.inner.is_connected() {
                Ok(false) => return Ok(false),
                Ok(true) => None,
                Err(why) => Some(why),
            };
            match (fault, &self.tls) {
                (Some(why), _) => {
                    self.try_next(why)?;
                    return Ok(false);
                }
                (None, Some(tls)) => {
                    self.inner.shake_hands(tls, &self.host)?;
                    self.step = Step::ShakingHands;
                }
                (None, None) => self.step = Step::There,
            }
        }
        if let (Step::ShakingHands, Some(tls)) = (&self.step, &self.tls) {
            if !self.inner.shaken.get() {
                return Ok(false);
            }
            self.inner.judge(tls)?;
            self.step = Step::There;
        }
        let is_there = self.was_there();
        if is_there {
            self.inner.wire.want_read();
        }
        Ok(is_there)
    }

    /// Goes on in TLS. It is there again when that is.
    pub fn secure(&mut self, tls: Rc<TlsClient>) -> Result<(), String> {
        self.inner.shake_hands(&tls, &self.host)?;
        (self.tls, self.step) = (Some(tls), Step::ShakingHands);
        self.call_soon();
        Ok(())
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
        if self.inner.wire.holds_back() {
            if let Sent::Failed(errno) = self.inner.wire.send(&[]) {
                return Err(errno::text(errno));
            }
        }
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

impl Inner {
    /// Begins a connection.
    fn open(&self, to: &SockAddr) -> Result<(), String> {
        let text = b"server";
        let mut name = ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        ffi::ngx_set_errno(0);
        // SAFETY: the peer and its address live for the call, which keeps neither; the connection it
        // makes is ours alone. `self` does not move (it is boxed), and goes only after the connection.
        unsafe {
            let mut peer: ffi::ngx_peer_connection_t = mem::zeroed();
            peer.sockaddr = to.as_ptr().cast_mut().cast();
            peer.socklen = to.len();
            peer.name = &mut name;
            peer.get = Some(get_peer);
            peer.log = self.log.get();
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
            // What is asked next does not wait for the answer to what was asked before. Of a unix
            // socket nginx knows that it has no such option.
            ffi::ngx_tcp_nodelay(c);
            self.wire.set(c);
            self.listen();
        }
        Ok(())
    }

    /// Has nginx tell us of its connection's events.
    fn listen(&self) {
        let c = self.wire.get();
        // SAFETY: open; see above for the pointer.
        unsafe {
            (*c).data = ptr::from_ref(self).cast_mut().cast();
            (*(*c).read).handler = Some(on_event);
            (*(*c).write).handler = Some(on_event);
        }
    }

    fn is_connected(&self) -> Result<bool, String> {
        let c = self.wire.get();
        // SAFETY: the connection is open; the option is an int.
        unsafe {
            if (*(*c).write).ready() == 0 {
                return Ok(false);
            }
            let (mut fault, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
            let at = ptr::addr_of_mut!(fault).cast();
            if libc::getsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_ERROR, at, &mut len) != 0 {
                fault = ffi::ngx_errno();
            }
            match fault {
                0 => Ok(true),
                errno => Err(errno::text(errno)),
            }
        }
    }

    /// Begins the TLS handshake, which nginx goes on with.
    fn shake_hands(&self, tls: &TlsClient, host: &str) -> Result<(), String> {
        let c = self.wire.get();
        // SAFETY: the connection is open, and gets the pool that TLS allocates from; `close` frees
        // both.
        unsafe {
            (*c).pool = ffi::ngx_create_pool(POOL, self.log.get());
            if (*c).pool.is_null() || !tls.attach(c, host) {
                return Err("no memory for tls".to_string());
            }
            self.shaken.set(false);
            if ffi::ngx_ssl_handshake(c) == ffi::NGX_AGAIN as ffi::ngx_int_t {
                (*(*c).ssl).handler = Some(on_handshake);
            } else {
                self.shaken.set(true);
            }
        }
        Ok(())
    }

    /// Whether nginx's handshake went well, and with the right server.
    fn judge(&self, tls: &TlsClient) -> Result<(), String> {
        let c = self.wire.get();
        // SAFETY: open, and its handshake is over.
        unsafe {
            if (*(*c).ssl).handshaked() == 0 {
                return Err("the tls handshake failed".to_string());
            }
            tls.admits(c)
        }
    }

    fn close(&self) {
        let c = self.wire.replace(ptr::null_mut());
        if c.is_null() {
            return;
        }
        // SAFETY: open until now, and nobody else's.
        unsafe { cut(c) };
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the event of ours is unlinked before its memory goes.
        unsafe {
            let turn = self.inner.turn.get();
            if (*turn).posted() != 0 {
                ffi::ngx_delete_posted_event(turn);
            }
        }
        self.inner.close();
    }
}

/// Of a connection's pool, which TLS takes one struct from.
const POOL: usize = 512;

/// nginx asks which of several servers: there is one.
unsafe extern "C" fn get_peer(
    _: *mut ffi::ngx_peer_connection_t,
    _: *mut std::ffi::c_void,
) -> ffi::ngx_int_t {
    ffi::NGX_OK as _
}

unsafe extern "C" fn on_event(ev: *mut ffi::ngx_event_t) {
    guarded("client connection", (), || {
        // SAFETY: nginx calls this with an event of a connection of `open`, which is open, so
        // that its `Inner` is there; `happened` may drop both, and is called last.
        let happened = unsafe {
            let c = (*ev).data.cast::<ffi::ngx_connection_t>();
            let inner = &*(*c).data.cast::<Inner>();
            inner.wire.begin_turn();
            inner.happened.clone()
        };
        happened();
    });
}

unsafe extern "C" fn on_handshake(c: *mut ffi::ngx_connection_t) {
    guarded("client handshake", (), || {
        // SAFETY: as in `on_event`.
        let happened = unsafe {
            let inner = &*(*c).data.cast::<Inner>();
            inner.shaken.set(true);
            inner.listen();
            inner.happened.clone()
        };
        happened();
    });
}

unsafe extern "C" fn on_turn(ev: *mut ffi::ngx_event_t) {
    guarded("client connection", (), || {
        // SAFETY: nginx calls this with the event of an `Inner`, which is there as long as the event
        // is in the queue.
        let happened = unsafe { (*(*ev).data.cast::<Inner>()).happened.clone() };
        happened();
    });
}

/// Closes a connection that nginx has made to somebody, and frees it at once: TLS says nothing and waits
/// for nothing.
///
/// # Safety
/// `c` must be open, and nobody else's.
pub(super) unsafe fn cut(c: *mut ffi::ngx_connection_t) {
    // SAFETY: by contract; nginx touches an event after its handler no more.
    unsafe {
        if !(*c).ssl.is_null() {
            (*(*c).ssl).set_no_wait_shutdown(1);
            (*(*c).ssl).set_no_send_shutdown(1);
            ffi::ngx_ssl_shutdown(c);
        }
        let pool = (*c).pool;
        ffi::ngx_close_connection(c);
        if !pool.is_null() {
            ffi::ngx_destroy_pool(pool);
        }
    }
}
