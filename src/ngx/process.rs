//! Processes, as nginx sees them: which one this is and what it is about, how many workers a
//! configuration asks for and connections each may have, whether another one still exists.

use std::ptr;

use crate::ffi;

/// This process's id, and nginx's slot for it.
pub fn this() -> (u32, u16) {
    // SAFETY: plain integers set by nginx before a worker starts.
    unsafe { (std::process::id(), ffi::ngx_process_slot.max(0) as u16) }
}

/// Whether this process runs a worker's event loop (and is no cache manager or helper).
pub fn is_worker() -> bool {
    // SAFETY: plain integers set by nginx before a process starts.
    unsafe {
        let kind = ffi::ngx_process as u32;
        kind == ffi::NGX_PROCESS_WORKER || kind == ffi::NGX_PROCESS_SINGLE
    }
}

/// Whether this worker has been told to quit gracefully, and has told its idle connections.
pub fn is_quitting() -> bool {
    // SAFETY: a plain integer that only this thread writes.
    unsafe { ffi::ngx_exiting != 0 }
}

/// Whether nginx has set the event loop of this process up; in init_by_lua it has not.
pub fn has_event_loop() -> bool {
    // SAFETY: a pointer that nginx sets once, when the event module's process starts.
    unsafe { !(*ffi::ngx_cycle).connections.is_null() }
}

/// How many workers a configuration asks for.
///
/// # Safety
/// `cycle` must be what nginx passes to init_module.
pub unsafe fn worker_processes(cycle: *mut ffi::ngx_cycle_t) -> usize {
    // SAFETY: the core module's configuration exists in every cycle, and has been completed.
    unsafe {
        let index = (*ptr::addr_of!(ffi::ngx_core_module)).index;
        let conf = (*(*cycle).conf_ctx.add(index)).cast::<ffi::ngx_core_conf_t>();
        (*conf).worker_processes.max(1) as usize
    }
}

/// Whether a process may still do something. A worker that was killed exists until the master has
/// heard of it, which it does not while it loads a configuration: the master is not to wait for its
/// own dead.
pub fn runs(pid: u32) -> bool {
    // SAFETY: fills the struct on the stack; the child stays to be waited for by nginx (WNOWAIT).
    let has_ended = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid, &mut info, options) == 0 && info.si_pid() == pid as i32
    };
    !has_ended && exists(pid)
}

/// Whether a process exists (a zombie counts: it has not been replaced yet).
pub fn exists(pid: u32) -> bool {
    // SAFETY: signal 0 checks only.
    unsafe { libc::kill(pid as i32, 0) == 0 || *libc::__errno_location() == libc::EPERM }
}

/// How many connections this worker may have (`worker_connections`).
pub fn connections() -> usize {
    // SAFETY: `ngx_cycle` lives as long as the process.
    unsafe { (*ffi::ngx_cycle).connection_n }
}
