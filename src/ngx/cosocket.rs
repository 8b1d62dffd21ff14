//! nginx's connection behind a connected cosocket of ngx_lua: so bytes of large frames go between
//! the kernel and our memory without ngx_lua's buffers between. Waiting, time-outs, errors and the
//! end stay the cosocket's: who uses this does so between two of its calls, takes no more than a
//! frame's own bytes, and leaves the rest to it. Used by the natives of `resty.websocket.protocol`
//! and of message clients; and to see whom a certificate is for.

use std::cell::Cell;
use std::ffi::{c_void, CString};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{mem, ptr};

use super::ahead::{self, Wanted};
use super::leg::{Leads, Leg};
use super::per_worker::PerWorker;
use super::request::Request;
use super::wire::{Io, Recv, Wire};
use crate::ffi;

const WORD: usize = mem::size_of::<usize>();

/// Where connection and request were last found in a cosocket's memory: the first place to look.
static WORDS: [Hint; 2] = [Hint(AtomicUsize::new(0)), Hint(AtomicUsize::new(0))];

struct Hint(AtomicUsize);

impl Hint {
    /// The first of `words` that is what is sought, but the one that was last time if that is.
    fn find(&self, words: &[usize], is_sought: impl Fn(&usize) -> bool) -> Option<usize> {
        if let Some(&word) =
            words.get(self.0.load(Ordering::Relaxed)).filter(|word| is_sought(word))
        {
            return Some(word);
        }
        let at = words.iter().position(is_sought)?;
        self.0.store(at, Ordering::Relaxed);
        Some(words[at])
    }
}

/// This process's connections, and how many: nginx makes them once. After a reload without a master
/// process its new cycle has none, and those that are open are still in the old one's, which nginx
/// never frees.
static CONNECTIONS: PerWorker<Cell<(*const ffi::ngx_connection_t, usize)>> =
    PerWorker::new(Cell::new((ptr::null(), 0)));

/// The slot of nginx's connections that is at this address, if one is.
fn slot_at(address: usize) -> Option<*const ffi::ngx_connection_t> {
    const SLOT: usize = mem::size_of::<ffi::ngx_connection_t>();
    // SAFETY: nginx sets ngx_cycle before any Lua code runs.
    let (first, count) = unsafe { ((*ffi::ngx_cycle).connections, (*ffi::ngx_cycle).connection_n) };
    if !first.is_null() {
        CONNECTIONS.set((first, count));
    }
    let (first, count) = CONNECTIONS.get();
    let offset = address.wrapping_sub(first as usize);
    (!first.is_null() && offset < count * SLOT && offset.is_multiple_of(SLOT))
        .then(|| first.wrapping_add(offset / SLOT))
}

/// A cosocket's connection, found for one call and not to be kept: the next call of the cosocket
/// may close it or put it into a pool. It owns nothing.
pub struct Cosocket<'a> {
    wire: Wire,
    call: PhantomData<&'a ()>,
}

