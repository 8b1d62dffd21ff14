//! What a read of a cosocket does when a large frame is awaited behind it. A cosocket waits for a
//! frame's first two bytes and would take as many bytes into its own buffer as that holds. Here its
//! `c->recv` looks at what came, keeps the frame's bytes but for those two in a buffer of ours, and
//! leaves in the kernel whatever follows the frame: so a frame costs two system calls, and the
//! cosocket's buffer stays as empty as it was. Used by `cosocket`.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

use super::guard::guarded;
use super::lending;
use super::pool::data_of;
use crate::ffi;

/// What is looked at and kept at most.
const SIZE: usize = 64 * 1024;
/// The longest header of a frame, with masking key.
const HEADER: usize = 14;

/// The frame that a reader waits for: bytes from its beginning (so many may be missing) → length of
/// the whole frame, if it is large, and allowed.
pub type Measure = fn(&[u8], Wanted) -> Option<usize>;

/// Which frames are allowed, for `Measure`.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Longest payload.
    pub max: u64,
    /// Unmasked ones are not.
    pub masked: bool,
    /// Judges them.
    pub measure: Measure,
}

/// A connection's state, in the memory of its pool: it goes with the connection. ngx_lua may pool
/// the connection and others may use it meanwhile, through this module's `recv`, which then does
/// what nginx's does.
struct State {
    orig: ffi::ngx_recv_pt,
    /// The cosocket's buffer is empty and its reader stands at the beginning of a frame or of
    /// something else that nobody has begun to read.
    clean: bool,
    /// Length of the last large frame: as much is looked at the next time.
    last: usize,
    wanted: Option<Wanted>,
}

/// Bytes of a frame that were taken past the cosocket, and of which connection. Who waits for them
/// is resumed by the very read that took them, and collects them first of all.
struct Taken {
    c: *const ffi::ngx_connection_t,
    bytes: Vec<u8>,
    len: usize,
}

thread_local! {
    static TAKEN: RefCell<Taken> =
        const { RefCell::new(Taken { c: ptr::null(), bytes: Vec::new(), len: 0 }) };
}

/// The address of our `recv`, by which it is known.
fn hook() -> usize {
    recv as *const () as usize
}

/// # Safety
/// `c` must be open.
unsafe fn is_hooked(c: *const ffi::ngx_connection_t) -> bool {
    // SAFETY: by contract.
    unsafe { (*c).recv.is_some_and(|recv| recv as *const () as usize == hook()) }
}

/// Marks a pool's entry as ours; the state has nothing to be freed.
unsafe extern "C" fn forget(_: *mut c_void) {}

/// The state of a connection that has one.
///
/// # Safety
/// `c` must be open; no other reference to its state may be in use.
unsafe fn state<'a>(c: *const ffi::ngx_connection_t) -> Option<&'a mut State> {
    // SAFETY: by contract; an entry with our handler has our state as its data.
    unsafe { data_of((*c).pool.as_ref()?, forget).cast::<State>().as_mut() }
}

/// A frame of `len` bytes has been read to its end, the cosocket's buffer is empty, and it is worth
/// looking ahead for the next. Plain connections only.
///
/// # Safety
/// `c` must be the open connection of a cosocket, which nothing reads right now.
pub(super) unsafe fn note_end(c: *mut ffi::ngx_connection_t, len: usize) {
    // SAFETY: by contract; nginx's pool gives aligned memory of the size asked for, or null.
    unsafe {
        if is_hooked(c) {
            if let Some(state) = state(c) {
                (state.clean, state.last) = (true, len);
            }
            return;
        }
        let nginx = ffi::ngx_io.recv.map(|recv| recv as *const () as usize);
        let is_plain =
            (*c).ssl.is_null() && nginx == (*c).recv.map(|recv| recv as *const () as usize);
        if !is_plain || (*c).pool.is_null() {
            return;
        }
        let fresh = State { orig: (*c).recv, clean: true, last: len, wanted: None };
        if let Some(old) = state(c) {
            *old = fresh;
        } else {
            let cleanup = ffi::ngx_pool_cleanup_add((*c).pool, size_of::<State>());
            let Some(cleanup) = cleanup.as_mut() else { return };
            cleanup.data.cast::<State>().write(fresh);
            cleanup.handler = Some(forget);
        }
        (*c).recv = Some(recv);
    }
}

/// Prepares for the cosocket's next read, which must ask for two bytes. False: that will not take
/// anything past it.
///
/// # Safety
/// As for `note_end`.
pub(super) unsafe fn arm(c: *mut ffi::ngx_connection_t, wanted: Wanted) -> bool {
    // SAFETY: by contract.
    match unsafe { is_hooked(c).then(|| state(c)).flatten() } {
        Some(state) if state.clean => {
            state.wanted = Some(wanted);
            true
        }
        _ => false,
    }
}

/// Undoes `arm`.
///
/// # Safety
/// `c` must be open.
pub(super) unsafe fn disarm(c: *mut ffi::ngx_connection_t) {
    // SAFETY: by contract.
    if let Some(state) = unsafe { state(c) } {
        state.wanted = None;
    }
}

