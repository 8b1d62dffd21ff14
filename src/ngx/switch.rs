//! The 101 of an accepted upgrade, and what it takes until it has left: a response that has to wait
//! (`limit_rate`, a full socket buffer) is no failure.

use std::ptr;

use super::http_conf::core_location;
use super::log::escaped;
use super::request::Request;
use super::respond::{go_on, GoOn};
use super::response_headers::{bytes, set, Bytes};
use crate::ffi;

/// The status of a request whose client cannot be answered any more. nginx and ngx_lua end such a
/// request without another word.
pub const CLIENT_GONE: isize = ffi::NGX_HTTP_CLIENT_CLOSED_REQUEST as isize;

/// What the 101 of an accepted upgrade says.
#[derive(Clone, Copy, Debug)]
pub struct Switch<'a> {
    /// Sec-WebSocket-Accept.
    pub accept: &'a [u8],
    /// Sec-WebSocket-Protocol. Maybe the client's own bytes.
    pub protocol: Option<&'a [u8]>,
    /// Sec-WebSocket-Extensions.
    pub extensions: Option<&'a str>,
    /// Whether the two above go away where they are not given here but were set before.
    pub only: bool,
}

/// What became of the 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// The kernel has all of it.
    Sent,
    /// A part still waits, or must not leave yet (`limit_rate`), or nginx has held it back.
    Waiting,
}

/// Why the 101 cannot leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The filters refused the header.
    Header,
    /// The filters refused to send it on: mostly the client has gone.
    Flush,
}

/// Makes the response of `r` the 101 of an accepted upgrade, to be sent. Headers that were set before
/// go with it, but for those that it sets itself, and for a content type.
pub fn dress(r: Request, with: &Switch<'_>) -> Result<(), Failed> {
    let protocol = with.protocol.map(escaped);
    let r = r.as_ptr();
    // SAFETY: r is alive. The status line is static.
    unsafe {
        let own = |name, lowcase, value: Option<Bytes<'_>>| {
            (value.is_none() && !with.only) || set(r, name, lowcase, value)
        };
        let (accept, extensions) = (Some(Bytes::Copied(with.accept)), with.extensions.map(bytes));
        let protocol = protocol.as_deref().map(Bytes::Copied);
        let ready = set(r, "Upgrade", "upgrade", Some(Bytes::Static("websocket")))
            && set(r, "Sec-WebSocket-Accept", "sec-websocket-accept", accept)
            && set(r, "Content-Type", "content-type", None)
            && own("Sec-WebSocket-Protocol", "sec-websocket-protocol", protocol)
            && own("Sec-WebSocket-Extensions", "sec-websocket-extensions", extensions);
        if !ready {
            return Err(Failed::Header);
        }
        const LINE: &str = "101 Switching Protocols";
        let out = &mut (*r).headers_out;
        out.status = 101;
        out.status_line = ffi::ngx_str_t { len: LINE.len(), data: LINE.as_ptr().cast_mut() };
        out.content_type = ffi::ngx_str_t::empty();
        out.content_type_len = 0;
        out.content_type_lowcase = ptr::null_mut();
        (*r).err_status = 0;
        ffi::HTTP_REQUEST_KEEPALIVE.set(r, 0);
        ffi::HTTP_REQUEST_LINGERING_CLOSE.set(r, 1);
    }
    Ok(())
}

/// Sends the 101 of an accepted upgrade.
pub fn switch(r: Request, with: &Switch<'_>) -> Result<Switched, Failed> {
    dress(r, with)?;
    let r = r.as_ptr();
    // SAFETY: r is alive.
    unsafe {
        let refused = |rc: isize| rc == ffi::NGX_ERROR as isize || rc > ffi::NGX_OK as isize;
        if refused(ffi::ngx_http_send_header(r)) {
            return Err(Failed::Header);
        }
        if refused(ffi::ngx_http_send_special(r, ffi::NGX_HTTP_FLUSH as usize)) {
            return Err(Failed::Flush);
        }
        // A HEAD request, which the drop-in takes: nginx sends its header, and ngx_lua looks after it.
        if waits(r) || ffi::HTTP_REQUEST_HEADER_ONLY.get(r) != 0 {
            Ok(Switched::Waiting)
        } else {
            Ok(Switched::Sent)
        }
    }
}

/// Whether the kernel has taken all of the response so far.
pub fn has_left(r: Request) -> bool {
    // SAFETY: r is alive.
    unsafe { !waits(r.as_ptr()) }
}

/// Whether a part of the response has not been taken by the kernel.
///
/// # Safety
/// `r` must be alive.
unsafe fn waits(r: *mut ffi::ngx_http_request_t) -> bool {
    // SAFETY: by contract, and its connection is.
    unsafe { (*(*r).connection).buffered() != 0 || !(*r).out.is_null() }
}

/// Goes on once the response that waits has left, by nginx's own events; `send_timeout` holds.
/// Returns what the content handler returns. For requests without Lua: a light thread waits in
/// ngx.flush(true).
pub fn once_sent<T: GoOn>(r: Request) -> isize {
    let done = r.hold();
    let r = r.as_ptr();
    // SAFETY: r is alive, and kept so by the count above; nginx calls the handler for r's events.
    unsafe {
        (*r).write_event_handler = Some(writable::<T>);
        if wait_on(r) {
            done
        } else {
            ffi::NGX_ERROR as isize
        }
    }
}

/// Arms the write event of a response that waits. False: nginx cannot.
///
/// # Safety
/// `r` must be alive.
unsafe fn wait_on(r: *mut ffi::ngx_http_request_t) -> bool {
    // SAFETY: by contract. As in nginx's ngx_http_writer: what is delayed by limit_rate has its
    // timer set, which is no time-out.
    unsafe {
        let core = core_location((*r).loc_conf);
        let event = (*(*r).connection).write;
        if (*event).delayed() == 0 {
            ffi::ngx_add_timer(event, (*core).send_timeout);
        }
        ffi::ngx_handle_write_event(event, (*core).send_lowat) == ffi::NGX_OK as isize
    }
}

/// The write handler of a request whose response waits.
unsafe extern "C" fn writable<T: GoOn>(r: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls this with the request it was set on, which holds a count for it.
    unsafe {
        let c = (*r).connection;
        let event = (*c).write;
        if (*event).timedout() != 0 {
            (*c).set_timedout(1);
            return ffi::ngx_http_finalize_request(r, ffi::NGX_HTTP_REQUEST_TIME_OUT as isize);
        }
        let delayed = (*event).delayed() != 0;
        if !delayed && ffi::ngx_http_output_filter(r, ptr::null_mut()) == ffi::NGX_ERROR as isize {
            return ffi::ngx_http_finalize_request(r, CLIENT_GONE);
        }
        if !waits(r) {
            (*r).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
            return go_on::<T>(r);
        }
        if !wait_on(r) {
            ffi::ngx_http_finalize_request(r, ffi::NGX_ERROR as isize);
        }
    }
}