impl<'a> Cosocket<'a> {
    /// Looks for the connection in the memory of a cosocket's userdata, whose layout is ngx_lua's
    /// own business. What tells it for sure is nginx's side: a slot of the cycle's connections that
    /// is open and whose `data` is this very userdata (event handlers get it from there), which
    /// ngx_lua clears when it closes or pools the connection. The userdata must name `r` as well:
    /// cosockets are used by the request that made them only. None: not connected, another
    /// request's, or something else altogether.
    ///
    /// # Safety
    /// `memory` must be `len` initialised bytes, aligned as a userdata is, that live for `'a`.
    pub unsafe fn find(memory: *const c_void, len: usize, r: Request<'a>) -> Option<Cosocket<'a>> {
        // SAFETY: by contract; any bytes are a number.
        let words = unsafe { ffi::slice(memory.cast::<usize>(), len / WORD) };
        let is_connection = |&word: &usize| {
            // SAFETY: what it points to is only looked at where that is a slot of nginx's.
            unsafe {
                slot_at(word).is_some_and(|c| (*c).data.cast_const() == memory && (*c).fd != -1)
            }
        };
        let is_request = |&word: &usize| word == r.as_ptr() as usize;
        let connection = WORDS[0].find(words, is_connection)?;
        WORDS[1].find(words, is_request)?;
        let c = connection as *mut ffi::ngx_connection_t;
        Some(Cosocket { wire: Wire::new(c), call: PhantomData })
    }

    fn c(&self) -> *mut ffi::ngx_connection_t {
        self.wire.get()
    }

    /// Whether a read may bring something. Not while nginx is cutting the connection
    /// (worker_shutdown_timeout), which the cosocket's own read reports.
    pub fn read_ready(&self) -> bool {
        // SAFETY: found open, and nothing ran since.
        let cut = unsafe { (*self.c()).close() != 0 || (*(*self.c()).read).closed() != 0 };
        !cut && self.wire.read_ready()
    }

    /// Reads at most `limit` bytes into the spare capacity of `buf`. Only while the cosocket's own
    /// buffer is empty and nobody waits for it to read: right after a call of its `receiveany` that
    /// returned less than was asked for. At the end or after an error the cosocket is left to find
    /// the same, whatever its own read then says.
    pub fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        self.report(self.wire.recv_into(buf, limit))
    }

    /// Reads at most `buf.len()` bytes; when, and what then, as for `recv_into`.
    pub fn recv(&self, buf: &mut [u8]) -> Recv {
        self.report(self.wire.recv(buf))
    }

    /// Sees to it that the cosocket reports what is not ours to report.
    fn report(&self, got: Recv) -> Recv {
        if matches!(got, Recv::Eof | Recv::Failed(_)) {
            // As if the event had just come: otherwise the cosocket would wait for the next.
            // SAFETY: found open, and nothing but the read ran since.
            unsafe {
                (*(*self.c()).read).set_ready(1);
                (*(*self.c()).read).available = -1;
            }
        }
        got
    }

    /// Leaves the read event as the cosocket's own reads leave it.
    pub fn done_reading(&self) {
        self.wire.want_read();
    }

    /// A frame of `len` bytes has been read to its end, of which the cosocket's buffer was known to
    /// be empty before the last of them came: later frames may be read ahead.
    pub fn note_end(&self, len: usize) {
        // SAFETY: found open, and nothing ran since but reads of ours.
        unsafe { ahead::note_end(self.c(), len) }
    }

    /// Before the cosocket is asked for the two bytes that begin a frame: has a large one taken
    /// past it at once, as far as it came. False where that cannot be.
    pub fn read_ahead(&self, wanted: Wanted) -> bool {
        // SAFETY: found open, and nothing ran since.
        unsafe { ahead::arm(self.c(), wanted) }
    }

    /// What follows those two bytes, where that was taken past the cosocket; to be asked after each
    /// `read_ahead`, at once. The bytes stay in memory until another frame is read ahead.
    pub fn taken<R>(&self, body: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        // SAFETY: found open, and nothing ran since.
        unsafe { ahead::disarm(self.c()) };
        ahead::taken(self.c(), body)
    }

    /// Has the cosocket give out what its buffer holds and then wait, however much more has come: until
    /// `lend_events`, after which all that is read.
    pub fn hold_reading(&self) {
        // SAFETY: found open, and nothing ran since. A read whose event is awaited, and has not come, waits.
        unsafe {
            let read = (*self.c()).read;
            (*read).set_ready(0);
            ffi::ngx_handle_read_event(read, 0);
        }
    }

    /// Has the connection's events told to `owner`. The cosocket, which has nothing to send, waits for
    /// bytes meanwhile, without a time limit; it is closed by whoever ends that wait, after
    /// `Leg::release`.
    pub fn lend_events<T: Leads>(&self, owner: &Rc<T>) {
        // SAFETY: found open, and nothing ran since. It stays open until the cosocket's own cleanup,
        // which runs after that of the request that was taken over.
        unsafe {
            Leg::borrow(owner, self.c());
            // As if the event had just come, see `hold_reading`.
            (*(*self.c()).read).set_ready(1);
            (*(*self.c()).read).available = -1;
        }
    }

