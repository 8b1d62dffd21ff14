//! A connection of nginx's that somebody else has made and will close, such as a request's to its
//! upstream: meanwhile its events are ours. Owned by whoever carries messages over it (`proxy`).

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::mem;
use std::ops::Deref;
use std::ptr;
use std::rc::Rc;

use super::counted::borrow;
use super::guard::guarded;
use super::lending;
use super::transport::Transport;
use super::wire::{Io, Wire};
use crate::ffi;

/// What the owner of a leg is told.
pub trait Leads: 'static {
    /// Its leg.
    fn leg(&self) -> &Leg;
    /// Bytes or an end of stream may be there.
    fn readable(&self);
    /// The kernel takes bytes again, or the posted flush is due.
    fn flush(&self);
    /// The time set with `Leg::set_timer` is over.
    fn timer(&self);
}

/// The connection, or nothing before `attach` and after `release`.
///
/// While it is attached nginx's events point to the owner without a count. That is sound because the
/// leg is a part of the owner, and its drop takes the pointers along. Whether the connection is still
/// there is looked at (`check`) before each use.
pub struct Leg {
    wire: Wire,
    /// The connection's descriptor and data, while it is ours.
    mark: Cell<(i32, *const c_void)>,
    /// Whose events these were, where they are only borrowed.
    lender: Cell<Option<Lender>>,
    events: UnsafeCell<Events>,
}

#[derive(Clone, Copy)]
struct Lender {
    data: *mut c_void,
    read: ffi::ngx_event_handler_pt,
    write: ffi::ngx_event_handler_pt,
}

struct Events {
    flush: ffi::ngx_event_t,
    timer: ffi::ngx_event_t,
    /// Their data: what nginx's debug log takes the descriptor of a timer from. Its own data is the
    /// owner.
    connection: ffi::ngx_connection_t,
}

/// Reading and writing: `Wire`'s, while it is attached.
impl Deref for Leg {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl Leg {
    /// A leg to nothing.
    pub fn new() -> Leg {
        // SAFETY: zeroed events and connections are nginx's own initial state (ngx_calloc).
        let mut events: Events = unsafe { mem::zeroed() };
        events.connection.fd = -1;
        let events = UnsafeCell::new(events);
        let (mark, lender) = (Cell::new((-1, ptr::null())), Cell::new(None));
        Leg { wire: Wire::new(ptr::null_mut()), mark, lender, events }
    }

    /// As `attach`, of a connection whose present owner gets its events again with `release`.
    ///
    /// # Safety
    /// As for `attach`; the present owner waits for nothing but bytes.
    pub(super) unsafe fn borrow<T: Leads>(owner: &Rc<T>, c: *mut ffi::ngx_connection_t) {
        // SAFETY: by contract.
        unsafe {
            let (read, write) = ((*(*c).read).handler, (*(*c).write).handler);
            owner.leg().lender.set(Some(Lender { data: (*c).data, read, write }));
            Leg::attach(owner, c);
        }
    }

    /// Has the events of `c` told to `owner`, whose leg this is.
    ///
    /// # Safety
    /// `c` must be an open connection whose events nobody else waits for. Whoever closes it before
    /// `release` does so where no call of this runs.
    pub(super) unsafe fn attach<T: Leads>(owner: &Rc<T>, c: *mut ffi::ngx_connection_t) {
        let leg = owner.leg();
        let data = Rc::as_ptr(owner).cast_mut().cast::<c_void>();
        // SAFETY: by contract; see the type's comment for the pointers.
        unsafe {
            for ev in [(*c).read, (*c).write] {
                if (*ev).timer_set() != 0 {
                    ffi::ngx_del_timer(ev);
                }
            }
            leg.wire.set(c);
            leg.wire.uncross();
            (*c).data = data;
            // As of a client: what a peer does is no error of ours.
            (*c).set_log_error(ffi::ngx_connection_log_error_e_NGX_ERROR_INFO);
            (*(*c).read).handler = Some(read_handler::<T>);
            (*(*c).write).handler = Some(write_handler::<T>);
            let events = &mut *leg.events.get();
            events.flush.handler = Some(flush_handler::<T>);
            events.timer.handler = Some(timer_handler::<T>);
            events.connection.data = data;
            for ev in [&mut events.flush, &mut events.timer] {
                ev.data = ptr::addr_of_mut!(events.connection).cast();
                ev.log = (*c).log;
            }
            ffi::ngx_handle_read_event((*c).read, 0);
            ffi::ngx_tcp_nodelay(c);
        }
        // SAFETY: by contract.
        leg.mark.set((unsafe { (*c).fd }, data));
    }

    /// Looks whether the connection is still open: its owner may have closed it, in whatever way the
    /// request ends. False, and it is let go of: it is not, or there is none.
    pub fn check(&self) -> bool {
        let c = self.get();
        // SAFETY: a slot of nginx's connections, which are there as long as the worker; of one that
        // was closed the descriptor is another, and so is the data of one that was opened since.
        let open = !c.is_null() && unsafe { ((*c).fd, (*c).data.cast_const()) == self.mark.get() };
        if !open {
            self.wire.set(ptr::null_mut());
            self.forget_events();
        }
        open
    }

