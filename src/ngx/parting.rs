//! A connection that goes on without its request. Once the 101 has left and no handler runs, nginx's
//! request (4 KiB and its buffers) is of no use until the end, so it is freed, and what the end needs of
//! it (times, sizes, what the access log's line is made of) is kept. For the end the connection gets a
//! request once more: output that waits, lingering, the log and the counts are then nginx's as ever.
//!
//! What would miss its request keeps it: a log that is not known (`access_log`), `limit_conn`, whose
//! count lies in the request's pool, `post_action`, and whatever still counts on it or has output there.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;

use super::access_log::{self, Saved};
use super::counted::borrow;
use super::http_conf::core_location;
use super::lending;
use super::link::Parted;
use super::request::Request;
use super::stub_status;
use super::takeover::{self, Takeover};
use super::transport::Transport;
use super::wire::Io;
use crate::ffi;

/// What the end of a connection needs of a request that was freed, whose session is a `T`. The pointers
/// lead into the configuration and into the connection's own memory, which outlive it.
struct Kept<T> {
    hc: *mut ffi::ngx_http_connection_t,
    srv_conf: *mut *mut c_void,
    loc_conf: *mut *mut c_void,
    start: (ffi::time_t, ffi::ngx_msec_t),
    request_length: ffi::off_t,
    header_size: usize,
    http_version: ffi::ngx_uint_t,
    pipelined: bool,
    saved: Saved,
    session: PhantomData<fn() -> T>,
}

/// Frees the request of a session that wants that, if nothing needs it. Called from the connection's
/// events, with nothing of the session borrowed.
pub fn part<T: Takeover>(session: &Rc<T>) {
    let link = session.link();
    if !link.may_part() {
        return;
    }
    let r = link.request();
    // SAFETY: `may_part` means that the request is alive, and so is what it points to. Nobody else has
    // it after `is_alone`. The session's count for the connection is given back by `rejoin`.
    unsafe {
        if !is_alone(r) || link.has_others_output() {
            return;
        }
        let saved = match needed(r) {
            Some(reason) => Err(reason.into()),
            None => access_log::save(r),
        };
        let saved = match saved {
            Ok(saved) => saved,
            Err(reason) => {
                access_log::tell_once(r, &reason);
                return link.never_part();
            }
        };
        let c = (*r).connection;
        let mut kept = Kept::<T> {
            hc: (*r).http_connection,
            srv_conf: (*r).srv_conf,
            loc_conf: (*r).loc_conf,
            start: ((*r).start_sec, (*r).start_msec),
            request_length: (*r).request_length,
            header_size: (*r).header_size,
            http_version: (*r).http_version,
            pipelined: ffi::HTTP_REQUEST_PIPELINE.get(r) != 0,
            saved,
            session: PhantomData,
        };
        session.leave_request();
        let due = link.part(Some(read_handler::<T>), Some(write_handler::<T>));
        free_request(r);
        // Not before: a cleanup of ngx_lua's sockets disarms what it believes to be its own.
        if let Some((ms, must_run)) = due {
            link.set_timer(ms, must_run);
        }
        (*c).data = Rc::into_raw(session.clone()) as *mut c_void;
        free_buffers(c, kept.hc);
        if let Some(hc) = small_pool(c, kept.hc) {
            kept.hc = hc;
        }
        link.keep(Box::new(kept));
        (*(*c).log).action = c"serving a websocket".as_ptr().cast_mut();
        link.shrink();
        if link.read_ready() {
            link.post_flush();
        }
        link.want_read();
    }
}

/// Whether nothing works on the request any more.
///
/// # Safety
/// `r` must be alive.
unsafe fn is_alone(r: *mut ffi::ngx_http_request_t) -> bool {
    // SAFETY: by contract.
    unsafe {
        ptr::eq((*r).main, r)
            && ffi::HTTP_REQUEST_COUNT.get(r) == 1
            && ffi::HTTP_REQUEST_BLOCKED.get(r) == 0
            && ffi::HTTP_REQUEST_READING_BODY.get(r) == 0
            && ffi::HTTP_REQUEST_DISCARD_BODY.get(r) == 0
            && ffi::HTTP_REQUEST_BUFFERED.get(r) == 0
            && (*r).postponed.is_null()
            && (*r).posted_requests.is_null()
            && (*r).out.is_null()
            && (*r).upstream.is_null()
    }
}

/// Why the request has to stay as long as its connection, whatever the log is.
///
/// # Safety
/// `r` must be alive.
unsafe fn needed(r: *mut ffi::ngx_http_request_t) -> Option<&'static str> {
    // SAFETY: by contract, and with it its configuration.
    unsafe {
        if ffi::HTTP_REQUEST_LIMIT_CONN_STATUS.get(r) != 0 {
            Some("limit_conn counts them")
        } else if (*core_location((*r).loc_conf)).post_action.len != 0 {
            Some("post_action follows them")
        } else {
            None
        }
    }
}

