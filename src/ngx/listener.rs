//! A port opened while a worker runs: a listening socket of ours on nginx's events. What it accepts
//! goes, after the TLS handshake if there is one, into a queue that light threads take from.
//!
//! The socket is the worker's own and bound with SO_REUSEPORT: every worker that opens the same
//! port has one, and the kernel deals connections out. On a reload the new workers' sockets take
//! over; the old one accepts what the kernel has given it and closes.

mod coming;

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::c_void;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::rc::Rc;

use socket2::SockAddr;

use super::accepted::{local_address, Accepted};
use super::clock::now_ms;
use super::counted::borrow;
use super::guard::guarded;
use super::handover;
use super::lua_wait::{Semaphore, Wait};
use super::port::{self, ListenError};
use super::request::Request;
use super::tls::Tls;
use crate::ffi;

/// Connections accepted in one turn of the event loop; then others have theirs.
const BATCH: usize = 64;
/// How long a worker that a reload has ended waits for its successors to open a port, and how often
/// it looks.
const HANDOVER_MS: u64 = 5000;
const LOOK_MS: u64 = 10;
/// Pause after the system ran out of descriptors.
const RETRY_MS: u64 = 500;
/// First pool of a connection: its log and addresses, no more.
const POOL_SIZE: usize = 512;

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
/// Owned by its Lua objects; the last of them closes the port. nginx's event points to `Inner`
/// without a count, which is sound because the end of `Inner` closes the socket. A connection in
/// its TLS handshake holds a count.
pub struct Listener(Rc<Inner>);

struct Inner {
    /// Null once closed.
    lc: Cell<*mut ffi::ngx_connection_t>,
    ls: UnsafeCell<ffi::ngx_listening_t>,
    /// What `ls` points to.
    sockaddr: SockAddr,
    local: SocketAddr,
    fd: i32,
    tls: Option<Rc<Tls>>,
    handshake_ms: u64,
    /// TLS connections are handed out before their handshake.
    early: bool,
    queue: RefCell<VecDeque<Accepted>>,
    /// Longest queue: beyond it the kernel's own fills.
    limit: usize,
    paused: Cell<bool>,
    accepted: Cell<u64>,
    /// The request that `tell_end_of` was given has ended, and nobody was told yet.
    owner_ended: Cell<bool>,
    /// When the worker was told to quit, on nginx's clock; 0: it was not.
    quitting: Cell<u64>,
    taker: Semaphore,
}

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
        port::check(addr)?;
        let taker = Semaphore::new().ok_or(ListenError::Memory)?;
        let fd = port::bind(addr, limit)?.into_raw_fd();
        let local = local_address(fd).unwrap_or(addr);
        let inner = Rc::new(Inner {
            lc: Cell::new(ptr::null_mut()),
            // SAFETY: an all-zero ngx_listening_t is nginx's own initial state.
            ls: UnsafeCell::new(unsafe { mem::zeroed() }),
            sockaddr: SockAddr::from(local),
            local,
            fd,
            tls: tls.map(Rc::new),
            handshake_ms,
            early,
            queue: RefCell::default(),
            limit: limit.max(1),
            paused: Cell::new(false),
            accepted: Cell::new(0),
            owner_ended: Cell::new(false),
            quitting: Cell::new(0),
            taker,
        });
        if !inner.start() {
            // SAFETY: the descriptor is ours still.
            unsafe { libc::close(fd) };
            return Err(ListenError::Connections);
        }
        port::note_open(local);
        handover::opened(local);
        Ok(Listener(inner))
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
        let inner = Rc::downgrade(&self.0);
        r.at_end(Box::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.owner_ended.set(true);
                inner.taker.wake_all();
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

impl Inner {
    /// Puts the socket on nginx's events. False: no connection left.
    fn start(self: &Rc<Self>) -> bool {
        // SAFETY: the worker's event loop runs; `ls` and what it points to stay in place, because
        // they lie in the Rc, and are not moved or freed before `close`.
        unsafe {
            let log = (*ffi::ngx_cycle).log;
            let lc = ffi::ngx_get_connection(self.fd, log);
            if lc.is_null() {
                return false;
            }
            let ls = self.ls.get();
            (*ls).fd = self.fd;
            (*ls).sockaddr = self.sockaddr.as_ptr().cast_mut().cast();
            (*ls).socklen = self.sockaddr.len();
            (*ls).type_ = libc::SOCK_STREAM;
            (*ls).handler = Some(coming::accepted);
            (*ls).log = *log;
            (*ls).logp = log;
            (*ls).pool_size = POOL_SIZE;
            (*ls).connection = lc;
            // The worker's own: ngx_event_accept would otherwise, with several workers, put its
            // event back as one of epoll's that reports states (EPOLLEXCLUSIVE), which nothing stops
            // from being reported while we pause.
            (*ls).set_reuseport(1);
            (*ls).servers = Rc::as_ptr(self).cast_mut().cast::<c_void>();
            (*lc).type_ = libc::SOCK_STREAM;
            (*lc).log = log;
            (*lc).listening = ls;
            (*lc).data = Rc::as_ptr(self).cast_mut().cast::<c_void>();
            // nginx tells idle connections when the worker is to quit.
            (*lc).set_idle(1);
            let rev = (*lc).read;
            (*rev).log = log;
            (*rev).set_accept(1);
            (*rev).handler = Some(accept_handler);
            (*(*lc).write).log = log;
            self.lc.set(lc);
            if ffi::ngx_handle_read_event(rev, 0) != ffi::NGX_OK as isize {
                (*lc).fd = -1;
                ffi::ngx_free_connection(lc);
                self.lc.set(ptr::null_mut());
                return false;
            }
        }
        true
    }

    /// Whether an event module that reports states, not changes (poll, select) goes on reporting
    /// connections that wait.
    fn listen(&self, on: bool) {
        let lc = self.lc.get();
        if !lc.is_null() {
            // SAFETY: lc is alive. With epoll this is a no-op.
            unsafe {
                (*(*lc).read).set_ready(u32::from(!on));
                ffi::ngx_handle_read_event((*lc).read, 0);
            }
        }
    }

    /// Goes on accepting, at the next turn of the event loop.
    fn resume(&self) {
        let lc = self.lc.get();
        if !lc.is_null() {
            // SAFETY: lc is alive; nginx unlinks the event when the connection is closed.
            unsafe {
                ffi::ngx_post_event((*lc).read, ptr::addr_of_mut!(ffi::ngx_posted_next_events));
            }
        }
    }

    fn close(&self) {
        let lc = self.lc.replace(ptr::null_mut());
        if !lc.is_null() {
            port::note_closed(self.local);
            // SAFETY: lc was alive until now; this closes the socket too.
            unsafe {
                if (*(*lc).read).timer_set() != 0 {
                    revive_others();
                }
                ffi::ngx_close_connection(lc);
            }
        }
        self.taker.wake_all();
    }

    /// Accepts a batch of what the kernel has, `all` of them where the queue is full, too. Returns
    /// whether it goes on at the next turn of the event loop.
    fn run(&self, all: bool) -> bool {
        self.listen(true);
        for _ in 0..BATCH {
            let lc = self.lc.get();
            if lc.is_null() {
                return false;
            }
            if !all && self.queue.borrow().len() >= self.limit {
                self.paused.set(true);
                self.listen(false);
                return false;
            }
            let before = self.accepted.get();
            ffi::ngx_set_errno(0);
            // SAFETY: lc is alive, its event nginx's own kind. Calls `accepted` for each.
            unsafe { ffi::ngx_event_accept((*lc).read) };
            let errno = ffi::ngx_errno();
            if matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) {
                // SAFETY: lc is alive. nginx may have set this timer itself.
                unsafe {
                    if !all && (*(*lc).read).timer_set() == 0 {
                        ffi::ngx_add_timer((*lc).read, RETRY_MS as ffi::ngx_msec_t);
                    }
                }
                self.listen(false);
                return false;
            }
            if self.accepted.get() == before && errno != libc::ECONNABORTED {
                // Nothing there, or nginx had no connection for it; others may wait behind that.
                if errno == libc::EAGAIN || all {
                    return false;
                }
            }
        }
        self.resume();
        true
    }

    /// A connection is ready to be taken.
    fn deliver(&self, connection: Accepted) {
        self.queue.borrow_mut().push_back(connection);
        self.taker.wake_all();
    }
}

