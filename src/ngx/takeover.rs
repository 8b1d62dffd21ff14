//! Taking a request's connection over: our read and write handlers in place of nginx's, until the
//! request ends. nginx keeps its own bookkeeping (`c->data`, counts, finalisation), which is why
//! TLS, limits, logging and graceful shutdown work unchanged.
//!
//! How a request ends with output pending (nginx 1.22, ngx_http_request.c):
//! - its handler returns: ngx_http_finalize_request sees our bit in `c->buffered`, arms the send
//!   timer and leaves the rest to the write handler, ours, which finalises once all is sent
//!   (the bit is set, too, where a close frame is to answer the handler's return);
//! - it is terminated (ngx.exit(444), a Lua error): cleanups run first, and ours holds the request
//!   by `r->blocked`, where anything waits or the peer is to be told, until all is sent or the timer
//!   fires.

use std::ffi::c_void;
use std::rc::Rc;

use super::counted::borrow;
use super::guard::guarded;
use super::http_conf::core_location;
use super::lending;
use super::link::Link;
use super::pool;
use super::request::Request;
use super::wire::Io;
use crate::ffi;

/// How long a handler may go on after worker_shutdown_timeout has ended its connection.
const SHUTDOWN_GRACE_MS: u64 = 1000;

/// What a session offers to nginx's events.
pub trait Takeover: 'static {
    /// The session's link.
    fn link(&self) -> &Link;
    /// Bytes, an end of stream or nginx's notice to drop the connection may be there.
    fn readable(&self);
    /// The kernel takes bytes again, or the posted flush is due.
    fn flush(&self);
    /// The timer set with `Link::set_timer` is due.
    fn timer(&self);
    /// Whether the client's end is known, or somebody waits in the session who will learn of it.
    fn knows_end(&self) -> bool;
    /// Whether something that the client has sent waits to be read.
    fn has_unread(&self) -> bool;
    /// Whether output waits to be sent.
    fn pending(&self) -> bool;
    /// The handler has returned, or has failed: a conversation that goes on ends with that. Whether
    /// the peer is told.
    fn handler_ended(&self, failed: bool) -> bool;
    /// The output that waits will never be sent: forget it.
    fn discard(&self);
    /// Milliseconds that pending output may stay without progress after the handler ended.
    fn drain_timeout(&self) -> u64;
    /// The request has ended: wake whoever waits; the link is dead or draining.
    fn ended(&self);
    /// The request is about to be freed, and the session lives on: take what lies in the request's
    /// pool out of it (`Pooled::leave`).
    fn leave_request(&self);
    /// As that, after the end: nothing more comes or goes, but somebody still holds the session.
    fn outlive_end(&self);
    /// A turn is over, and nothing is borrowed: what wants the request freed may do so now.
    fn after_turn(self: &Rc<Self>);
}

/// Binds `session` to `r`, whose end it is told of from now on, before its connection is taken
/// over: somebody may have messages for it while the 101 response waits. False when memory is short
/// (nothing has been changed then).
pub fn bind<T: Takeover>(r: Request, session: Rc<T>) -> bool {
    let r = r.as_ptr();
    // SAFETY: r is alive (Request's contract). Cleanups are added before anything changes. The
    // pool cleanup owns one count of the Rc and gives it back when the pool is destroyed, which
    // is after every handler that could follow the pointer.
    unsafe {
        let pool_cleanup = ffi::ngx_pool_cleanup_add((*r).pool, 0);
        if pool_cleanup.is_null() {
            return false;
        }
        let cleanup = ffi::ngx_http_cleanup_add(r, 0);
        if cleanup.is_null() {
            return false;
        }
        let data = Rc::into_raw(session) as *mut c_void;
        (*pool_cleanup).data = data;
        (*pool_cleanup).handler = Some(pool_destroyed::<T>);
        (*cleanup).data = data;
        (*cleanup).handler = Some(request_ended::<T>);
        *(*r).ctx.add(ffi::ngx_http_lua_websocket_module.ctx_index) = data;
    }
    true
}

/// Takes the connection of `r` over for `session`, which is bound to it, once the 101 response has
/// left. Returns the bytes that came behind the request head.
pub fn take<T: Takeover>(r: Request, session: &Rc<T>) -> Vec<u8> {
    let r = r.as_ptr();
    // SAFETY: r is alive (Request's contract).
    unsafe {
        let head = (*r).header_in;
        let mut first = Vec::new();
        if !head.is_null() && (*head).pos < (*head).last {
            let len = (*head).last as usize - (*head).pos as usize;
            first.extend_from_slice(ffi::slice((*head).pos, len));
            (*head).pos = (*head).last;
        }

        let c = (*r).connection;
        for ev in [(*c).read, (*c).write] {
            if (*ev).timer_set() != 0 {
                ffi::ngx_del_timer(ev);
            }
            // limit_rate's mark for the 101 response. Left, it would keep nginx from setting the
            // send timer when the handler ends (ngx_http_set_write_handler).
            (*ev).set_delayed(0);
        }
        attach(r, session);
        ffi::ngx_handle_read_event((*c).read, 0);
        // As nginx does for the WebSockets it proxies: a message must not wait until the peer has
        // acknowledged the one before (RFC 896). It does nothing on a Unix socket.
        if (*core_location((*r).loc_conf)).tcp_nodelay != 0 {
            ffi::ngx_tcp_nodelay(c);
        }
        first
    }
}

