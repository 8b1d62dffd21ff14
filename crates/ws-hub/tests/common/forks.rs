//! What the tests between processes share: memory that all of them see, and children that can be
//! killed and are never left behind.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

/// Longer than anything may take unless somebody sleeps for ever.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A shared mapping, never undone: the test's end is its end.
pub fn map(len: usize) -> *mut u8 {
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let memory = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0)
    };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

pub fn is_alive(pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid as i32, 0) == 0 }
}

/// Runs `work` in a new process, whose id this is; it ends with 0 unless `work` panics.
pub fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread, so the child may do anything.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid > 0 {
        return pid;
    }
    // Should this test itself be killed, nobody is left spinning.
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }, 0);
    let code = i32::from(catch_unwind(AssertUnwindSafe(work)).is_err());
    // SAFETY: ends this process without running the parent's destructors.
    unsafe { libc::_exit(code) }
}

/// The exit code, or minus the signal.
pub fn wait_for_end(pid: i32) -> i32 {
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
            0 => assert!(start.elapsed() < PATIENCE, "process {pid} does not end"),
            _ if libc::WIFSIGNALED(status) => return -libc::WTERMSIG(status),
            _ => return libc::WEXITSTATUS(status),
        }
        std::thread::yield_now();
    }
}

/// Kills a child that runs, and waits until nothing is left of it.
pub fn kill(pid: i32) {
    // SAFETY: a child of ours that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    assert_eq!(wait_for_end(pid), -libc::SIGKILL, "ended by itself");
}

/// Children by number; SIGKILL to all still there, should a check fail.
pub struct Children<const N: usize>(pub [i32; N]);

impl<const N: usize> Drop for Children<N> {
    fn drop(&mut self) {
        for pid in self.0 {
            if pid > 0 {
                // SAFETY: a child of ours that was not waited for, so the number is still its.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}
