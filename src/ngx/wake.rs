//! Waking other workers: one eventfd for each row of the hub's directory, made by the master together
//! with the zone and shared by every generation of workers that uses it (they inherit the
//! descriptors). A worker listens on its own row's.

use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::guard::guarded;
use super::log;
use crate::ffi;

/// Most rows there can be: as many as nginx has process slots (NGX_MAX_PROCESSES).
const ROWS: usize = 1024;

/// By row, -1 where there is none. Made before the first fork; closed in the master when another
/// zone takes the place of theirs, while the workers that still use that one keep their copies.
static FDS: [AtomicI32; ROWS] = [const { AtomicI32::new(-1) }; ROWS];

/// Makes the eventfds for a zone of so many rows, or keeps those there are if it is the same zone
/// as before: two workers must never listen on one. To be called in the master before it forks.
/// False: no descriptors.
pub fn prepare(rows: usize, same_zone: bool) -> bool {
    FDS.iter().enumerate().all(|(row, slot)| {
        let mut fd = slot.load(Ordering::Relaxed);
        if fd >= 0 && !same_zone {
            // SAFETY: the descriptor is ours, and nothing in the master listens on it.
            unsafe { libc::close(fd) };
            fd = -1;
        }
        if fd < 0 && row < rows {
            // SAFETY: a system call without memory arguments.
            fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        }
        slot.store(fd, Ordering::Relaxed);
        fd >= 0 || row >= rows
    })
}

/// The eventfd of a row.
fn eventfd(row: u16) -> Option<i32> {
    let fd = FDS.get(usize::from(row))?.load(Ordering::Relaxed);
    (fd >= 0).then_some(fd)
}

/// Wakes the worker in `row`. Never blocks; a worker that is gone is not disturbed by it.
pub fn wake(row: u16) {
    if let Some(fd) = eventfd(row) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a local. EAGAIN (the counter is full) is fine: it is
        // signalled then.
        unsafe { libc::write(fd, ptr::addr_of!(one).cast(), 8) };
    }
}

/// Has `woken` called on this worker's event loop whenever somebody wakes `row`. False: nginx has
/// no connection left for it.
pub fn listen(row: u16, woken: fn()) -> bool {
    let Some(fd) = eventfd(row) else { return false };
    // SAFETY: the descriptor is valid for as long as the process lives. The connection is nginx's
    // and stays with this process; marked as a channel it neither counts as an open client
    // connection nor is it closed when the worker drains, so a draining worker keeps receiving.
    unsafe {
        let c = ffi::ngx_get_connection(fd, (*ffi::ngx_cycle).log);
        if c.is_null() {
            return false;
        }
        let rev = (*c).read;
        (*c).data = woken as *mut std::ffi::c_void;
        (*c).log = (*ffi::ngx_cycle).log;
        (*rev).log = (*c).log;
        (*(*c).write).log = (*c).log;
        (*rev).set_channel(1);
        (*(*c).write).set_channel(1);
        (*rev).handler = Some(handler);
        if ffi::ngx_handle_read_event(rev, 0) != ffi::NGX_OK as ffi::ngx_int_t {
            log::alert("websocket: the worker cannot listen for other workers");
            return false;
        }
    }
    true
}

unsafe extern "C" fn handler(ev: *mut ffi::ngx_event_t) {
    guarded("wake-up", (), || {
        // SAFETY: nginx calls this with the event of `listen`; its connection's data is the
        // function stored there.
        let woken = unsafe {
            let c = (*ev).data.cast::<ffi::ngx_connection_t>();
            let mut count = 0u64;
            libc::read((*c).fd, ptr::addr_of_mut!(count).cast(), 8);
            (*ev).set_ready(0);
            std::mem::transmute::<*mut std::ffi::c_void, fn()>((*c).data)
        };
        woken();
    });
}