/// Has nginx accept on its own sockets again: where descriptors have run out it stops, and leaves a
/// timer with the socket that met it first, which may be ours. With a mutex between the workers it is
/// that which does so, and in a worker that quits they are closed.
fn revive_others() {
    // SAFETY: plain integers set by nginx; the cycle lives as long as the process.
    unsafe {
        if ffi::ngx_use_accept_mutex == 0 && ffi::ngx_exiting == 0 {
            ffi::ngx_enable_accept_events(ffi::ngx_cycle);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// nginx's read event of the listening socket.
unsafe extern "C" fn accept_handler(ev: *mut ffi::ngx_event_t) {
    guarded("accept", (), || {
        // SAFETY: nginx calls this with the event it was set on; the connection's data is our Rc,
        // alive as long as the connection. A count is held while we work.
        let inner = unsafe { borrow::<Inner>((*(*ev).data.cast::<ffi::ngx_connection_t>()).data) };
        let Some(inner) = inner else { return };
        // SAFETY: as above.
        let quits = unsafe {
            let quits = (*(*ev).data.cast::<ffi::ngx_connection_t>()).close() != 0;
            if (*ev).timedout() != 0 {
                // nginx does so by this mark where it accepts next, which a full queue puts off.
                (*ev).set_timedout(0);
                revive_others();
            }
            if quits && inner.quitting.get() == 0 {
                inner.quitting.set(now_ms().max(1));
                // nginx says so outside its events: whoever is woken now would wait for the next
                // one, so a timer brings us back.
                ffi::ngx_add_timer(ev, 1);
                return;
            }
            quits
        };
        let goes_on = inner.run(quits);
        if !quits || goes_on {
            return;
        }
        let waited = now_ms().saturating_sub(inner.quitting.get());
        if waited < HANDOVER_MS && handover::is_awaited(inner.local) {
            // SAFETY: the listener is open, and the event its own.
            unsafe {
                if (*ev).timer_set() == 0 {
                    ffi::ngx_add_timer(ev, LOOK_MS as ffi::ngx_msec_t);
                }
            }
        } else {
            inner.close();
        }
    });
}