    /// Whether a send would not wait, as far as is known: no send of the cosocket does (its timer is
    /// set then), none has failed, and the kernel takes bytes.
    pub fn is_writable(&self) -> bool {
        // SAFETY: found open, and nothing ran since.
        let (c, write) = unsafe { (&*self.c(), &*(*self.c()).write) };
        let sound = c.error() == 0 && c.close() == 0 && write.error() == 0 && write.timedout() == 0;
        sound && write.ready() != 0 && write.timer_set() == 0 && write.closed() == 0
    }

    /// Whether `offer` may be called: it is writable, and has sent before, which sets TCP_NODELAY.
    /// Not with TLS, which wants what it did not write offered again from the same address.
    pub fn may_send(&self) -> bool {
        // SAFETY: found open, and nothing ran since.
        let c = unsafe { &*self.c() };
        c.ssl.is_null() && c.sent > 0 && self.is_writable()
    }

    /// Gives the kernel what it takes of `part`, none where it would have to wait. An error is
    /// returned as errno and leaves no trace: the cosocket's own send then fails, logs and ends its
    /// writing.
    pub fn offer(&self, part: &[u8]) -> Result<usize, i32> {
        // SAFETY: found open; the bytes are only read, during the call. The bookkeeping is that of
        // nginx's own send (ngx_unix_send), which would log the error.
        unsafe {
            let c = self.c();
            loop {
                let n = libc::send((*c).fd, part.as_ptr().cast(), part.len(), libc::MSG_NOSIGNAL);
                if n >= 0 {
                    (*c).sent += n as ffi::off_t;
                    if (n as usize) < part.len() {
                        (*(*c).write).set_ready(0);
                    }
                    return Ok(n as usize);
                }
                match ffi::ngx_errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => {
                        (*(*c).write).set_ready(0);
                        return Ok(0);
                    }
                    errno => return Err(errno),
                }
            }
        }
    }

    /// Where the connection goes, as nginx writes addresses: with the port, IPv6 in brackets.
    pub fn address(&self) -> Option<Vec<u8>> {
        // SAFETY: found open; the kernel fills no more of the address than there is, and nginx writes no more of
        // the text.
        unsafe {
            let mut at: libc::sockaddr_storage = mem::zeroed();
            let mut len = mem::size_of_val(&at) as libc::socklen_t;
            let address = ptr::addr_of_mut!(at).cast::<libc::sockaddr>();
            if libc::getpeername((*self.c()).fd, address, &mut len) != 0 {
                return None;
            }
            let mut text = [0u8; 128];
            let n = ffi::ngx_sock_ntop(address.cast(), len, text.as_mut_ptr(), text.len(), 1);
            (n > 0).then(|| text[..n].to_vec())
        }
    }

    /// Whether the certificate that the peer has shown in its TLS handshake is for this address:
    /// ngx_lua compares names only. One that has the address for a name is taken as well, as
    /// ngx_lua takes it.
    pub fn certificate_is_for(&self, address: IpAddr) -> bool {
        let Ok(text) = CString::new(address.to_string()) else { return false };
        // SAFETY: found open, and nothing ran since; OpenSSL and nginx only read what they are
        // given, and the certificate stays the session's.
        unsafe {
            let ssl = (*self.c()).ssl;
            if ssl.is_null() {
                return false;
            }
            let session = ffi::SSL_get_session((*ssl).connection);
            if session.is_null() {
                return false;
            }
            let certificate = ffi::SSL_SESSION_get0_peer(session);
            if certificate.is_null() {
                return false;
            }
            if ffi::X509_check_ip_asc(certificate, text.as_ptr(), 0) == 1 {
                return true;
            }
            let len = text.as_bytes().len();
            let mut name = ffi::ngx_str_t { len, data: text.as_ptr().cast_mut().cast() };
            ffi::ngx_ssl_check_host(self.c(), &mut name) == ffi::NGX_OK as isize
        }
    }
}
