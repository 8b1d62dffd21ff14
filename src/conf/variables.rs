//! Variables for the access log and Lua: what a request's connection is and has moved. Empty for a
//! request that was never upgraded.

use std::ffi::CStr;

use crate::ffi;
use crate::ngx::guard::guarded;
use crate::ngx::request::Request;
use crate::ngx::takeover;
use crate::session::Session;

type Getter = fn(&Session, Request) -> Option<String>;

/// Name and value of each variable; the row's number is nginx's `data`.
const VARIABLES: &[(&CStr, Getter)] = &[
    (c"websocket_id", |session, _| session.id().map(|id| id.to_string())),
    (c"websocket_protocol", |_, r| {
        r.response_header(b"sec-websocket-protocol")
            .map(|v| String::from_utf8_lossy(v).into_owned())
    }),
    (c"websocket_messages_in", |session, _| Some(session.tally().messages_in.to_string())),
    (c"websocket_messages_out", |session, _| Some(session.tally().messages_out.to_string())),
    (c"websocket_bytes_in", |session, _| Some(session.tally().bytes_in.to_string())),
    (c"websocket_bytes_out", |session, _| Some(session.tally().bytes_out.to_string())),
    (c"websocket_close_code", |session, _| session.outcome().map(|end| end.code().to_string())),
    (c"websocket_duration", |session, _| {
        let ms = session.age_ms();
        Some(format!("{}.{:03}", ms / 1000, ms % 1000))
    }),
];

/// Variables of `websocket_proxy`, and nginx's of which they are other names: whichever upstream has
/// been asked, also one that has refused.
const UPSTREAM: &[(&CStr, &[u8])] = &[
    (c"websocket_upstream_addr", b"upstream_addr"),
    (c"websocket_upstream_status", b"upstream_status"),
];

/// Makes the variables known. To be called in preconfiguration. False: nginx has logged why not.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn register(cf: *mut ffi::ngx_conf_t) -> bool {
    let add = |name: &CStr, row: usize, get: Handler| {
        let mut name =
            ffi::ngx_str_t { len: name.count_bytes(), data: name.as_ptr().cast_mut().cast() };
        // SAFETY: by contract; nginx copies the name (into lower case).
        unsafe {
            let flags = ffi::NGX_HTTP_VAR_NOCACHEABLE as ffi::ngx_uint_t;
            let variable = ffi::ngx_http_add_variable(cf, &mut name, flags);
            if variable.is_null() {
                return false;
            }
            (*variable).get_handler = Some(get);
            (*variable).data = row;
        }
        true
    };
    VARIABLES.iter().enumerate().all(|(row, (name, _))| add(name, row, get))
        && UPSTREAM.iter().enumerate().all(|(row, (name, _))| add(name, row, get_upstream))
}

type Handler = unsafe extern "C" fn(
    *mut ffi::ngx_http_request_t,
    *mut ffi::ngx_http_variable_value_t,
    usize,
) -> ffi::ngx_int_t;

/// A variable that is another one of nginx's.
unsafe extern "C" fn get_upstream(
    r: *mut ffi::ngx_http_request_t,
    value: *mut ffi::ngx_http_variable_value_t,
    row: usize,
) -> ffi::ngx_int_t {
    let (_, name) = UPSTREAM[row];
    let mut text = ffi::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    // SAFETY: nginx evaluates a variable for a request that is alive, and `value` is its to fill; the
    // name is in lower case, and only read.
    unsafe {
        let key = ffi::ngx_hash_key(text.data, text.len);
        match ffi::ngx_http_get_variable(r, &mut text, key).as_ref() {
            Some(found) => *value = *found,
            None => (*value).set_not_found(1),
        }
    }
    ffi::NGX_OK as _
}

unsafe extern "C" fn get(
    r: *mut ffi::ngx_http_request_t,
    value: *mut ffi::ngx_http_variable_value_t,
    row: usize,
) -> ffi::ngx_int_t {
    let text = guarded("a variable", None, || {
        // SAFETY: nginx evaluates a variable for a request that is alive.
        let r = unsafe { Request::from_ptr(r) }?;
        let session = takeover::session_in::<Session>(r).filter(|session| session.has_begun())?;
        (VARIABLES.get(row)?.1)(&session, r)
    });
    // SAFETY: `value` is nginx's to fill; the text is copied into the request's pool.
    unsafe {
        match text {
            Some(text) => {
                let data = ffi::ngx_pnalloc((*r).pool, text.len().max(1)).cast::<u8>();
                if data.is_null() {
                    return ffi::NGX_ERROR as _;
                }
                std::ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
                (*value).data = data;
                (*value).set_len(text.len() as u32);
                (*value).set_valid(1);
                (*value).set_no_cacheable(1);
                (*value).set_not_found(0);
            }
            None => (*value).set_not_found(1),
        }
    }
    ffi::NGX_OK as _
}
