//! A connection that a listener of ours accepted: its events and its addresses (its end is
//! `goodbye`'s). Owned by
//! whoever took it from the listener (a stream of the session layer), which hears of events through
//! `Events`. nginx's HTTP knows nothing of these connections.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::mem;
use std::net::SocketAddr;
use std::ops::Deref;
use std::ptr;
use std::rc::Rc;

use super::counted::borrow;
use super::goodbye;
use super::guard::guarded;
use super::sockaddr::{address, local_address};
use super::transport::Transport;
use super::wire::{idle_handler, Io, Wire};
use crate::ffi;

thread_local! {
    /// How many connections have no request context yet, which takes one of nginx's connections more.
    static PROMISED: Cell<usize> = const { Cell::new(0) };
}

/// Whether nginx has a connection left for the request context of one that has just been accepted.
pub(super) fn is_room() -> bool {
    // SAFETY: `ngx_cycle` lives as long as the process.
    unsafe { (*ffi::ngx_cycle).free_connection_n > PROMISED.get() }
}

/// What the owner of a connection is told.
pub trait Events: 'static {
    /// The owner's connection.
    fn socket(&self) -> &Accepted;
    /// Bytes or an end of stream may be there.
    fn readable(&self);
    /// The kernel takes bytes again, or the posted flush is due.
    fn flush(&self);
    /// The time set with `Accepted::set_timer` is over.
    fn timer(&self);
    /// nginx gives the connection up (worker_shutdown_timeout).
    fn dropped(&self);
}

/// Whether the peer of a finished TLS handshake may go on.
pub(super) type Admits = Box<dyn FnOnce(*mut ffi::ngx_connection_t) -> bool>;

/// One accepted connection.
///
/// Owned by one stream; dropping it closes the connection at once. While `attach`ed, nginx's
/// events point to the owner without a count: that is sound because the owner's end closes the
/// connection, and with it its events. A worker that exits closes what is left (`goodbye::close_all`);
/// the owners find their connections gone then.
pub struct Accepted {
    wire: Wire,
    /// The connection while its TLS handshake goes on, which nginx does; `wire` has none meanwhile.
    shaking: Cell<*mut ffi::ngx_connection_t>,
    admits: RefCell<Option<Admits>>,
    flush: UnsafeCell<ffi::ngx_event_t>,
    peer: Option<SocketAddr>,
    fd: i32,
    number: u64,
    promised: Cell<bool>,
}

/// Reading and writing: `Wire`'s, until the connection is closed.
impl Deref for Accepted {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl Accepted {
    /// Takes a connection over from its listener.
    ///
    /// # Safety
    /// `c` must be an accepted connection of this worker that nobody else owns.
    pub(super) unsafe fn new(c: *mut ffi::ngx_connection_t) -> Accepted {
        goodbye::begin(c);
        PROMISED.set(PROMISED.get() + 1);
        // SAFETY: by contract; until `attach` events only mark the connection as ready.
        unsafe {
            (*c).data = ptr::null_mut();
            (*(*c).read).handler = Some(idle_handler);
            (*(*c).write).handler = Some(idle_handler);
            ffi::ngx_handle_read_event((*c).read, 0);
            Accepted {
                wire: Wire::new(c),
                shaking: Cell::new(ptr::null_mut()),
                admits: RefCell::new(None),
                flush: UnsafeCell::new(mem::zeroed()),
                peer: address((*c).sockaddr.cast()),
                fd: (*c).fd,
                number: (*c).number,
                promised: Cell::new(true),
            }
        }
    }

    /// Takes a connection over whose TLS handshake has yet to be done, and begins it. Nothing is read
    /// or sent before its end; one that fails, or is not over when the connection's read timer is,
    /// ends the connection.
    ///
    /// # Safety
    /// As for `new`; TLS must be attached to `c`.
    pub(super) unsafe fn shake_hands(c: *mut ffi::ngx_connection_t, admits: Admits) -> Accepted {
        // SAFETY: by contract. The handler tells that the handshake goes on.
        unsafe {
            let accepted = Accepted::new(c);
            accepted.shaking.set(accepted.wire.replace(ptr::null_mut()));
            accepted.admits.replace(Some(admits));
            if ffi::ngx_ssl_handshake(c) == ffi::NGX_AGAIN as isize {
                (*(*c).ssl).handler = Some(shaken_alone);
            }
            accepted
        }
    }