/// Puts our handlers on the connection of `r`.
///
/// # Safety
/// `r` must be alive, and `session` bound to it: the events' data is the session of which `bind` gave
/// a count to the request's pool.
pub(super) unsafe fn attach<T: Takeover>(r: *mut ffi::ngx_http_request_t, session: &Rc<T>) {
    session.link().attach(
        r,
        Some(read_handler::<T>),
        Some(write_handler::<T>),
        Some(flush_handler::<T>),
        Some(timer_handler::<T>),
        Rc::as_ptr(session) as *mut c_void,
    );
}

/// The session of a request whose connection was taken over.
pub fn session_in<T: Takeover>(r: Request) -> Option<Rc<T>> {
    // SAFETY: r is alive; only `bind` sets our context, and the count it holds is given back when
    // the request's pool goes.
    unsafe {
        let r = (*r.as_ptr()).main;
        borrow::<T>(*(*r).ctx.add(ffi::ngx_http_lua_websocket_module.ctx_index))
    }
}

/// The session behind an event of a connection: from the request's context, or, where an internal
/// redirect has cleared the contexts, from the cleanup that owns it.
///
/// # Safety
/// `ev` must be the read or write event of a connection whose handlers are ours.
unsafe fn session_of<T: Takeover>(ev: *mut ffi::ngx_event_t) -> Option<Rc<T>> {
    // SAFETY: while our handlers are in place, c->data is the main request we took over.
    unsafe {
        let c = (*ev).data.cast::<ffi::ngx_connection_t>();
        let r = (*c).data.cast::<ffi::ngx_http_request_t>();
        let mut data = *(*r).ctx.add(ffi::ngx_http_lua_websocket_module.ctx_index);
        if data.is_null() {
            data = pool::data_of((*r).pool, pool_destroyed::<T>);
        }
        borrow::<T>(data)
    }
}

unsafe extern "C" fn read_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the event it was set on.
    let Some(session) = (unsafe { session_of::<T>(ev) }) else { return };
    lending::over();
    event("read handler", &*session, || {
        // SAFETY: the event is alive during its handler.
        let timedout = unsafe { (*ev).timedout() } != 0;
        let link = session.link();
        let untold = link.checks_abort() && !session.knows_end();
        link.begin_turn();
        session.readable();
        if link.read_ready() {
            link.want_read();
        }
        if !link.must_drop() {
            if untold && is_abort(&*session) {
                return abort(link);
            }
            return finish_if_drained(&*session, ffi::NGX_OK as _);
        }
        session.discard();
        if link.is_draining() {
            finish_if_drained(&*session, ffi::NGX_OK as _);
        } else if timedout {
            link.info("websocket handler did not end in time, worker is shutting down");
            end_request(&*session, ffi::NGX_ERROR as _);
        } else {
            // Whoever reads or writes has been told. A handler that waits for something else
            // would keep the worker alive, so it is given a moment and then ended.
            link.add_read_timer(SHUTDOWN_GRACE_MS);
        }
    });
}

/// Whether the client is gone, and nothing that it sent before waits to be read.
fn is_abort<T: Takeover>(session: &T) -> bool {
    let link = session.link();
    link.is_open() && !session.has_unread() && link.is_peer_gone()
}

/// The client is gone while the handler does something else: ngx_lua ends it or runs its
/// `ngx.on_abort` (ngx_http_lua_rd_check_broken_connection, which it leaves in the request while
/// `lua_check_client_abort` is on). The link may be dead afterwards.
fn abort(link: &Link) {
    let r = link.request();
    // SAFETY: the link is open, so r is alive; what follows is nginx's own request handler's way.
    unsafe {
        let c = (*r).connection;
        if let Some(check) = (*r).read_event_handler {
            check(r);
        }
        ffi::ngx_http_run_posted_requests(c);
    }
}

unsafe extern "C" fn write_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the event it was set on.
    let Some(session) = (unsafe { session_of::<T>(ev) }) else { return };
    event("write handler", &*session, || {
        // SAFETY: the event is alive during its handler.
        let timedout = unsafe { (*ev).timedout() } != 0;
        if timedout && session.link().is_draining() {
            session.link().info("client timed out while output was pending");
            session.discard();
            return finish_if_drained(&*session, ffi::NGX_HTTP_REQUEST_TIME_OUT as _);
        }
        if timedout {
            // A timer of ngx_lua's (ngx_http_lua_flush_pending_output), which takes our pending
            // output for its own. Left, the mark would stand in the way of every later event.
            // SAFETY: as above.
            unsafe { (*ev).set_timedout(0) };
        }
        session.link().begin_write();
        if !session.link().has_posted_flush() {
            flush(&session);
        }
    });
}

