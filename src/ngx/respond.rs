//! Answering a request with a body made in memory, and reading the body it came with: for the
//! content handlers that need no Lua.

use std::borrow::Cow;
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

/// Gives a response header a value. `lowcase` is its name in lower case. False: no memory.
pub fn set_header(
    r: Request,
    name: &'static str,
    lowcase: &'static str,
    value: &'static str,
) -> bool {
    // SAFETY: alive by construction.
    unsafe { set(r.as_ptr(), name, lowcase, Some(Bytes::Static(value))) }
}

/// What the 101 of an accepted upgrade says.
#[derive(Clone, Copy, Debug)]
pub struct Switch<'a> {
    /// Sec-WebSocket-Accept.
    pub accept: &'a str,
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
    /// The filters refused the header.
    NoHeader,
    /// The filters refused to send it on.
    NoFlush,
}

/// Sends the 101 of an accepted upgrade. Headers that were set before go with it, but for those
/// that it sets itself, and for a content type.
pub fn switch(r: Request, with: &Switch<'_>) -> Switched {
    let protocol = with.protocol.map(escaped);
    let r = r.as_ptr();
    // SAFETY: r is alive. The status line is static.
    unsafe {
        let own = |name, lowcase, value: Option<Bytes<'_>>| {
            (value.is_none() && !with.only) || set(r, name, lowcase, value)
        };
        let (accept, extensions) = (Some(bytes(with.accept)), with.extensions.map(bytes));
        let protocol = protocol.as_deref().map(Bytes::Copied);
        let ready = set(r, "Upgrade", "upgrade", Some(Bytes::Static("websocket")))
            && set(r, "Sec-WebSocket-Accept", "sec-websocket-accept", accept)
            && set(r, "Content-Type", "content-type", None)
            && own("Sec-WebSocket-Protocol", "sec-websocket-protocol", protocol)
            && own("Sec-WebSocket-Extensions", "sec-websocket-extensions", extensions);
        if !ready {
            return Switched::NoHeader;
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
        let refused = |rc: isize| rc == ffi::NGX_ERROR as isize || rc > ffi::NGX_OK as isize;
        if refused(ffi::ngx_http_send_header(r)) {
            return Switched::NoHeader;
        }
        if refused(ffi::ngx_http_send_special(r, ffi::NGX_HTTP_FLUSH as usize)) {
            return Switched::NoFlush;
        }
        let c = (*r).connection;
        let waits = (*c).buffered() != 0 || (*(*c).write).delayed() != 0;
        if waits || ffi::HTTP_REQUEST_HEADER_ONLY.get(r) != 0 || !(*r).out.is_null() {
            Switched::Waiting
        } else {
            Switched::Sent
        }
    }
}

/// The value of a response header.
enum Bytes<'a> {
    Static(&'static str),
    /// To be copied into the request's pool.
    Copied(&'a [u8]),
}

fn bytes(text: &str) -> Bytes<'_> {
    Bytes::Copied(text.as_bytes())
}

/// Gives a response header this value, or takes it away. False: no memory.
///
/// # Safety
/// `r` must be alive.
unsafe fn set(
    r: *mut ffi::ngx_http_request_t,
    name: &'static str,
    lowcase: &'static str,
    value: Option<Bytes<'_>>,
) -> bool {
    // SAFETY: by contract. A list part holds `nelts` initialised elements (nginx development guide,
    // "Lists"); hash 0 marks a header that is not sent.
    unsafe {
        let text = match value {
            None => ffi::ngx_str_t::empty(),
            Some(Bytes::Static(text)) => {
                ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
            }
            Some(Bytes::Copied(text)) => {
                let data = ffi::ngx_pnalloc((*r).pool, text.len().max(1)).cast::<u8>();
                if data.is_null() {
                    return false;
                }
                ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
                ffi::ngx_str_t { len: text.len(), data }
            }
        };
        let mut is_set = text.len == 0;
        let mut part = ptr::addr_of_mut!((*r).headers_out.headers.part);
        while !part.is_null() {
            let headers = (*part).elts.cast::<ffi::ngx_table_elt_t>();
            for i in 0..(*part).nelts {
                let header = headers.add(i);
                let same = (*header).hash != 0
                    && (*header).key.as_bytes().eq_ignore_ascii_case(name.as_bytes());
                if same {
                    (*header).hash = usize::from(!is_set);
                    (*header).value = text;
                    is_set = true;
                }
            }
            part = (*part).next;
        }
        if is_set {
            return true;
        }
        let header = ffi::ngx_list_push(ptr::addr_of_mut!((*r).headers_out.headers))
            .cast::<ffi::ngx_table_elt_t>();
        if header.is_null() {
            return false;
        }
        // Newer versions chain headers of one name: all of the element must be ours.
        ptr::write_bytes(header, 0, 1);
        (*header).hash = 1;
        (*header).key = ffi::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        (*header).lowcase_key = lowcase.as_ptr().cast_mut();
        (*header).value = text;
        true
    }
}

/// A value with its control characters escaped, as ngx_lua does to those it is given.
fn escaped(value: &[u8]) -> Cow<'_, [u8]> {
    let bad = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    if !value.iter().any(bad) {
        return Cow::Borrowed(value);
    }
    let mut text = Vec::with_capacity(value.len() + 8);
    for b in value {
        if bad(b) {
            text.extend_from_slice(format!("%{b:02X}").as_bytes());
        } else {
            text.push(*b);
        }
    }
    Cow::Owned(text)
}