    /// Whether the TLS handshake goes on.
    pub fn is_shaking(&self) -> bool {
        !self.shaking.get().is_null()
    }

    /// Has nginx's events told to `owner`, whose `socket()` this is.
    pub fn attach<T: Events>(owner: &Rc<T>) {
        let this = owner.socket();
        let c = this.connection();
        if c.is_null() {
            return;
        }
        // SAFETY: c is alive; the pointer stays valid as long as c does, see the type's comment.
        unsafe {
            let data = Rc::as_ptr(owner).cast_mut().cast::<c_void>();
            (*c).data = data;
            if !this.is_shaking() {
                (*(*c).read).handler = Some(read_handler::<T>);
                (*(*c).write).handler = Some(write_handler::<T>);
            }
            let flush = this.flush.get();
            (*flush).handler = Some(flush_handler::<T>);
            (*flush).data = data;
            (*flush).log = (*c).log;
            if this.is_shaking() {
                let ssl = (*c).ssl;
                if (*ssl).handler.is_some() {
                    (*ssl).handler = Some(shaken::<T>);
                } else {
                    shaken::<T>(c);
                }
            }
        }
    }

    /// nginx's connection, whether it can be used already or not; null once it is closed.
    fn connection(&self) -> *mut ffi::ngx_connection_t {
        let c = self.get();
        if c.is_null() {
            self.shaking.get()
        } else {
            c
        }
    }

    /// Its request context is there (or it needs none any more).
    pub fn keep_promise(&self) {
        if self.promised.replace(false) {
            PROMISED.set(PROMISED.get() - 1);
        }
    }

    /// Whether the connection has not been closed.
    pub fn is_open(&self) -> bool {
        !self.connection().is_null()
    }

    /// The descriptor; of a closed connection, the one it had.
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// The connection's number in nginx's log.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the other end is.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address it connected to.
    pub fn name(&self) -> Option<SocketAddr> {
        self.is_open().then(|| local_address(self.fd)).flatten()
    }

    /// Whether the stream is encrypted.
    pub fn is_tls(&self) -> bool {
        let c = self.connection();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { !(*c).ssl.is_null() }
    }

    /// Closes the connection without waiting for anything: the peer may see a reset.
    pub fn close(&self) {
        let c = self.let_go();
        if !c.is_null() {
            // SAFETY: alive until now, and nobody else's.
            unsafe { goodbye::close(c) };
        }
    }

    /// Closes the connection so that the peer reads what was sent to its end: our side is ended,
    /// what still comes is thrown away for a moment. Everything must have been sent.
    pub fn close_gently(&self) {
        let c = self.let_go();
        if !c.is_null() {
            // SAFETY: alive until now, and nobody else's; it belongs to its events from here on.
            unsafe { goodbye::end_output(c) };
        }
    }

