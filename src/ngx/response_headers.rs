//! The response's headers: one is given a value, or taken away, whoever has set it before; and what may
//! stand in a value.

use std::ptr;

use super::request::Request;
use crate::ffi;

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

/// The value of a response header.
pub(super) enum Bytes<'a> {
    Static(&'static str),
    /// To be copied into the request's pool.
    Copied(&'a [u8]),
}

pub(super) fn bytes(text: &str) -> Bytes<'_> {
    Bytes::Copied(text.as_bytes())
}

/// Gives a response header this value, or takes it away. False: no memory.
///
/// # Safety
/// `r` must be alive.
pub(super) unsafe fn set(
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
