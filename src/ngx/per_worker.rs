//! A variable of the worker: a plain static instead of a `thread_local`, which in a module that is
//! loaded at run time costs a function call at each access (dynamic thread-local storage). For what
//! every message passes; elsewhere a `thread_local` will do.

use std::ops::Deref;

/// A static that this process's one thread uses. What it holds is changed through `Cell` or
/// `RefCell`; a child process has a copy.
pub struct PerWorker<T>(T);

// SAFETY: all code of this module runs on the thread of nginx's event loop: it starts no thread, and
// the threads that others start never come here. nginx's thread pools run file operations, ngx_lua's
// (ngx.run_worker_thread) VMs of their own, in which nothing of this module is preloaded.
unsafe impl<T> Sync for PerWorker<T> {}

impl<T> PerWorker<T> {
    /// A variable that begins as `value` in each process.
    pub const fn new(value: T) -> PerWorker<T> {
        PerWorker(value)
    }
}

impl<T> Deref for PerWorker<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
