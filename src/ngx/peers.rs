//! Whom an `upstream` block chooses for a request that asks by itself, with a cosocket: nginx's
//! balancers (balancer_by_lua among them) are asked for a peer, told whether it has failed, and told
//! at the end that it is not used any more. Connections that `keepalive` has kept are not used.

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::ptr;
use std::rc::Rc;

use super::client;
use super::http_conf::upstream_main;
use super::request::Request;
use super::sockaddr;
use crate::ffi;

/// Where a peer is.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// As a cosocket's connect() takes it: IPv6 in brackets, a unix socket as `unix:/path`.
    pub host: Vec<u8>,
    /// None for a unix socket.
    pub port: Option<u16>,
}

/// Why there is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPeer {
    /// All are down or busy.
    NotLive,
    /// The balancer has failed, and has logged why.
    Failed,
}

impl fmt::Display for NoPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoPeer::NotLive => "no live upstreams",
            NoPeer::Failed => "the upstream's balancer failed",
        })
    }
}

/// A request's peers, one of which may be chosen.
///
/// Shared by Lua and the request's end, after which it does nothing. What nginx's balancers keep for the
/// request is of its pool.
pub struct Peers {
    r: Cell<*mut ffi::ngx_http_request_t>,
    /// Of the request's pool: what balancers find at `r->upstream` while they are asked.
    u: *mut ffi::ngx_http_upstream_t,
    chosen: Cell<bool>,
}

impl Peers {
    /// Those of the `upstream` block of this name. None: there is no such block. An error: no memory, or
    /// the balancer's own.
    pub fn of(r: Request, name: &[u8]) -> Option<Result<Rc<Peers>, NoPeer>> {
        let r = r.as_ptr();
        // SAFETY: alive by construction; the configuration lives as long as its requests. An upstream
        // that is all zero but for this is what balancers of nginx 1.22 to 1.30 need.
        unsafe {
            let block = find(r, name)?;
            let pool = (*r).pool;
            let u = ffi::ngx_pcalloc(pool, size_of::<ffi::ngx_http_upstream_t>());
            let conf = ffi::ngx_pcalloc(pool, size_of::<ffi::ngx_http_upstream_conf_t>());
            let u = u.cast::<ffi::ngx_http_upstream_t>();
            if u.is_null() || conf.is_null() {
                return Some(Err(NoPeer::Failed));
            }
            (*u).conf = conf.cast();
            (*u).upstream = block;
            (*u).create_request = Some(nothing_made);
            (*u).peer.log = (*(*r).connection).log;
            (*u).peer.start_time = ffi::ngx_current_msec;
            let peers = Rc::new(Peers { r: Cell::new(r), u, chosen: Cell::new(false) });
            let end = peers.clone();
            let at_end = Box::new(move || {
                end.done(false);
                end.r.set(ptr::null_mut());
            });
            if !Request::from_ptr(r).is_some_and(|r| r.at_end(at_end)) {
                return Some(Err(NoPeer::Failed));
            }
            let init = (*block).peer.init;
            let rc = peers.asked(|| init.map_or(ffi::NGX_ERROR as isize, |init| init(r, block)));
            Some(if rc == ffi::NGX_OK as isize { Ok(peers) } else { Err(NoPeer::Failed) })
        }
    }

    /// Has the balancer choose.
    pub fn choose(&self) -> Result<Address, NoPeer> {
        self.done(false);
        if self.r.get().is_null() {
            return Err(NoPeer::Failed);
        }
        // SAFETY: the request is alive, and with it what is of its pool.
        unsafe {
            let pc = ptr::addr_of_mut!((*self.u).peer);
            let get = (*pc).get;
            let rc = self.asked(|| get.map_or(ffi::NGX_ERROR as isize, |get| get(pc, (*pc).data)));
            if rc == ffi::NGX_BUSY as isize || rc == ffi::NGX_DECLINED as isize {
                return Err(NoPeer::NotLive);
            }
            let kept = mem::replace(&mut (*pc).connection, ptr::null_mut());
            if rc == ffi::NGX_DONE as isize && !kept.is_null() {
                client::cut(kept);
            } else if rc != ffi::NGX_OK as isize {
                return Err(NoPeer::Failed);
            }
            self.chosen.set(true);
            address((*pc).sockaddr, (*pc).socklen).ok_or(NoPeer::Failed)
        }
    }

    /// The peer that was chosen is not used any more, or has failed. Whether another may be tried.
    pub fn done(&self, failed: bool) -> bool {
        if self.r.get().is_null() {
            return false;
        }
        // SAFETY: as in `choose`.
        unsafe {
            let pc = ptr::addr_of_mut!((*self.u).peer);
            if self.chosen.replace(false) {
                let state = if failed { ffi::NGX_PEER_FAILED } else { 0 };
                if let Some(free) = (*pc).free {
                    self.asked(|| free(pc, (*pc).data, state as ffi::ngx_uint_t));
                }
            }
            (*pc).tries > 0
        }
    }

    /// Has a balancer's function find what it expects: our upstream as the request's, and none of
    /// ngx_lua's context. The one that is there is of the handler that calls us, and balancer_by_lua
    /// would begin it anew.
    ///
    /// # Safety
    /// The request must be alive.
    unsafe fn asked<T>(&self, ask: impl FnOnce() -> T) -> T {
        // SAFETY: by contract; both are put back as they were.
        unsafe {
            let r = self.r.get();
            let lua = (*r).ctx.add((*ptr::addr_of!(ffi::ngx_http_lua_module)).ctx_index);
            let context = mem::replace(&mut *lua, ptr::null_mut());
            let upstream = mem::replace(&mut (*r).upstream, self.u);
            let answer = ask();
            (*r).upstream = upstream;
            *lua = context;
            answer
        }
    }
}

/// The `upstream` block of this name. What is not a block, but a `proxy_pass`'s address, has no servers
/// of its own here.
///
/// # Safety
/// `r` must be alive.
unsafe fn find(
    r: *mut ffi::ngx_http_request_t,
    name: &[u8],
) -> Option<*mut ffi::ngx_http_upstream_srv_conf_t> {
    // SAFETY: by contract; nginx's main configuration of upstreams is always there.
    unsafe {
        let main = upstream_main((*r).main_conf);
        let upstreams = &(*main).upstreams;
        let blocks = upstreams.elts.cast::<*mut ffi::ngx_http_upstream_srv_conf_t>();
        ffi::slice(blocks.cast_const(), upstreams.nelts).iter().copied().find(|block| {
            let host = &(**block).host;
            let host = ffi::slice(host.data.cast_const(), host.len);
            !(**block).srv_conf.is_null() && host.eq_ignore_ascii_case(name)
        })
    }
}

/// What `balancer.recreate_request` of ngx_lua has made anew: there is no request yet.
unsafe extern "C" fn nothing_made(_: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    ffi::NGX_OK as _
}

/// # Safety
/// `at` must be of the size that its family says, and of this length.
unsafe fn address(at: *mut ffi::sockaddr, len: ffi::socklen_t) -> Option<Address> {
    // SAFETY: by contract; a path is as long as nginx says.
    unsafe {
        if let Some(ip) = sockaddr::ip(at.cast()) {
            let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            return Some(Address {
                host: host.into_bytes(),
                port: Some(ffi::ngx_inet_get_port(at)),
            });
        }
        let mut text = [0u8; 128];
        let n = ffi::ngx_sock_ntop(at, len, text.as_mut_ptr(), text.len(), 0);
        let host = text[..n].to_vec();
        host.starts_with(b"unix:").then_some(Address { host, port: None })
    }
}
