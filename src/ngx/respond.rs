//! Answering a request with a body made in memory, and reading the body it came with: for the
//! content handlers that need no Lua.

use std::ptr;

use super::guard::guarded;
use super::request::Request;
use crate::ffi;

/// Sends status, type and body. Returns what a content handler returns.
pub fn respond(r: Request, status: u32, content_type: &'static str, body: &[u8]) -> isize {
    let r = r.as_ptr();
    // SAFETY: r is alive (Request's contract); buffer and body come from its pool, so they live
    // until nginx has sent them.
    unsafe {
        (*r).headers_out.status = status as usize;
        (*r).headers_out.content_length_n = body.len() as i64;
        let kind =
            ffi::ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
        (*r).headers_out.content_type = kind;
        (*r).headers_out.content_type_len = content_type.len();
        let rc = ffi::ngx_http_send_header(r);
        if rc == ffi::NGX_ERROR as isize
            || rc > ffi::NGX_OK as isize
            || ffi::HTTP_REQUEST_HEADER_ONLY.get(r) != 0
        {
            return rc;
        }
        let buf = ffi::ngx_create_temp_buf((*r).pool, body.len().max(1));
        if buf.is_null() {
            return ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
        }
        ptr::copy_nonoverlapping(body.as_ptr(), (*buf).pos, body.len());
        (*buf).last = (*buf).pos.add(body.len());
        // A part of another request's answer does not end it (SSI, add_after_body).
        (*buf).set_last_buf(u32::from(ptr::eq(r, (*r).main)));
        (*buf).set_last_in_chain(1);
        if body.is_empty() {
            (*buf).set_temporary(0);
        }
        let mut out = ffi::ngx_chain_t { buf, next: ptr::null_mut() };
        ffi::ngx_http_output_filter(r, &mut out)
    }
}

/// How a request goes on once nginx has done for it what takes time: its body has been read, its
/// response header has left. The value returned is a content handler's.
pub trait GoOn: 'static {
    /// The directive whose handler it is, for the log.
    const WHAT: &'static str;
    /// Goes on.
    fn go_on(r: Request) -> isize;
}

/// Goes on with `r`, and hands what comes of it to nginx.
///
/// # Safety
/// `r` must be alive, and wait for this by a count of its own.
pub(super) unsafe fn go_on<T: GoOn>(r: *mut ffi::ngx_http_request_t) {
    let rc = guarded(T::WHAT, ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: by contract.
        unsafe { Request::from_ptr(r) }.map_or(500, T::go_on)
    });
    // SAFETY: by contract; the count goes with it.
    unsafe { ffi::ngx_http_finalize_request(r, rc) };
}

/// Reads the request's body, then goes on. Returns what the content handler returns. Limits and
/// buffering are nginx's (client_max_body_size, client_body_buffer_size), and so is the answer to
/// `Expect: 100-continue`.
pub fn with_body<T: GoOn>(r: Request) -> isize {
    unsafe extern "C" fn read<T: GoOn>(r: *mut ffi::ngx_http_request_t) {
        // SAFETY: the request waits for this since `with_body` said NGX_DONE.
        unsafe { go_on::<T>(r) };
    }
    // SAFETY: r is alive; nginx calls `read` with it once the body is there.
    let rc = unsafe { ffi::ngx_http_read_client_request_body(r.as_ptr(), Some(read::<T>)) };
    if rc >= ffi::NGX_HTTP_SPECIAL_RESPONSE as isize {
        rc
    } else {
        ffi::NGX_DONE as isize
    }
}

/// The body that `with_body` read, from memory or from nginx's temporary file. None: the file
/// cannot be read, or there is no memory for it.
pub fn body_of(r: Request) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    // SAFETY: r is alive and its body has been read; each buffer lies in memory or in an open
    // file, as its flags say (nginx development guide, "Buffer").
    unsafe {
        let read = (*r.as_ptr()).request_body;
        let mut link = if read.is_null() { ptr::null_mut() } else { (*read).bufs };
        while !link.is_null() {
            let buf = (*link).buf;
            if (*buf).in_file() != 0 {
                let len = ((*buf).file_last - (*buf).file_pos) as usize;
                let start = body.len();
                body.try_reserve(len).ok()?;
                body.resize(start + len, 0);
                let (file, at) = ((*buf).file, (*buf).file_pos);
                let n = ffi::ngx_read_file(file, body[start..].as_mut_ptr(), len, at);
                if n < 0 || n as usize != len {
                    return None;
                }
            } else {
                let len = (*buf).last as usize - (*buf).pos as usize;
                body.try_reserve(len).ok()?;
                body.extend_from_slice(ffi::slice((*buf).pos, len));
            }
            link = (*link).next;
        }
    }
    Some(body)
}

/// Discards the body of a request that is answered without it.
pub fn discard_body(r: Request) -> isize {
    // SAFETY: r is alive.
    unsafe { ffi::ngx_http_discard_request_body(r.as_ptr()) }
}
