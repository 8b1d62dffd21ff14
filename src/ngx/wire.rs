//! Bytes in and out of one of nginx's connections, plain or TLS, and the arming of its events. Whoever
//! has the connection (`link`, `accepted`, `leg`, `client`, `cosocket`) owns a `Wire` and says when it is gone.

use std::cell::Cell;
use std::mem;
use std::ptr;

use bytes::{buf::UninitSlice, BufMut};
pub use ws_conn::{Io, Recv, Sent, MAX_PARTS};

use super::{log, tls_read};
use crate::ffi;

/// nginx's connection, or nothing: then every call is a no-op or an error. Owns no memory; whoever
/// frees the connection clears this first.
pub struct Wire {
    c: Cell<*mut ffi::ngx_connection_t>,
    /// How many reads brought something since the last event.
    reads: Cell<u32>,
    /// The write event is asleep, see `sleep`.
    asleep: Cell<bool>,
    /// TLS cannot read before it has written, or write before it has read, see `uncross`.
    read_waits: Cell<bool>,
    write_waits: Cell<bool>,
}

/// After so many reads others have their turn: a peer that sends faster than we read would keep the
/// worker to itself, in whatever loop it is read.
const READS: u32 = 16;

impl Wire {
    pub(super) fn new(c: *mut ffi::ngx_connection_t) -> Wire {
        Wire {
            c: Cell::new(c),
            reads: Cell::new(0),
            asleep: Cell::new(false),
            read_waits: Cell::new(false),
            write_waits: Cell::new(false),
        }
    }

    pub(super) fn get(&self) -> *mut ffi::ngx_connection_t {
        self.c.get()
    }

    pub(super) fn set(&self, c: *mut ffi::ngx_connection_t) {
        self.c.set(c);
    }

    pub(super) fn replace(&self, c: *mut ffi::ngx_connection_t) -> *mut ffi::ngx_connection_t {
        self.c.replace(c)
    }

