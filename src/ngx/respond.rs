//! Answering a request with a body made in memory, and reading the body it came with: for the
//! content handlers that need no Lua.

use std::ptr;

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
        if rc == ffi::NGX_ERROR as isize || rc > ffi::NGX_OK as isize || (*r).header_only() != 0 {
            return rc;
        }
        let buf = ffi::ngx_create_temp_buf((*r).pool, body.len().max(1));
        if buf.is_null() {
            return ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
        }
        ptr::copy_nonoverlapping(body.as_ptr(), (*buf).pos, body.len());
        (*buf).last = (*buf).pos.add(body.len());
        (*buf).set_last_buf(1);
        (*buf).set_last_in_chain(1);
        if body.is_empty() {
            (*buf).set_temporary(0);
        }
        let mut out = ffi::ngx_chain_t { buf, next: ptr::null_mut() };
        ffi::ngx_http_output_filter(r, &mut out)
    }
}

/// Reads the request's body, then calls `done`. Returns what the content handler returns. Limits
/// and buffering are nginx's (client_max_body_size, client_body_buffer_size).
pub fn with_body(r: Request, done: ffi::ngx_http_client_body_handler_pt) -> isize {
    // SAFETY: r is alive; nginx calls `done` with it once the body is there.
    let rc = unsafe { ffi::ngx_http_read_client_request_body(r.as_ptr(), done) };
    if rc >= ffi::NGX_HTTP_SPECIAL_RESPONSE as isize {
        rc
    } else {
        ffi::NGX_DONE as isize
    }
}

/// The body that `with_body` read, from memory or from nginx's temporary file. None: the file
/// cannot be read.
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
                body.resize(start + len, 0);
                let (file, at) = ((*buf).file, (*buf).file_pos);
                let n = ffi::ngx_read_file(file, body[start..].as_mut_ptr(), len, at);
                if n < 0 || n as usize != len {
                    return None;
                }
            } else {
                let len = (*buf).last as usize - (*buf).pos as usize;
                body.extend_from_slice(std::slice::from_raw_parts((*buf).pos, len));
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

/// Adds a header to the response. False: no memory.
pub fn add_header(r: Request, name: &'static str, value: &str) -> bool {
    let r = r.as_ptr();
    // SAFETY: r is alive; the value is copied into its pool, the name is static.
    unsafe {
        let header =
            ffi::ngx_list_push(&mut (*r).headers_out.headers).cast::<ffi::ngx_table_elt_t>();
        let data = ffi::ngx_pnalloc((*r).pool, value.len().max(1)).cast::<u8>();
        if header.is_null() || data.is_null() {
            return false;
        }
        // Newer versions chain headers of one name: all of the element must be ours.
        ptr::write_bytes(header, 0, 1);
        ptr::copy_nonoverlapping(value.as_ptr(), data, value.len());
        (*header).hash = 1;
        (*header).key = ffi::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        (*header).value = ffi::ngx_str_t { len: value.len(), data };
    }
    true
}

/// Sends the 101 of an accepted upgrade, and sees to it that it has left before anything else does.
/// False: it could not be sent.
pub fn upgrade(request: Request, accept: &str, extensions: Option<&str>) -> bool {
    let set = |name, value: &str| add_header(request, name, value);
    let ready = set("Upgrade", "websocket")
        && set("Sec-WebSocket-Accept", accept)
        && extensions.is_none_or(|value| set("Sec-WebSocket-Extensions", value));
    let r = request.as_ptr();
    // SAFETY: r is alive.
    unsafe {
        (*r).headers_out.status = 101;
        (*r).headers_out.content_length_n = -1;
        (*r).set_keepalive(0);
        (*r).set_lingering_close(1);
        ready
            && ffi::ngx_http_send_header(r) != ffi::NGX_ERROR as isize
            && ffi::ngx_http_send_special(r, ffi::NGX_HTTP_FLUSH as usize) == ffi::NGX_OK as isize
            && (*r).out.is_null()
    }
}
