//! Parking a light thread: ngx_lua's semaphore, the one wait primitive that every ngx_lua since
//! 0.10.19 exports. A Lua entry that gets `Parked` must return `lua_yield(L, 0)`; the light thread
//! is resumed with `true` or `false, "timeout"` and asks again (wake-ups may be spurious, so a
//! killed light thread does no harm).

use std::cell::{Cell, OnceCell, RefCell};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::per_worker::PerWorker;
use super::request::Request;
use crate::ffi;

type Sema = NonNull<ffi::ngx_http_lua_sema_t>;

thread_local! {
    /// This worker's semaphores, by number, and the numbers that are free.
    static LIVE: RefCell<(Vec<Option<Sema>>, Vec<u32>)> = RefCell::default();
}
/// Whether all have been given back, because the worker exits.
static OVER: PerWorker<Cell<bool>> = PerWorker::new(Cell::new(false));

/// The Lua state whose native is running: see `calling`.
static CALLER: PerWorker<Cell<*mut ffi::lua_State>> = PerWorker::new(Cell::new(ptr::null_mut()));

/// Why `park` refuses where C stands between the caller and its light thread (a finalizer, a callback
/// of table.sort or string.gsub): the light thread cannot be left there.
pub const CANNOT_WAIT: &str = "cannot wait here";

/// Notes who calls, for `park`: to be called as a native begins.
#[inline]
pub fn calling(state: *mut ffi::lua_State) {
    CALLER.set(state);
}

/// Whether the code that calls the native may yield. ngx_lua asks for the phase only.
pub fn can_yield() -> bool {
    type IsYieldable = unsafe extern "C" fn(*mut ffi::lua_State) -> i32;
    static FOUND: OnceLock<Option<IsYieldable>> = OnceLock::new();
    let is_yieldable = *FOUND.get_or_init(|| {
        // SAFETY: looks a symbol up, which older LuaJITs do not have: null is None. Where it is, it
        // has this type.
        unsafe { mem::transmute(libc::dlsym(libc::RTLD_DEFAULT, c"lua_isyieldable".as_ptr())) }
    });
    // SAFETY: the state that runs the native which parks.
    is_yieldable.is_none_or(|is_yieldable| unsafe { is_yieldable(CALLER.get()) != 0 })
}

/// The answer of a call that may have to wait.
#[derive(Debug)]
pub enum Wait<T> {
    /// It need not.
    Ready(T),
    /// The calling light thread is queued; the C function must yield now.
    Parked,
    /// ngx_lua refused, for instance in a phase that cannot yield, by its own text; or `CANNOT_WAIT`.
    Denied(String),
}

/// A semaphore of ngx_lua's pool.
///
/// Owned by a `Session`. A waiting light thread keeps the session alive through the userdata on
/// its stack, so the semaphore outlives every waiter; the pool it comes from is freed by nginx
/// after the Lua VM (cleanups run in reverse order).
/// A worker that is told to terminate leaves its requests as they are, and with them the owners of
/// semaphores; `free_all` takes them away, and `Drop` then finds nothing to free.
#[derive(Debug)]
pub struct Semaphore {
    sem: Sema,
    /// Whether anybody may be waiting: ngx_lua is asked only then.
    in_use: Cell<bool>,
    /// Its place in `LIVE`.
    number: u32,
}

impl Semaphore {
    /// A semaphore with nothing posted. None when memory is short.
    pub fn new() -> Option<Semaphore> {
        let mut sem = std::ptr::null_mut();
        let mut err = std::ptr::null_mut();
        // SAFETY: both are out-parameters that outlive the call; the error text is static.
        let rc = unsafe { ffi::ngx_http_lua_ffi_sema_new(&mut sem, 0, &mut err) };
        let sem = NonNull::new(sem).filter(|_| rc == ffi::NGX_OK as i32)?;
        let number = LIVE.with_borrow_mut(|(live, free)| {
            if let Some(number) = free.pop() {
                live[number as usize] = Some(sem);
                return number;
            }
            live.push(Some(sem));
            (live.len() - 1) as u32
        });
        Some(Semaphore { sem, number, in_use: Cell::new(false) })
    }