    fn is_ready(&self) -> bool {
        let c = self.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*(*c).read).ready() != 0 }
    }

    /// An event has come: reading may go on. To be called by the handler of the read event.
    pub(super) fn begin_turn(&self) {
        self.reads.set(0);
        if self.write_waits.get() {
            self.write_waits.set(false);
            self.post(|c| c.write);
        }
    }

    /// To be called by the handler of the write event.
    pub(super) fn begin_write(&self) {
        if self.read_waits.get() && self.is_writable() {
            self.read_waits.set(false);
            self.post(|c| c.read);
        }
    }

    fn is_writable(&self) -> bool {
        let c = self.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*(*c).write).ready() != 0 }
    }

    /// Has the handler of an event called once more in this turn.
    fn post(&self, event: impl FnOnce(&ffi::ngx_connection_t) -> *mut ffi::ngx_event_t) {
        // SAFETY: not null means alive; nginx unlinks the events when the connection is closed.
        unsafe {
            if let Some(c) = self.get().as_ref() {
                ffi::ngx_post_event(event(c), ptr::addr_of_mut!(ffi::ngx_posted_events));
            }
        }
    }

    /// A peer that changes its keys (RFC 8446 4.6.3) may have TLS wait for the other direction: nginx
    /// puts a handler of its own on that event, and the one of before aside until a read, or a write,
    /// succeeds (ngx_ssl_handle_recv, ngx_ssl_write). Time-outs and notices to quit would miss ours
    /// meanwhile, and what is put back then may be the handler of an owner that is no more. So it is
    /// put back at once, and what waits is tried again when the event of the other direction comes.
    pub(super) fn uncross(&self) {
        // SAFETY: not null means alive.
        unsafe {
            let Some(c) = self.get().as_ref() else { return };
            let Some(ssl) = c.ssl.as_mut() else { return };
            if ssl.saved_write_handler.is_some() {
                (*c.write).handler = ssl.saved_write_handler.take();
                self.read_waits.set(true);
            }
            if ssl.saved_read_handler.is_some() {
                (*c.read).handler = ssl.saved_read_handler.take();
                self.write_waits.set(true);
            }
        }
    }

    /// Counts a read that has brought something. After the last of a turn nginx reports the rest in
    /// the next one.
    fn count_read(&self) {
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() == READS && self.is_ready() {
            // SAFETY: ready means alive; nginx unlinks the event when the connection is closed.
            unsafe {
                let next = ptr::addr_of_mut!(ffi::ngx_posted_next_events);
                ffi::ngx_post_event((*self.get()).read, next);
            }
        }
    }

    fn recv_raw(&self, buf: &mut UninitSlice) -> Recv {
        let c = self.get();
        if c.is_null() || buf.len() == 0 {
            return Recv::Again;
        }
        // An error inside TLS leaves errno as it was, hence the reset.
        ffi::ngx_set_errno(0);
        // SAFETY: c is alive; `recv` is nginx's own (plain or TLS) and writes at most len bytes.
        // It never calls back into a handler.
        let n = unsafe {
            match (*c).ssl.is_null() {
                true => (*c).recv.map_or(-1, |recv| recv(c, buf.as_mut_ptr(), buf.len())),
                false => tls_read::recv(c, buf.as_mut_ptr(), buf.len()),
            }
        };
        let got = match n {
            0 => Recv::Eof,
            n if n > 0 => Recv::Data(n as usize),
            n if n == ffi::NGX_AGAIN as isize => Recv::Again,
            _ => Recv::Failed(ffi::ngx_errno()),
        };
        // A read that brought less than it could have has exhausted the socket, too, and no other
        // read may follow it.
        if matches!(got, Recv::Data(_)) {
            self.count_read();
        }
        if matches!(got, Recv::Data(_) | Recv::Again) {
            if self.is_ready() {
                self.uncross();
            } else {
                self.want_read();
            }
        }
        got
    }

    /// Arms the read event where nothing is left to read, which every read does by itself; disarms
    /// it where bytes are there that nobody wants yet and the event module reports states, not
    /// changes (poll, select). To be called when an event leaves such bytes.
    pub fn want_read(&self) {
        let c = self.get();
        if !c.is_null() {
            // SAFETY: c is alive. With epoll this is a no-op after the first time.
            unsafe { ffi::ngx_handle_read_event((*c).read, 0) };
        }
    }

    /// Gives the TLS output buffer (16 KiB) back once nothing is pending.
    pub fn shrink(&self) {
        let c = self.get();
        // SAFETY: not null means alive; the call is nginx's own for connections going idle.
        unsafe {
            if !c.is_null() && !(*c).ssl.is_null() {
                ffi::ngx_ssl_free_buffer(c);
            }
        }
    }

    /// Leaves the write event, of a connection on which nothing waits to leave, as if the kernel took
    /// nothing and nobody had asked for more: whoever arms it from now on (`ngx_handle_write_event`)
    /// has the write handler called in the next turn.
    pub(super) fn sleep(&self) {
        let c = self.get();
        if c.is_null() {
            return;
        }
        self.asleep.set(true);
        // SAFETY: c is alive. What reports states (poll, select) disarms a ready event; to epoll it is
        // told anew when it is armed, and what it reports until then is ignored.
        unsafe {
            let write = (*c).write;
            if (*write).active() != 0 || (*write).ready() != 0 {
                (*write).set_ready(1);
                ffi::ngx_handle_write_event(write, 0);
                (*write).set_active(0);
                (*write).set_ready(0);
            }
        }
    }

    /// Whether it sleeps.
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.get()
    }

    /// Undoes `sleep`: the kernel may be asked.
    pub(super) fn rouse(&self) {
        let c = self.get();
        if self.asleep.replace(false) && !c.is_null() {
            // SAFETY: not null means alive.
            unsafe { (*(*c).write).set_ready(1) };
        }
    }

    /// Ends our side of the stream: the peer reads to its end. Only where no TLS stands between,
    /// which ends its own way when nginx closes the connection; nor where nginx lingers, which has
    /// ended it (ngx_http_set_lingering_close).
    pub fn end_output(&self) {
        let empty: unsafe extern "C" fn(*mut ffi::ngx_event_t) = ffi::ngx_http_empty_handler;
        let c = self.get();
        // SAFETY: not null means alive.
        let handler = unsafe { c.as_ref().and_then(|c| (*c.write).handler) };
        if handler.map(|handler| handler as usize) != Some(empty as usize) {
            self.shut_down(libc::SHUT_WR, false);
        }
    }

    /// Ends the connection in both directions; nginx closes it when the request ends.
    pub fn hang_up(&self) {
        self.shut_down(libc::SHUT_RDWR, true);
    }

    fn shut_down(&self, how: i32, even_tls: bool) {
        let c = self.get();
        // SAFETY: not null means alive; shutting a socket down twice is harmless.
        unsafe {
            if !c.is_null() && (even_tls || (*c).ssl.is_null()) {
                libc::shutdown((*c).fd, how);
            }
        }
    }

    /// An info line in the connection's log: client address, server and request are added by nginx.
    pub fn info(&self, text: &str) {
        let c = self.get();
        if !c.is_null() {
            // SAFETY: c is alive.
            log::info(unsafe { (*c).log }, text);
        }
    }

    /// Whether that log takes debug lines.
    pub fn logs_debug(&self) -> bool {
        let c = self.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*(*c).log).log_level >= ffi::NGX_LOG_DEBUG as ffi::ngx_uint_t }
    }
}

/// nginx's own reading and writing, plain or TLS.
impl Io for Wire {
    // An event came and the last read did not exhaust it, nor have there been too many since (then
    // another event comes, in the next turn).
    #[inline]
    fn read_ready(&self) -> bool {
        self.reads.get() < READS && self.is_ready()
    }

