//! The ports that a worker has opened by itself: whether one may be, its socket, and why not.
//! `listener.rs` puts that on nginx's events.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ptr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::errno;
use super::process::is_worker;
use crate::ffi;

thread_local! {
    /// Addresses this worker listens on: SO_REUSEPORT would let it open one twice.
    static OPEN: RefCell<Vec<SocketAddr>> = const { RefCell::new(Vec::new()) };
}

/// Why a port was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// What the system says.
    Errno(i32),
    /// nginx has no connection left (worker_connections).
    Connections,
    /// There is no event loop here: init_by_lua, `nginx -t`.
    Phase,
    /// The worker has been told to quit.
    Exiting,
    /// ngx_lua has no memory.
    Memory,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Errno(errno) => f.write_str(&errno::text(*errno)),
            ListenError::Connections => f.write_str("worker_connections are not enough"),
            ListenError::Phase => f.write_str("no event loop in this phase"),
            ListenError::Exiting => f.write_str("process exiting"),
            ListenError::Memory => f.write_str("no memory"),
        }
    }
}

impl std::error::Error for ListenError {}

/// Whether `addr` may be opened here and now.
pub(super) fn check(addr: SocketAddr) -> Result<(), ListenError> {
    // SAFETY: plain integers set by nginx.
    if !is_worker() || unsafe { (*ptr::addr_of!(ffi::ngx_event_actions)).add.is_none() } {
        return Err(ListenError::Phase);
    }
    // SAFETY: as above.
    if unsafe { ffi::ngx_exiting != 0 || ffi::ngx_quit != 0 } {
        return Err(ListenError::Exiting);
    }
    if addr.port() != 0 && OPEN.with_borrow(|open| open.contains(&addr)) {
        return Err(ListenError::Errno(libc::EADDRINUSE));
    }
    Ok(())
}

/// This worker listens on `local` now.
pub(super) fn note_open(local: SocketAddr) {
    OPEN.with_borrow_mut(|open| open.push(local));
}

/// It does no longer.
pub(super) fn note_closed(local: SocketAddr) {
    OPEN.with_borrow_mut(|open| open.retain(|addr| *addr != local));
}

/// A socket that listens on `addr`, with so many connections in the kernel's queue.
pub(super) fn bind(addr: SocketAddr, backlog: usize) -> Result<Socket, ListenError> {
    try_bind(addr, backlog)
        .map_err(|err| ListenError::Errno(err.raw_os_error().unwrap_or_default()))
}

fn try_bind(addr: SocketAddr, backlog: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if addr.port() != 0 {
        // With any free port the kernel might choose one that is shared this way.
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(backlog.clamp(1, i32::MAX as usize) as i32)?;
    Ok(socket)
}

/// Has what is written to a connection leave at once, however short it is.
///
/// # Safety
/// `fd` must be an open socket's.
pub(super) unsafe fn no_delay(fd: i32) {
    let on: i32 = 1;
    // SAFETY: the option is an int, as the system reads it; the socket is open by contract.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            ptr::addr_of!(on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        );
    }
}