    /// Wakes every waiter; without one, does nothing, so that no post is left over.
    pub fn wake_all(&self) {
        let waiting = self.waiters();
        if waiting > 0 {
            // SAFETY: the semaphore is alive as long as self. Posting only queues an event: no
            // Lua code runs inside this call.
            unsafe { ffi::ngx_http_lua_ffi_sema_post(self.sem.as_ptr(), waiting) };
        }
    }

    /// Wakes one waiter, if there is any.
    pub fn wake_one(&self) {
        if self.waiters() > 0 {
            // SAFETY: as in `wake_all`.
            unsafe { ffi::ngx_http_lua_ffi_sema_post(self.sem.as_ptr(), 1) };
        }
    }

    /// How many light threads wait and have not been posted to yet.
    #[inline]
    pub fn waiters(&self) -> i32 {
        if !self.in_use.get() || OVER.get() {
            return 0;
        }
        // SAFETY: the semaphore is alive as long as self, but for the worker's exit.
        let waiting = (-unsafe { ffi::ngx_http_lua_ffi_sema_count(self.sem.as_ptr()) }).max(0);
        self.in_use.set(waiting > 0);
        waiting
    }

    /// Queues the light thread that runs now in `r` for at most `ms` milliseconds (1 at least). Never
    /// `Ready`.
    pub fn park<T>(&self, r: Request, ms: u64) -> Wait<T> {
        if OVER.get() {
            return Wait::Denied("process exiting".to_string());
        }
        if !can_yield() {
            return Wait::Denied(CANNOT_WAIT.to_string());
        }
        self.in_use.set(true);
        let mut text = [0u8; 128];
        let ms = ms.clamp(1, i32::MAX as u64) as i32;
        loop {
            let mut len = text.len();
            // SAFETY: `r` is the request whose Lua code is calling (see `lua::entry`), the
            // semaphore is alive, and `text` is as long as `len` says.
            let rc = unsafe {
                ffi::ngx_http_lua_ffi_sema_wait(
                    r.as_ptr(),
                    self.sem.as_ptr(),
                    ms,
                    text.as_mut_ptr(),
                    &mut len,
                )
            };
            if rc == ffi::NGX_AGAIN {
                return Wait::Parked;
            }
            if rc != ffi::NGX_OK as i32 {
                let text = &text[..len.min(text.len())];
                return Wait::Denied(String::from_utf8_lossy(text).into_owned());
            }
            // A post was left over by a waiter that was killed before it ran. It is used up now.
        }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        let is_live = LIVE.with_borrow_mut(|(live, free)| {
            let place = live.get_mut(self.number as usize);
            let is_live = place.and_then(Option::take).is_some();
            if is_live {
                free.push(self.number);
            }
            is_live
        });
        if is_live {
            // SAFETY: ours alone, and nobody waits any more (see the type's comment).
            unsafe { ffi::ngx_http_lua_ffi_sema_gc(self.sem.as_ptr()) };
        }
    }
}

/// A semaphore that is made by the first who has to wait.
#[derive(Debug, Default)]
pub struct Waiters(OnceCell<Semaphore>);

impl Waiters {
    /// As `Semaphore::park`.
    pub fn park<T>(&self, r: Request, ms: u64) -> Wait<T> {
        let semaphore = match self.0.get() {
            Some(semaphore) => semaphore,
            None => match Semaphore::new() {
                Some(semaphore) => self.0.get_or_init(|| semaphore),
                None => return Wait::Denied("no memory".to_string()),
            },
        };
        semaphore.park(r, ms)
    }

    /// How many wait.
    #[inline]
    pub fn waiters(&self) -> i32 {
        self.0.get().map_or(0, Semaphore::waiters)
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        if let Some(semaphore) = self.0.get() {
            semaphore.wake_all();
        }
    }
}

/// Gives every semaphore back, because the worker exits: ngx_lua raises an alert for those that
/// are still in use when it frees their memory. Nothing runs in this worker afterwards but the
/// destructors of its Lua VM, which use no semaphore.
pub fn free_all() {
    OVER.set(true);
    for sem in LIVE.take().0.into_iter().flatten() {
        // SAFETY: alive until now, as its owner has not dropped it, and forgotten from here on.
        unsafe { ffi::ngx_http_lua_ffi_sema_gc(sem.as_ptr()) };
    }
}