    fn recv(&self, buf: &mut [u8]) -> Recv {
        self.recv_raw(UninitSlice::new(buf))
    }

    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        let room = buf.chunk_mut();
        let len = room.len().min(limit);
        let got = self.recv_raw(&mut room[..len]);
        if let Recv::Data(n) = got {
            // SAFETY: `recv` has just written n bytes at the start of the spare capacity.
            unsafe { buf.advance_mut(n) };
        }
        got
    }

    // On a plain connection cheaper than by parts.
    #[inline(always)]
    fn send_one(&self, part: &[u8]) -> Sent {
        self.rouse();
        let c = self.get();
        // SAFETY: not null means alive. The plain transport's `send` reads the bytes during the
        // call only, and does nothing else but to note whether the kernel takes more.
        unsafe {
            if c.is_null() || !(*c).ssl.is_null() || part.is_empty() {
                return self.send(&[part]);
            }
            if (*(*c).write).ready() == 0 {
                return Sent::Bytes(0);
            }
            ffi::ngx_set_errno(0);
            let n = (*c).send.map_or(-1, |send| send(c, part.as_ptr().cast_mut(), part.len()));
            match n {
                n if n >= 0 => Sent::Bytes(n as usize),
                n if n == ffi::NGX_AGAIN as isize => Sent::Bytes(0),
                _ => {
                    let errno = ffi::ngx_errno();
                    (*c).set_error(1);
                    Sent::Failed(errno)
                }
            }
        }
    }

    // In one system call on a plain connection; TLS packs the parts into as few records as they fit.
    fn send(&self, parts: &[&[u8]]) -> Sent {
        self.rouse();
        let c = self.get();
        if c.is_null() {
            return Sent::Failed(0);
        }
        debug_assert!(parts.len() <= MAX_PARTS);
        // SAFETY: zeroed ngx_buf_t and ngx_chain_t are nginx's own initial state (ngx_calloc_buf).
        let mut bufs: [ffi::ngx_buf_t; MAX_PARTS] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut chain: [ffi::ngx_chain_t; MAX_PARTS] = unsafe { mem::zeroed() };
        let used = parts.len().min(MAX_PARTS);
        for (i, part) in parts[..used].iter().enumerate() {
            bufs[i].pos = part.as_ptr().cast_mut();
            bufs[i].last = bufs[i].pos.wrapping_add(part.len());
            bufs[i].set_memory(1);
        }
        if used > 0 {
            bufs[used - 1].set_flush(1);
        }
        for i in 0..used {
            chain[i].buf = &mut bufs[i];
            chain[i].next =
                if i + 1 < used { ptr::addr_of_mut!(chain[i + 1]) } else { ptr::null_mut() };
        }
        let first = if used > 0 { chain.as_mut_ptr() } else { ptr::null_mut() };
        ffi::ngx_set_errno(0);
        // SAFETY: c is alive; the chain lives on this stack for the whole call; memory buffers
        // are only read. Neither transport keeps the chain (TLS copies into a buffer of its own).
        let rest = unsafe {
            match (*c).send_chain {
                Some(send) => send(c, first, 0),
                None => ffi::ngx_chain_error(),
            }
        };
        if rest == ffi::ngx_chain_error() {
            let errno = ffi::ngx_errno();
            // As nginx's own write filter does: without the mark, bytes that TLS still holds would
            // keep the request open until its send timer, for a peer that is gone.
            // SAFETY: c is alive.
            unsafe { (*c).set_error(1) };
            return Sent::Failed(errno);
        }
        self.uncross();
        let taken = bufs[..used]
            .iter()
            .zip(parts)
            .map(|(buf, part)| buf.pos as usize - part.as_ptr() as usize)
            .sum();
        Sent::Bytes(taken)
    }

    fn holds_back(&self) -> bool {
        let c = self.get();
        // SAFETY: not null means alive.
        !c.is_null() && unsafe { (*c).buffered() } & ffi::NGX_SSL_BUFFERED != 0
    }

    // The write handler is called when the kernel takes more. Disarms the event once the kernel has
    // taken all (see `want_read`).
    fn want_write(&self) {
        self.rouse();
        let c = self.get();
        if !c.is_null() {
            // SAFETY: c is alive.
            unsafe { ffi::ngx_handle_write_event((*c).write, 0) };
        }
    }
}

/// The handler of an event that nobody waits for: nginx has marked the event as ready, which is all.
/// An event module that reports states (poll, select) must not report this one again.
pub(super) unsafe extern "C" fn idle_handler(ev: *mut ffi::ngx_event_t) {
    // SAFETY: nginx calls this with the event it was set on. Disarming calls no handler.
    unsafe {
        if (*ev).write() != 0 {
            ffi::ngx_handle_write_event(ev, 0);
        } else {
            ffi::ngx_handle_read_event(ev, 0);
        }
    }
}