unsafe extern "C" fn flush_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: the event's data is the Rc that `bind` stored; `Link::release` unlinks the event
    // before the pool gives that count back.
    let Some(session) = (unsafe { borrow::<T>((*ev).data) }) else { return };
    event("flush", &*session, || flush(&session));
}

/// Runs an event's body; a panic (a bug of ours) ends this one request.
pub(super) fn event<T: Takeover>(what: &str, session: &T, body: impl FnOnce()) {
    let done = guarded(what, false, || {
        body();
        true
    });
    if !done {
        guarded("end of a request", (), || {
            session.discard();
            session.link().rejoin();
            if !session.link().request().is_null() {
                end_request(session, ffi::NGX_ERROR as _);
            }
        });
    }
}

unsafe extern "C" fn timer_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: as for the flush event; `Link::release` disarms the timer.
    let Some(session) = (unsafe { borrow::<T>((*ev).data) }) else { return };
    event("timer", &*session, || session.timer());
}

fn flush<T: Takeover>(session: &Rc<T>) {
    session.link().note_return();
    if session.link().has_returned() {
        session.handler_ended(false);
    }
    let untold = session.link().checks_abort() && !session.knows_end();
    session.flush();
    // Reading may be put off to a flush.
    if untold && session.knows_end() && is_abort(&**session) {
        return abort(session.link());
    }
    if session.link().is_draining() {
        if session.pending() {
            session.link().extend_send_timer(session.drain_timeout());
        } else {
            end_request(&**session, ffi::NGX_OK as _);
        }
    }
    session.after_turn();
}

/// Ends a request whose handler has ended and whose output is all sent (or given up).
fn finish_if_drained<T: Takeover>(session: &T, rc: ffi::ngx_int_t) {
    if session.link().is_draining() && !session.pending() {
        end_request(session, rc);
    }
}

/// Ends the request of a session whose link is alive.
fn end_request<T: Takeover>(session: &T, rc: ffi::ngx_int_t) {
    let link = session.link();
    let r = link.request();
    // SAFETY: r is alive (the caller has looked). What follows is ngx_http_writer's own ending;
    // afterwards r may be gone, c is nginx's to reuse but stays readable, as nginx itself relies on.
    unsafe {
        let c = (*r).connection;
        if link.take_hold() {
            let main = (*r).main;
            ffi::HTTP_REQUEST_BLOCKED.set(main, ffi::HTTP_REQUEST_BLOCKED.get(main) - 1);
            // What the peer still sends must not take our last bytes from it (RFC 6455 7.1.1): nginx is
            // to end this request as any other, and lingers, where it would close at once. As
            // ngx_http_terminate_handler, we know of nobody else who holds it.
            if rc == ffi::NGX_OK as ffi::ngx_int_t && !link.is_cut() {
                (*c).set_error(0);
                ffi::HTTP_REQUEST_COUNT.set(main, 1);
            }
        }
        (*r).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
        ffi::ngx_http_finalize_request(r, rc);
        ffi::ngx_http_run_posted_requests(c);
    }
}

/// Request cleanup: runs when nginx terminates the request (its count still held) or frees it.
unsafe extern "C" fn request_ended<T: Takeover>(data: *mut c_void) {
    guarded("request cleanup", (), || {
        // SAFETY: the pool cleanup still holds its count, see `bind`.
        let Some(session) = (unsafe { borrow::<T>(data) }) else { return };
        let link = session.link();
        if link.is_parted() {
            return;
        }
        let r = link.request();
        // SAFETY: we are called for this request, so it is alive; null where it ends before its
        // connection was taken over.
        let terminated = !r.is_null() && unsafe { ffi::HTTP_REQUEST_COUNT.get(r) } > 0;
        // Neither who left by ngx.exit(444) nor a peer that has gone is told anything.
        let told = terminated
            && link.is_open()
            && !link.is_broken()
            && !link.is_cut()
            && session.handler_ended(true);
        if terminated && !link.is_broken() && (told || session.pending()) {
            link.hold(session.drain_timeout());
            session.ended();
        } else {
            session.discard();
            link.release();
            session.ended();
        }
    });
}

/// Pool cleanup: the very last thing, after ngx_lua's own cleanups let go of the semaphores.
unsafe extern "C" fn pool_destroyed<T: Takeover>(data: *mut c_void) {
    guarded("pool cleanup", (), || {
        // SAFETY: gives back the count that `bind` left here; nginx runs a cleanup once.
        let session = unsafe { Rc::from_raw(data as *const T) };
        if session.link().is_parted() {
            return;
        }
        // After a drain that `r->blocked` held, the request cleanup has run long ago.
        session.link().release();
        if Rc::strong_count(&session) > 1 {
            session.leave_request();
            session.outlive_end();
        }
    });
}