/// Frees the request and nothing of its connection. Its end is not logged, and what the realip module
/// made of the client's address outlives it.
///
/// # Safety
/// `r` must be alive, nobody else's, and let go of by its link.
unsafe fn free_request(r: *mut ffi::ngx_http_request_t) {
    // SAFETY: by contract. The address is copied before it may go with the request, into the
    // connection's pool where it did: the realip module gives back the one of before.
    unsafe {
        let c = (*r).connection;
        let seen = (*c).addr_text;
        let text = ffi::slice(seen.data, seen.len).to_vec();
        ffi::HTTP_REQUEST_LOGGED.set(r, 1);
        ffi::ngx_http_free_request(r, 0);
        (*c).set_destroyed(0);
        if !ptr::eq((*c).addr_text.data, seen.data) {
            let copy = ffi::ngx_pnalloc((*c).pool, text.len().max(1)).cast::<u8>();
            if !copy.is_null() {
                ptr::copy_nonoverlapping(text.as_ptr(), copy, text.len());
                (*c).addr_text = ffi::ngx_str_t { len: text.len(), data: copy };
            }
        }
    }
}

/// Frees the buffers that the request head was read into, as ngx_http_set_keepalive does.
///
/// # Safety
/// `c` must be alive, `hc` its own, and nobody may use these buffers.
unsafe fn free_buffers(c: *mut ffi::ngx_connection_t, hc: *mut ffi::ngx_http_connection_t) {
    // SAFETY: by contract; they are of the connection's pool. The links of the lists stay there, to be
    // used by nobody.
    unsafe {
        for list in [(*hc).free, (*hc).busy] {
            let mut next = list;
            while !next.is_null() {
                ffi::ngx_pfree((*c).pool, (*(*next).buf).start.cast());
                next = (*next).next;
            }
        }
        (*hc).free = ptr::null_mut();
        (*hc).busy = ptr::null_mut();
        (*hc).nbusy = 0;
        let head = (*c).buffer;
        if head.is_null() {
            return;
        }
        if ffi::ngx_pfree((*c).pool, (*head).start.cast()) == ffi::NGX_OK as isize {
            (*head).start = ptr::null_mut();
            (*head).end = ptr::null_mut();
        }
        (*head).pos = (*head).start;
        (*head).last = (*head).start;
    }
}

/// Moves what a plain connection has in its pool of `connection_pool_size` to one that is as large as
/// that. Returns where its HTTP part lies then; None, and all stays as it is, where there is more in the
/// pool than is known, or no memory.
///
/// # Safety
/// `c` must be alive, without a request and without buffers, and `hc` its own.
unsafe fn small_pool(
    c: *mut ffi::ngx_connection_t,
    hc: *mut ffi::ngx_http_connection_t,
) -> Option<*mut ffi::ngx_http_connection_t> {
    // SAFETY: by contract. Of what lies in the old pool nothing is pointed to afterwards: log, its data,
    // the client's address and the HTTP part are copied (ngx_event_accept, ngx_http_init_connection);
    // our own address is asked for anew where somebody wants it (ngx_connection_local_sockaddr).
    unsafe {
        let (old, log) = ((*c).pool, (*c).log);
        let context = (*log).data.cast::<ffi::ngx_http_log_ctx_t>();
        let more =
            !(*c).ssl.is_null() || !(*c).proxy_protocol.is_null() || !(*old).cleanup.is_null();
        if more || context.is_null() || !ptr::eq((*context).connection, c) {
            return None;
        }
        let (address, text) = ((*c).socklen as usize, (*c).addr_text);
        let size = size_of::<ffi::ngx_pool_t>()
            + size_of::<ffi::ngx_log_t>()
            + size_of::<ffi::ngx_http_log_ctx_t>()
            + size_of::<ffi::ngx_http_connection_t>()
            + address.next_multiple_of(ffi::NGX_ALIGNMENT)
            + text.len.next_multiple_of(ffi::NGX_ALIGNMENT);
        let pool = ffi::ngx_create_pool(size, log);
        if pool.is_null() {
            return None;
        }
        let copies = copy(pool, log, 1)
            .zip(copy(pool, context, 1))
            .zip(copy(pool, hc, 1))
            .zip(copy(pool, (*c).sockaddr.cast::<u8>(), address))
            .zip(copy(pool, text.data, text.len));
        let Some(((((log, context), hc), address), text)) = copies else {
            ffi::ngx_destroy_pool(pool);
            return None;
        };
        (*log).data = context.cast();
        (*pool).log = log;
        (*c).log = log;
        (*(*c).read).log = log;
        (*(*c).write).log = log;
        (*c).sockaddr = address.cast();
        (*c).addr_text.data = text;
        (*c).local_sockaddr = (*(*c).listening).sockaddr;
        (*c).local_socklen = (*(*c).listening).socklen;
        (*c).buffer = ptr::null_mut();
        (*c).pool = pool;
        ffi::ngx_destroy_pool(old);
        Some(hc)
    }
}