    /// Takes our events out of nginx's queues.
    fn forget_events(&self) {
        // SAFETY: the events are ours.
        unsafe {
            let events = &mut *self.events.get();
            if events.flush.posted() != 0 {
                ffi::ngx_delete_posted_event(&mut events.flush);
            }
            if events.timer.timer_set() != 0 {
                ffi::ngx_del_timer(&mut events.timer);
            }
        }
    }

    /// Whether there is a connection.
    pub fn is_attached(&self) -> bool {
        !self.get().is_null()
    }

    /// Whether nginx gives the connection up (worker_shutdown_timeout).
    pub fn must_drop(&self) -> bool {
        let c = self.get();
        // SAFETY: not null means open.
        !c.is_null() && unsafe { (*c).close() != 0 && (*c).error() != 0 }
    }

    /// Whether it will be called so.
    pub fn has_posted_flush(&self) -> bool {
        // SAFETY: the event is ours.
        unsafe { (*self.events.get()).flush.posted() != 0 }
    }

    /// Lets go of the connection, which its owner may close from now on.
    pub fn release(&self) {
        if !self.check() {
            return;
        }
        self.forget_events();
        self.uncross();
        let c = self.wire.replace(ptr::null_mut());
        let empty: ffi::ngx_event_handler_pt = Some(ffi::ngx_http_empty_handler);
        // SAFETY: open, see `check`. Who has lent it is still there: it closes it.
        unsafe {
            let (read, write) = match self.lender.take() {
                Some(lender) => {
                    (*c).data = lender.data;
                    (lender.read, lender.write)
                }
                None => (empty, empty),
            };
            (*(*c).read).handler = read;
            (*(*c).write).handler = write;
        }
    }

    /// Lets go of a borrowed connection that is over, and tells its owner, who waits for bytes.
    pub fn give_back(&self) {
        if !self.check() {
            return;
        }
        let c = self.get();
        self.release();
        // SAFETY: open, see `check`; the owner's handler finds the end of the stream.
        unsafe {
            libc::shutdown((*c).fd, libc::SHUT_RDWR);
            (*(*c).read).set_ready(1);
            (*(*c).read).available = -1;
            ffi::ngx_post_event((*c).read, ptr::addr_of_mut!(ffi::ngx_posted_events));
        }
    }
}

/// A connection whose events are ours, until it is given back.
impl Transport for Leg {
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
        if self.is_attached() {
            // SAFETY: the event is ours, and unlinked by `release`.
            unsafe {
                let flush = ptr::addr_of_mut!((*self.events.get()).flush);
                ffi::ngx_post_event(flush, ptr::addr_of_mut!(ffi::ngx_posted_events));
            }
        }
    }
    fn set_timer(&self, ms: u64, must_run: bool) {
        if self.is_attached() {
            // SAFETY: the event is ours, and disarmed by `release`.
            unsafe {
                let timer = ptr::addr_of_mut!((*self.events.get()).timer);
                (*timer).set_cancelable(u32::from(!must_run));
                ffi::ngx_add_timer(timer, ms.min(i32::MAX as u64) as ffi::ngx_msec_t);
            }
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.release();
    }
}

/// Runs an event's body for the owner behind `data`. A panic, a bug of ours, ends the connection.
///
/// # Safety
/// `data` must be what `attach` has stored, of a leg that is attached.
unsafe fn told<T: Leads>(what: &str, data: *mut c_void, body: impl FnOnce(&T)) {
    lending::over();
    // SAFETY: by contract the owner is alive; the count keeps it so for the call.
    let Some(owner) = (unsafe { borrow::<T>(data) }) else { return };
    let done = guarded(what, false, || {
        body(&owner);
        true
    });
    if !done {
        owner.leg().hang_up();
    }
}

unsafe extern "C" fn read_handler<T: Leads>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with an event of the connection.
    unsafe {
        told::<T>("read handler", (*(*ev).data.cast::<ffi::ngx_connection_t>()).data, |owner| {
            owner.leg().begin_turn();
            owner.readable();
            if owner.leg().read_ready() {
                owner.leg().want_read();
            }
        });
    }
}

unsafe extern "C" fn write_handler<T: Leads>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: as above.
    unsafe {
        told::<T>("write handler", (*(*ev).data.cast::<ffi::ngx_connection_t>()).data, |owner| {
            owner.leg().begin_write();
            // With edges, it comes along with every read event.
            if !owner.leg().has_posted_flush() {
                owner.flush();
            }
        });
    }
}

unsafe extern "C" fn flush_handler<T: Leads>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: an event of ours, whose data leads to the owner.
    unsafe { told::<T>("flush", (*(*ev).data.cast::<ffi::ngx_connection_t>()).data, T::flush) };
}

unsafe extern "C" fn timer_handler<T: Leads>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: as above.
    unsafe { told::<T>("timer", (*(*ev).data.cast::<ffi::ngx_connection_t>()).data, T::timer) };
}
