//! Whom a request has asked by itself, with a cosocket, told as nginx's own machinery tells it: one
//! state for each try in the request's list, of which nginx's variables ($upstream_addr,
//! $upstream_status) and balancers (`get_last_failure` of ngx_lua) are made.

use std::ptr;

use super::request::Request;
use crate::ffi;

/// What nginx's states have for a time that was not taken.
const NO_TIME: ffi::ngx_msec_t = ffi::ngx_msec_t::MAX;

/// A try begins; `again` says that it follows another of the same asking. False: no memory.
pub fn begin(r: Request, again: bool) -> bool {
    let r = r.as_ptr();
    // SAFETY: alive by construction; the list is of the request's pool.
    unsafe {
        const SIZE: usize = size_of::<ffi::ngx_http_upstream_state_t>();
        if (*r).upstream_states.is_null() {
            (*r).upstream_states = ffi::ngx_array_create((*r).pool, 1, SIZE);
        } else if !again && push(r).is_null() {
            // An empty state stands between what different locations have asked.
            return false;
        }
        let state = push(r);
        let Some(state) = state.as_mut() else { return false };
        state.connect_time = NO_TIME;
        state.header_time = NO_TIME;
        state.response_time = NO_TIME;
    }
    true
}

/// The peer of the last try.
pub fn note_peer(r: Request, name: &[u8]) {
    // SAFETY: alive by construction; the name is copied into the request's pool.
    unsafe {
        let pool = (*r.as_ptr()).pool;
        let text = ffi::ngx_palloc(pool, size_of::<ffi::ngx_str_t>()).cast::<ffi::ngx_str_t>();
        let data = ffi::ngx_pnalloc(pool, name.len().max(1)).cast::<u8>();
        let Some(state) = last(r).filter(|_| !text.is_null() && !data.is_null()) else { return };
        ptr::copy_nonoverlapping(name.as_ptr(), data, name.len());
        text.write(ffi::ngx_str_t { len: name.len(), data });
        state.peer = text;
    }
}

/// How the last try has ended: the answer's status, or the one that fits.
pub fn note_status(r: Request, status: u16) {
    if let Some(state) = last(r) {
        state.status = status.into();
    }
}

/// The last try's state.
fn last(r: Request<'_>) -> Option<&mut ffi::ngx_http_upstream_state_t> {
    // SAFETY: alive by construction; the list's elements are states, `nelts` of them.
    unsafe {
        let states = (*r.as_ptr()).upstream_states.as_ref()?;
        let last = states.nelts.checked_sub(1)?;
        states.elts.cast::<ffi::ngx_http_upstream_state_t>().add(last).as_mut()
    }
}

/// One more state, all zero. Null: no memory.
///
/// # Safety
/// `r` must be alive.
unsafe fn push(r: *mut ffi::ngx_http_request_t) -> *mut ffi::ngx_http_upstream_state_t {
    // SAFETY: by contract; an element is as long as the list was made for.
    unsafe {
        let states = (*r).upstream_states;
        if states.is_null() {
            return ptr::null_mut();
        }
        let state = ffi::ngx_array_push(states).cast::<ffi::ngx_http_upstream_state_t>();
        if !state.is_null() {
            ptr::write_bytes(state, 0, 1);
        }
        state
    }
}