/// Lends the bytes that the last read took past `c`, which follow the frame's first two, once. They
/// stay in memory until the next such read.
pub(super) fn taken<R>(
    c: *const ffi::ngx_connection_t,
    body: impl FnOnce(&mut [u8]) -> R,
) -> Option<R> {
    TAKEN.with_borrow_mut(|taken| {
        if !ptr::eq(taken.c, c) {
            return None;
        }
        taken.c = ptr::null();
        Some(body(&mut taken.bytes[2..taken.len]))
    })
}

/// What a look at the socket brought.
enum Look {
    /// Nothing for us: nginx's own recv is to be called.
    Plain,
    Again,
    Failed,
    /// A frame's bytes are taken: the first two of them.
    Frame([u8; 2]),
}

/// What `c->recv` is.
unsafe extern "C" fn recv(c: *mut ffi::ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: nginx calls this with an open connection whose recv it is; nothing else uses its
    // state meanwhile. The bytes written are not more than `size`.
    unsafe {
        let Some(state) = state(c) else { return ffi::NGX_ERROR as isize };
        if let Some(wanted) = state.wanted.filter(|_| state.clean && size >= 2) {
            match guarded("recv", Look::Plain, || look(c, state, wanted)) {
                Look::Again => return ffi::NGX_AGAIN as isize,
                Look::Failed => return ffi::NGX_ERROR as isize,
                Look::Frame(first) => {
                    state.wanted = None;
                    ptr::copy_nonoverlapping(first.as_ptr(), buf, first.len());
                    return first.len() as isize;
                }
                Look::Plain => {}
            }
        }
        let n = state.orig.map_or(-1, |orig| orig(c, buf, size));
        if n > 0 {
            (state.clean, state.wanted) = (false, None);
        }
        n
    }
}

/// Looks whether a large frame begins and takes what came of it.
///
/// # Safety
/// As nginx calls `recv`.
unsafe fn look(c: *mut ffi::ngx_connection_t, state: &mut State, wanted: Wanted) -> Look {
    // SAFETY: by contract. The bookkeeping is that of nginx's own recv (ngx_unix_recv).
    unsafe {
        let event = (*c).read;
        let epoll = ffi::ngx_event_flags & ffi::NGX_USE_EPOLL_EVENT as ffi::ngx_uint_t != 0;
        if epoll && (*event).available == 0 && (*event).pending_eof() == 0 {
            (*event).set_ready(0);
            return Look::Again;
        }
        TAKEN.with_borrow_mut(|taken| {
            if lending::is_lent() {
                lending::hold(std::mem::take(&mut taken.bytes));
            }
            if taken.bytes.is_empty() {
                taken.bytes = vec![0; SIZE];
            }
            // One byte more than is expected tells whether there is more; of a frame that does not
            // fit, the header is enough here.
            let most = if state.last < SIZE { state.last + 1 } else { HEADER };
            let came = match receive((*c).fd, &mut taken.bytes[..most], libc::MSG_PEEK) {
                Ok(0) => return Look::Plain,
                Ok(came) => came,
                Err(libc::EAGAIN) => {
                    (*event).set_ready(0);
                    return Look::Again;
                }
                Err(errno) => {
                    // Looking has taken the error away: nobody would see it any more.
                    (*event).set_ready(0);
                    (*event).set_error(1);
                    let text = c"recv() failed".as_ptr().cast_mut();
                    ffi::ngx_connection_error(c, errno, text);
                    ffi::ngx_set_errno(errno);
                    return Look::Failed;
                }
            };
            let Some(len) = (wanted.measure)(&taken.bytes[..came], wanted) else {
                return Look::Plain;
            };
            let ours = came.min(len);
            // TCP drops them without copying them again.
            if receive((*c).fd, &mut taken.bytes[..ours], libc::MSG_TRUNC) != Ok(ours) {
                // Bytes that were there a moment ago: somebody else reads from this socket.
                (*event).set_error(1);
                ffi::ngx_set_errno(libc::EIO);
                return Look::Failed;
            }
            if came < most && ours == came {
                (*event).available = 0;
                if (*event).pending_eof() == 0 {
                    (*event).set_ready(0);
                }
            } else {
                (*event).available = -1;
            }
            (taken.c, taken.len, state.last) = (c, ours, len);
            Look::Frame([taken.bytes[0], taken.bytes[1]])
        })
    }
}

/// # Safety
/// `fd` must be an open socket.
unsafe fn receive(fd: i32, to: &mut [u8], flags: i32) -> Result<usize, i32> {
    loop {
        // SAFETY: by contract; not more than fits is written.
        match unsafe { libc::recv(fd, to.as_mut_ptr().cast(), to.len(), flags) } {
            n if n >= 0 => return Ok(n as usize),
            _ if ffi::ngx_errno() == libc::EINTR => {}
            _ => return Err(ffi::ngx_errno()),
        }
    }
}
