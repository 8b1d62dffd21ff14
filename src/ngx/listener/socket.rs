//! The socket of a listener on nginx's events: what it accepts goes, after the TLS handshake if there is
//! one, into the queue.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::rc::Rc;

use socket2::SockAddr;

use crate::ffi;
use crate::ngx::accepted::{is_room, Accepted};
use crate::ngx::clock::now_ms;
use crate::ngx::counted::borrow;
use crate::ngx::goodbye;
use crate::ngx::guard::guarded;
use crate::ngx::handover;
use crate::ngx::log;
use crate::ngx::lua_wait::Semaphore;
use crate::ngx::port::{self, ListenError};
use crate::ngx::sockaddr::local_address;
use crate::ngx::tls::Tls;

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

/// The listening socket.
///
/// nginx's event points to it without a count, which is sound because its end closes the socket. A
/// connection in its TLS handshake holds a count.
pub(super) struct Socket {
    /// Null once closed.
    pub(super) lc: Cell<*mut ffi::ngx_connection_t>,
    ls: UnsafeCell<ffi::ngx_listening_t>,
    /// What `ls` points to.
    sockaddr: SockAddr,
    pub(super) local: SocketAddr,
    pub(super) fd: i32,
    tls: Option<Rc<Tls>>,
    handshake_ms: u64,
    /// TLS connections are handed out before their handshake.
    early: bool,
    pub(super) queue: RefCell<VecDeque<Accepted>>,
    /// Longest queue: beyond it the kernel's own fills.
    limit: usize,
    pub(super) paused: Cell<bool>,
    accepted: Cell<u64>,
    /// The request that `tell_end_of` was given has ended, and nobody was told yet.
    pub(super) owner_ended: Cell<bool>,
    /// When the worker was told to quit, on nginx's clock; 0: it was not.
    quitting: Cell<u64>,
    pub(super) taker: Semaphore,
}

impl Socket {
    /// As `Listener::open`.
    pub(super) fn open(
        addr: SocketAddr,
        limit: usize,
        tls: Option<Tls>,
        handshake_ms: u64,
        early: bool,
    ) -> Result<Rc<Socket>, ListenError> {
        port::check(addr)?;
        let taker = Semaphore::new().ok_or(ListenError::Memory)?;
        let fd = port::bind(addr, limit)?.into_raw_fd();
        let local = local_address(fd).unwrap_or(addr);
        let socket = Rc::new(Socket {
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
        if !socket.start() {
            // SAFETY: the descriptor is ours still.
            unsafe { libc::close(fd) };
            return Err(ListenError::Connections);
        }
        port::note_open(local);
        handover::opened(local);
        Ok(socket)
    }

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
            (*ls).handler = Some(accepted);
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
    pub(super) fn resume(&self) {
        let lc = self.lc.get();
        if !lc.is_null() {
            // SAFETY: lc is alive; nginx unlinks the event when the connection is closed.
            unsafe {
                ffi::ngx_post_event((*lc).read, ptr::addr_of_mut!(ffi::ngx_posted_next_events));
            }
        }
    }

    pub(super) fn close(&self) {
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

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// nginx's read event of the listening socket.
unsafe extern "C" fn accept_handler(ev: *mut ffi::ngx_event_t) {
    guarded("accept", (), || {
        // SAFETY: nginx calls this with the event it was set on; the connection's data is our Rc,
        // alive as long as the connection. A count is held while we work.
        let socket =
            unsafe { borrow::<Socket>((*(*ev).data.cast::<ffi::ngx_connection_t>()).data) };
        let Some(socket) = socket else { return };
        // SAFETY: as above.
        let quits = unsafe {
            let quits = (*(*ev).data.cast::<ffi::ngx_connection_t>()).close() != 0;
            if (*ev).timedout() != 0 {
                // nginx does so by this mark where it accepts next, which a full queue puts off.
                (*ev).set_timedout(0);
                revive_others();
            }
            if quits && socket.quitting.get() == 0 {
                socket.quitting.set(now_ms().max(1));
                // nginx says so outside its events: whoever is woken now would wait for the next
                // one, so a timer brings us back.
                ffi::ngx_add_timer(ev, 1);
                return;
            }
            quits
        };
        let goes_on = socket.run(quits);
        if !quits || goes_on {
            return;
        }
        let waited = now_ms().saturating_sub(socket.quitting.get());
        if waited < HANDOVER_MS && handover::is_awaited(socket.local) {
            // SAFETY: the listener is open, and the event its own.
            unsafe {
                if (*ev).timer_set() == 0 {
                    ffi::ngx_add_timer(ev, LOOK_MS as ffi::ngx_msec_t);
                }
            }
        } else {
            socket.close();
        }
    });
}

/// nginx has accepted a connection (ls->handler).
unsafe extern "C" fn accepted(c: *mut ffi::ngx_connection_t) {
    let done = guarded("an accepted connection", false, || {
        // SAFETY: nginx passes a new connection; its listening socket is ours, whose Rc is held by
        // `accept_handler` at this moment.
        unsafe {
            let Some(socket) = borrow::<Socket>((*(*c).listening).servers) else { return false };
            socket.accepted.set(socket.accepted.get() + 1);
            // One at a time, whatever multi_accept says: `run` looks at the queue between two.
            if let Some(lc) = socket.lc.get().as_ref() {
                (*lc.read).available = 0;
            }
            // The connection outlives the listener: nothing of it may be kept.
            (*c).listening = ptr::null_mut();
            (*c).local_sockaddr = ptr::null_mut();
            (*c).local_socklen = 0;
            (*(*c).log).connection = (*c).number;
            (*c).set_log_error(ffi::ngx_connection_log_error_e_NGX_ERROR_INFO);
            port::no_delay((*c).fd);
            if !log::soften(c) {
                return false;
            }
            if !is_room() {
                log::info((*c).log, "connection refused: worker_connections are not enough");
                return false;
            }
            match &socket.tls {
                None => socket.deliver(Accepted::new(c)),
                Some(tls) => {
                    if !tls.attach(c) {
                        return false;
                    }
                    ffi::ngx_add_timer((*c).read, socket.handshake_ms as ffi::ngx_msec_t);
                    if socket.early {
                        let tls = tls.clone();
                        let admits = move |c| tls.admits(c);
                        socket.deliver(Accepted::shake_hands(c, Box::new(admits)));
                        return true;
                    }
                    (*c).data = Rc::into_raw(socket).cast_mut().cast::<c_void>();
                    if ffi::ngx_ssl_handshake(c) == ffi::NGX_AGAIN as isize {
                        (*(*c).ssl).handler = Some(handshaked);
                    } else {
                        handshaked(c);
                    }
                }
            }
        }
        true
    });
    if !done {
        // SAFETY: no room, no memory, or a panic of ours: the connection is nobody's yet.
        unsafe { goodbye::close(c) };
    }
}

/// The TLS handshake is over, well or not.
unsafe extern "C" fn handshaked(c: *mut ffi::ngx_connection_t) {
    guarded("tls handshake", (), || {
        // SAFETY: `accepted` left a count of the listener in the connection's data. The connection
        // is ours until it is delivered or closed.
        unsafe {
            let socket = Rc::from_raw((*c).data.cast::<Socket>());
            (*c).data = ptr::null_mut();
            if (*(*c).read).timer_set() != 0 {
                ffi::ngx_del_timer((*c).read);
            }
            let admitted = (*(*c).ssl).handshaked() != 0
                && socket.tls.as_ref().is_some_and(|tls| tls.admits(c));
            if admitted {
                socket.deliver(Accepted::new(c));
            } else {
                goodbye::close(c);
            }
        }
    });
}