/// A copy of `count` of `T` in a pool, where it has room for them. None: no memory.
///
/// # Safety
/// `from` must point to as many, and `pool` be alive.
unsafe fn copy<T>(pool: *mut ffi::ngx_pool_t, from: *const T, count: usize) -> Option<*mut T> {
    // SAFETY: by contract; the memory is aligned as any of C's structs.
    unsafe {
        let to = ffi::ngx_palloc(pool, (count * size_of::<T>()).max(1)).cast::<T>();
        if !to.is_null() {
            ptr::copy_nonoverlapping(from, to, count);
        }
        (!to.is_null()).then_some(to)
    }
}

impl<T: Takeover> Parted for Kept<T> {
    /// Without memory the connection is closed instead.
    unsafe fn rejoin(&self, c: *mut ffi::ngx_connection_t) {
        // SAFETY: `part` has left a count of the session there.
        let session = unsafe { Rc::from_raw((*c).data as *const T) };
        session.link().unpart();
        // SAFETY: by contract the connection is alive. nginx makes a request of what lies in its data.
        unsafe {
            (*c).data = self.hc.cast();
            if (*c).buffer.is_null() {
                (*c).buffer = ffi::ngx_pcalloc((*c).pool, size_of::<ffi::ngx_buf_t>()).cast();
            }
            let log = ptr::read((*c).log);
            let r = match (*c).buffer.is_null() {
                true => ptr::null_mut(),
                false => ffi::ngx_http_create_request(c),
            };
            // nginx has taken the default server's.
            ptr::write((*c).log, log);
            let bound = !r.is_null() && {
                (*c).data = r.cast();
                restore(r, self);
                Request::from_ptr(r).is_some_and(|r| takeover::bind(r, session.clone()))
            };
            if bound {
                return takeover::attach(r, &session);
            }
            if !r.is_null() {
                ffi::HTTP_REQUEST_LOGGED.set(r, 1);
                ffi::ngx_http_free_request(r, 0);
            }
            ffi::ngx_http_close_connection(c);
        }
        session.discard();
        session.ended();
    }
}

/// Makes a new request look like the one that was freed, to those who see it end.
///
/// # Safety
/// `r` must be a new request of the connection that `kept` is of.
unsafe fn restore<T>(r: *mut ffi::ngx_http_request_t, kept: &Kept<T>) {
    // SAFETY: by contract; the configuration is the worker's own, and lives as long.
    unsafe {
        // No new request, for those who count.
        (*(*r).connection).requests -= 1;
        stub_status::REQUESTS.take_one();
        (*r).srv_conf = kept.srv_conf;
        (*r).loc_conf = kept.loc_conf;
        ((*r).start_sec, (*r).start_msec) = kept.start;
        (*r).request_length = kept.request_length;
        (*r).header_size = kept.header_size;
        (*r).http_version = kept.http_version;
        (*r).headers_out.status = 101;
        (*r).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
        let state = ffi::ngx_http_state_e_NGX_HTTP_PROCESS_REQUEST_STATE;
        ffi::HTTP_REQUEST_HTTP_STATE.set(r, state as ffi::ngx_uint_t as _);
        ffi::HTTP_REQUEST_HEADER_SENT.set(r, 1);
        ffi::HTTP_REQUEST_PIPELINE.set(r, u32::from(kept.pipelined));
        if !kept.saved.give_back(r) {
            ffi::HTTP_REQUEST_LOGGED.set(r, 1);
        }
    }
}

/// The session of a parted connection.
///
/// # Safety
/// `ev` must be an event of a connection that was parted with a `T`.
unsafe fn session_of<T: Takeover>(ev: *mut ffi::ngx_event_t) -> Option<Rc<T>> {
    // SAFETY: by contract the count that `part` has left is there.
    unsafe { borrow((*(*ev).data.cast::<ffi::ngx_connection_t>()).data) }
}

unsafe extern "C" fn read_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the event that `part` set it on.
    let Some(session) = (unsafe { session_of::<T>(ev) }) else { return };
    lending::over();
    takeover::event("read handler", &*session, || {
        // SAFETY: the event is one of nginx's connections', which are there as long as the worker.
        if unsafe { (*ev).timedout() } != 0 {
            // SAFETY: as above.
            unsafe { (*ev).set_timedout(0) };
            return session.timer();
        }
        let link = session.link();
        link.begin_turn();
        session.readable();
        if link.is_parted() && link.read_ready() {
            link.want_read();
        }
    });
}

unsafe extern "C" fn write_handler<T: Takeover>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: as above.
    let Some(session) = (unsafe { session_of::<T>(ev) }) else { return };
    takeover::event("flush", &*session, || {
        session.link().begin_write();
        // It is posted as this very event, which is not marked so any more when its turn has come.
        if !session.link().has_posted_flush() {
            session.flush();
        }
    });
}
