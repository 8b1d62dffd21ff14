//! Names looked up by nginx's own resolver (the `resolver` directive), which neither blocks the
//! worker nor keeps an answer for longer than its server allows.
//!
//! Owned by whoever has asked, who is told by a function that the answer has come, never within
//! `start`. Dropping a look-up ends it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::rc::Rc;

use super::guard::guarded;
use super::http_conf::{core_location, http_block};
use super::sockaddr::ip;
use crate::ffi;

/// Which of nginx's resolvers.
#[derive(Clone, Copy)]
pub struct Resolver {
    resolver: *mut ffi::ngx_resolver_t,
    timeout: ffi::ngx_msec_t,
}

impl Resolver {
    /// That of the http block itself.
    pub fn of_http_block() -> Option<Resolver> {
        // SAFETY: the cycle lives as long as the process.
        unsafe {
            let core = &*core_location(http_block(ffi::ngx_cycle.cast_const())?.loc_conf);
            let timeout = match core.resolver_timeout {
                ffi::ngx_msec_t::MAX => 30_000,
                timeout => timeout,
            };
            (!core.resolver.is_null()).then_some(Resolver { resolver: core.resolver, timeout })
        }
    }
}

/// What a look-up brings: addresses, or why not.
pub type Found = Result<Vec<IpAddr>, String>;

/// A name that is being looked up.
///
/// nginx has a pointer to `Inner` until it has answered, or this is dropped.
pub struct Lookup(Box<Inner>);

struct Inner {
    ctx: Cell<*mut ffi::ngx_resolver_ctx_t>,
    /// nginx writes it in small letters.
    name: RefCell<Vec<u8>>,
    found: RefCell<Option<Found>>,
    /// `start` has returned.
    started: Cell<bool>,
    happened: Rc<dyn Fn()>,
}

impl Lookup {
    /// Asks. The answer may be there at once: `take` it.
    pub fn start(
        resolver: Option<Resolver>,
        name: &str,
        happened: Rc<dyn Fn()>,
    ) -> Result<Lookup, String> {
        let none = || format!("no resolver defined to resolve {name}");
        let resolver = resolver.ok_or_else(none)?;
        let inner = Box::new(Inner {
            ctx: Cell::new(ptr::null_mut()),
            name: RefCell::new(name.as_bytes().to_vec()),
            found: RefCell::new(None),
            started: Cell::new(false),
            happened,
        });
        // SAFETY: the resolver is the configuration's, which lives as long as the worker. The name and
        // `inner` stay where they are until nginx has answered or `drop` has told it to forget them.
        // nginx frees the context when `ngx_resolve_name` fails, and calls the handler within it if
        // it knows the answer; nothing of `inner` is borrowed then.
        unsafe {
            let ctx = ffi::ngx_resolve_start(resolver.resolver, ptr::null_mut());
            if ctx.is_null() {
                return Err("no memory".to_string());
            }
            if ctx as usize == usize::MAX {
                // NGX_NO_RESOLVER
                return Err(none());
            }
            let (data, len) = {
                let mut name = inner.name.borrow_mut();
                (name.as_mut_ptr(), name.len())
            };
            (*ctx).name = ffi::ngx_str_t { len, data };
            (*ctx).handler = Some(on_answer);
            (*ctx).data = ptr::from_ref(&*inner).cast_mut().cast();
            (*ctx).timeout = resolver.timeout;
            inner.ctx.set(ctx);
            if ffi::ngx_resolve_name(ctx) != ffi::NGX_OK as ffi::ngx_int_t {
                inner.ctx.set(ptr::null_mut());
                return Err(format!("{name} could not be resolved"));
            }
        }
        inner.started.set(true);
        Ok(Lookup(inner))
    }

    /// The answer, once it is there.
    pub fn take(&self) -> Option<Found> {
        self.0.found.take()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let ctx = self.0.ctx.replace(ptr::null_mut());
        if !ctx.is_null() {
            // SAFETY: nginx has not answered yet, and forgets the context by this.
            unsafe { ffi::ngx_resolve_name_done(ctx) };
        }
    }
}

unsafe extern "C" fn on_answer(ctx: *mut ffi::ngx_resolver_ctx_t) {
    guarded("look-up", (), || {
        // SAFETY: nginx calls this once with a context of `start`, whose `Inner` is there: it is told
        // to forget the context before that goes. The context is freed here, as its users do.
        let inner = unsafe {
            let inner = &*(*ctx).data.cast::<Inner>();
            let state = (*ctx).state;
            let found = if state != 0 {
                let why = std::ffi::CStr::from_ptr(ffi::ngx_resolver_strerror(state).cast());
                let name = inner.name.borrow();
                let (name, why) = (String::from_utf8_lossy(&name), why.to_string_lossy());
                Err(format!("{name} could not be resolved: {}", why.to_lowercase()))
            } else {
                let addresses = ffi::slice((*ctx).addrs, (*ctx).naddrs);
                Ok(addresses.iter().filter_map(|one| ip(one.sockaddr.cast())).collect())
            };
            inner.ctx.set(ptr::null_mut());
            ffi::ngx_resolve_name_done(ctx);
            inner.found.replace(Some(found));
            inner
        };
        if inner.started.get() {
            let happened = inner.happened.clone();
            happened();
        }
    });
}

/// Where a port of a host is, if the host is no name but an address.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(host.parse().ok()?, port))
}