    /// Takes the connection out of our hands; null if it was gone.
    fn let_go(&self) -> *mut ffi::ngx_connection_t {
        self.keep_promise();
        let c = self.connection();
        self.wire.set(ptr::null_mut());
        self.shaking.set(ptr::null_mut());
        // SAFETY: the event is ours.
        unsafe {
            if (*self.flush.get()).posted() != 0 {
                ffi::ngx_delete_posted_event(self.flush.get());
            }
        }
        if c.is_null() || !goodbye::is_live(c) {
            return ptr::null_mut();
        }
        // SAFETY: c is alive, as `goodbye` says.
        unsafe {
            (*c).data = ptr::null_mut();
            if (*(*c).write).timer_set() != 0 {
                ffi::ngx_del_timer((*c).write);
            }
        }
        c
    }
}

/// An accepted connection, until it is closed. Its timer bounds how long output may stay.
impl Transport for Accepted {
    type Io = Wire;
    #[inline]
    fn io(&self) -> &Wire {
        self
    }
    #[inline]
    fn wire(&self) -> Option<&Wire> {
        Some(self)
    }
    fn post_flush(&self) {
        if self.is_open() {
            // SAFETY: the event lives in this object and is unlinked when it closes.
            unsafe {
                ffi::ngx_post_event(self.flush.get(), ptr::addr_of_mut!(ffi::ngx_posted_events))
            };
        }
    }
    fn set_timer(&self, ms: u64, _must_run: bool) {
        let c = self.get();
        if !c.is_null() {
            // SAFETY: c is alive; the timer goes with it.
            unsafe { ffi::ngx_add_timer((*c).write, ms as ffi::ngx_msec_t) };
        }
    }
    fn cut(&self) {
        self.close();
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.close();
    }
}

/// The owner behind an event, if it still has the connection.
///
/// # Safety
/// `ev` must be an event of a connection whose handlers were set by `attach::<T>`.
unsafe fn owner<T: Events>(ev: *mut ffi::ngx_event_t) -> Option<Rc<T>> {
    // SAFETY: the pointer is the owner's Rc, alive while its connection is; a count is added.
    unsafe {
        let c = (*ev).data.cast::<ffi::ngx_connection_t>();
        borrow::<T>((*c).data)
    }
}

unsafe extern "C" fn read_handler<T: Events>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the event it was set on.
    let Some(owner) = (unsafe { owner::<T>(ev) }) else { return };
    event("read handler", &*owner, || {
        let c = owner.socket().get();
        // SAFETY: an event of c came, so it is alive.
        if unsafe { (*c).close() != 0 && (*c).error() != 0 } {
            return owner.dropped();
        }
        owner.socket().begin_turn();
        owner.readable();
        if owner.socket().read_ready() {
            owner.socket().want_read();
        }
    });
}

unsafe extern "C" fn write_handler<T: Events>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: as above.
    let Some(owner) = (unsafe { owner::<T>(ev) }) else { return };
    event("write handler", &*owner, || {
        // SAFETY: the event is alive during its handler.
        if unsafe { (*ev).timedout() } != 0 {
            // SAFETY: as above.
            unsafe { (*ev).set_timedout(0) };
            return owner.timer();
        }
        owner.socket().begin_write();
        owner.flush();
    });
}

unsafe extern "C" fn flush_handler<T: Events>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: the event lives in the owner and is unlinked when the connection closes.
    let Some(owner) = (unsafe { borrow::<T>((*ev).data) }) else { return };
    event("flush", &*owner, || owner.flush());
}

/// A TLS handshake is over, well or not, and nobody has attached yet: `attach` will see.
unsafe extern "C" fn shaken_alone(c: *mut ffi::ngx_connection_t) {
    // SAFETY: nginx calls this with the connection of the handshake.
    unsafe {
        (*(*c).ssl).handler = None;
        // The handshake's: what it left would cut the lingering of the end short.
        if (*(*c).read).timer_set() != 0 {
            ffi::ngx_del_timer((*c).read);
        }
        (*(*c).read).handler = Some(idle_handler);
        (*(*c).write).handler = Some(idle_handler);
    }
}

/// A TLS handshake is over, well or not.
unsafe extern "C" fn shaken<T: Events>(c: *mut ffi::ngx_connection_t) {
    // SAFETY: nginx, or `attach`, calls this with a connection whose data is its owner.
    let Some(owner) = (unsafe { borrow::<T>((*c).data) }) else { return };
    event("tls handshake", &*owner, || {
        let this = owner.socket();
        let admits = this.admits.take();
        // SAFETY: c is alive, and ours until it is closed below.
        unsafe {
            if (*(*c).read).timer_set() != 0 {
                ffi::ngx_del_timer((*c).read);
            }
            if (*(*c).ssl).handshaked() == 0 || !admits.is_some_and(|admits| admits(c)) {
                owner.dropped();
                return this.close();
            }
            this.shaking.set(ptr::null_mut());
            this.wire.set(c);
            (*(*c).read).handler = Some(read_handler::<T>);
            (*(*c).write).handler = Some(write_handler::<T>);
            ffi::ngx_handle_read_event((*c).read, 0);
        }
        owner.readable();
        owner.flush();
    });
}

/// Runs an event's body; a panic (a bug of ours) ends this one connection.
fn event<T: Events>(what: &str, owner: &T, body: impl FnOnce()) {
    let done = guarded(what, false, || {
        body();
        true
    });
    if !done {
        guarded("end of a connection", (), || owner.socket().close());
    }
}
