//! Content handlers that need no Lua: `websocket_status`, `websocket_publish`, `websocket_subscribe`.
//! This file is their C side; what they do stands in `status` and `push`.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::ptr;

use super::location::Location;
use super::status::{self, Form};
use super::{location_of, push};
use crate::ffi;
use crate::ngx::guard::guarded;
use crate::ngx::request::Request;
use crate::ngx::respond::with_body;

const ERROR: *mut c_char = usize::MAX as *mut c_char;

/// Makes `handler` the content handler of the location being read.
///
/// # Safety
/// `cf` must be the configuration being read, in a location.
unsafe fn set_handler(
    cf: *mut ffi::ngx_conf_t,
    handler: unsafe extern "C" fn(*mut ffi::ngx_http_request_t) -> ffi::ngx_int_t,
) {
    // SAFETY: in a location `ctx` is nginx's ngx_http_conf_ctx_t, and the core module has a
    // configuration there.
    unsafe {
        let ctx = (*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>();
        let index = (*ptr::addr_of!(ffi::ngx_http_core_module)).ctx_index;
        let core = (*(*ctx).loc_conf.add(index)).cast::<ffi::ngx_http_core_loc_conf_t>();
        (*core).handler = Some(handler);
    }
}

/// Setter of `websocket_status [json|prometheus|html]`.
pub unsafe extern "C" fn set_status(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes our struct and the directive's words.
    unsafe {
        let location = &mut *conf.cast::<Location>();
        if location.status.is_some() {
            return super::location::DUPLICATE.as_ptr().cast_mut();
        }
        let args = (*cf).args;
        let words = ffi::slice((*args).elts.cast::<ffi::ngx_str_t>(), (*args).nelts);
        location.status = match words.get(1).map(|word| word.as_bytes()) {
            None | Some(b"json") => Some(Form::Json),
            Some(b"prometheus") => Some(Form::Prometheus),
            Some(b"html") => Some(Form::Html),
            Some(_) => return c"must be json, prometheus or html".as_ptr().cast_mut(),
        };
        set_handler(cf, status_handler);
    }
    ptr::null_mut()
}

unsafe extern "C" fn status_handler(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guarded("websocket_status", ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: nginx calls a content handler with a request that is alive.
        let Some(r) = (unsafe { Request::from_ptr(r) }) else { return 500 };
        status::handle(r, location_of(r).status.unwrap_or(Form::Json))
    })
}

/// Setter of `websocket_publish` and `websocket_subscribe`: a topic with variables.
///
/// # Safety
/// The pointers must be what nginx passes to a setter.
unsafe fn set_topic(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
    handler: unsafe extern "C" fn(*mut ffi::ngx_http_request_t) -> ffi::ngx_int_t,
) -> *mut c_char {
    // SAFETY: nginx's own setter for a value with variables; it writes to the field whose offset
    // the row holds.
    unsafe {
        let rc = ffi::ngx_http_set_complex_value_slot(cf, cmd, conf);
        if !rc.is_null() {
            return rc;
        }
        set_handler(cf, handler);
    }
    ptr::null_mut()
}

/// Setter of `websocket_publish topic`.
pub unsafe extern "C" fn set_publish(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's own arguments.
    unsafe { set_topic(cf, cmd, conf, publish_handler) }
}

/// Setter of `websocket_subscribe topic ...`.
pub unsafe extern "C" fn set_subscribe(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes our struct and the directive's words; the values are compiled into
    // the configuration's pool, where the vector's elements point.
    unsafe {
        let location = &mut *conf.cast::<Location>();
        if !location.subscribe.is_empty() {
            return super::location::DUPLICATE.as_ptr().cast_mut();
        }
        let args = (*cf).args;
        let words =
            std::slice::from_raw_parts_mut((*args).elts.cast::<ffi::ngx_str_t>(), (*args).nelts);
        for word in &mut words[1..] {
            let value = ffi::ngx_pcalloc((*cf).pool, size_of::<ffi::ngx_http_complex_value_t>());
            if value.is_null() {
                return ERROR;
            }
            let mut compile: ffi::ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = cf;
            compile.value = word;
            compile.complex_value = value.cast();
            if ffi::ngx_http_compile_complex_value(&mut compile) != ffi::NGX_OK as isize {
                return ERROR;
            }
            location.subscribe.push(value.cast());
        }
        set_handler(cf, subscribe_handler);
    }
    ptr::null_mut()
}

/// The value of a topic for this request. None: nginx has no memory.
fn evaluate(r: Request, value: *mut ffi::ngx_http_complex_value_t) -> Option<Vec<u8>> {
    let mut text = ffi::ngx_str_t::empty();
    // SAFETY: r is alive; the value was compiled when the configuration was read.
    let rc = unsafe { ffi::ngx_http_complex_value(r.as_ptr(), value, &mut text) };
    (rc == ffi::NGX_OK as isize).then(|| text.as_bytes().to_vec())
}

unsafe extern "C" fn publish_handler(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guarded("websocket_publish", ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: as above.
        let Some(r) = (unsafe { Request::from_ptr(r) }) else { return 500 };
        match push::may_publish(r) {
            Ok(()) => with_body(r, Some(publish_body)),
            Err(status) => status,
        }
    })
}

unsafe extern "C" fn publish_body(r: *mut ffi::ngx_http_request_t) {
    let rc = guarded("websocket_publish", ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: as above.
        let Some(request) = (unsafe { Request::from_ptr(r) }) else { return 500 };
        match evaluate(request, location_of(request).publish) {
            Some(topic) => push::publish(request, &topic),
            None => 500,
        }
    });
    // SAFETY: the request waits for this since `with_body` said NGX_DONE.
    unsafe { ffi::ngx_http_finalize_request(r, rc) };
}

unsafe extern "C" fn subscribe_handler(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guarded("websocket_subscribe", ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: as above.
        let Some(r) = (unsafe { Request::from_ptr(r) }) else { return 500 };
        let values = &location_of(r).subscribe;
        let topics: Option<Vec<_>> = values.iter().map(|value| evaluate(r, *value)).collect();
        match topics {
            Some(topics) => push::subscribe(r, topics),
            None => 500,
        }
    })
}

/// Where `websocket_publish` keeps its topic.
pub const PUBLISH_OFFSET: usize = offset_of!(Location, publish);
