//! The content directives `websocket_status`, `websocket_publish`, `websocket_subscribe` and
//! `websocket_proxy`: their C side. One content handler serves a location; what it does stands in
//! `status`, `push` and `proxy`.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;

use ngx::ngx_conf_log_error;

use super::arguments::DUPLICATE;
use super::location::{Content, Format, Location, Value};
use super::lookup::{compile, location_of};
use super::proxied::{Given, Proxied};
use super::proxy;
use super::push;
use super::status::{self, Form};
use crate::ffi;
use crate::ngx::guard::guarded;
use crate::ngx::http_conf::core_location;
use crate::ngx::pool;
use crate::ngx::request::Request;
use crate::ngx::upstream_conf::Conf;

const ERROR: *mut c_char = ffi::NGX_CONF_ERROR;
/// Before the value of `since`, and that of `info`.
const SINCE: &[u8] = b"since=";
const INFO: &[u8] = b"info=";

/// The core module's part of the location being read or merged.
///
/// # Safety
/// `cf` must be the configuration being read, in a location.
unsafe fn core_of(cf: *mut ffi::ngx_conf_t) -> *mut ffi::ngx_http_core_loc_conf_t {
    // SAFETY: in a location `ctx` is nginx's ngx_http_conf_ctx_t.
    unsafe { core_location((*(*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>()).loc_conf) }
}

/// Makes ours the content handler of the location being read, whose directives must not be in each
/// other's way. Returns what the setter returns.
///
/// # Safety
/// `cf` must be the configuration being read, in a location.
unsafe fn set_handler(cf: *mut ffi::ngx_conf_t, content: &Content) -> *mut c_char {
    if content.status.is_some() && !(content.publish.is_none() && content.subscribe.is_empty()) {
        return c"cannot share a location: websocket_status answers every request"
            .as_ptr()
            .cast_mut();
    }
    let pushes = content.publish.is_some() || !content.subscribe.is_empty();
    if content.proxy.is_some() && (content.status.is_some() || pushes) {
        return c"cannot share a location: websocket_proxy answers every request"
            .as_ptr()
            .cast_mut();
    }
    // SAFETY: by contract.
    unsafe { (*core_of(cf)).handler = Some(handler) };
    ptr::null_mut()
}

/// `if` and `limit_except` answer as the location around them does, unless they have content
/// directives of their own. As ngx_http_proxy_merge_loc_conf: nginx keeps the handler of the location
/// in an `if`, and has none in a `limit_except`.
///
/// # Safety
/// `cf` must be the configuration being merged, in a location.
pub unsafe fn inherit(cf: *mut ffi::ngx_conf_t, above: &Content, content: &mut Content) {
    // SAFETY: by contract.
    unsafe {
        let core = core_of(cf);
        if (*core).noname() != 0 && content.is_empty() {
            content.clone_from(above);
        }
        if (*core).lmt_excpt() != 0 && (*core).handler.is_none() && !content.is_empty() {
            (*core).handler = Some(handler);
        }
    }
}

/// The content handler.
unsafe extern "C" fn handler(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guarded("a content handler", ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
        // SAFETY: nginx calls a content handler with a request that is alive.
        let Some(r) = (unsafe { Request::from_ptr(r) }) else { return 500 };
        let content = &location_of(r).content;
        match content.status {
            Some(form) => status::handle(r, form, content.health),
            None if content.proxy.is_some() => proxy::pass(r),
            None => push::handle(r),
        }
    })
}

/// A content directive: `fill` reads its words, which follow the directive's name, into what stands for
/// the location, where `is_there` says that an earlier one has. Returns what the setter returns, as
/// `fill` does where it fails.
///
/// # Safety
/// The pointers must be what nginx passes to a setter of a directive of `Location`.
unsafe fn set(
    cf: *mut ffi::ngx_conf_t,
    conf: *mut c_void,
    is_there: fn(&Content) -> bool,
    fill: impl FnOnce(&mut Content, &mut [ffi::ngx_str_t]) -> Result<(), *mut c_char>,
) -> *mut c_char {
    // SAFETY: by contract.
    unsafe {
        let content = &mut (*conf.cast::<Location>()).content;
        if is_there(content) {
            return DUPLICATE.as_ptr().cast_mut();
        }
        match fill(content, &mut words(cf)[1..]) {
            Ok(()) => set_handler(cf, content),
            Err(rc) => rc,
        }
    }
}

/// Setter of `websocket_status [json|prometheus|html] [health=broker]`.
pub unsafe extern "C" fn set_status(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let fill = |content: &mut Content, words: &mut [ffi::ngx_str_t]| {
        let mut form = None;
        for word in words {
            let named = match word.as_bytes() {
                b"health=broker" if !content.health => {
                    content.health = true;
                    continue;
                }
                text if form.is_some() || text.starts_with(b"health=") => {
                    return Err(refuse(cf, text, "websocket_status"));
                }
                b"json" => Form::Json,
                b"prometheus" => Form::Prometheus,
                b"html" => Form::Html,
                _ => return Err(c"must be json, prometheus or html".as_ptr().cast_mut()),
            };
            form = Some(named);
        }
        content.status = Some(form.unwrap_or(Form::Json));
        Ok(())
    };
    // SAFETY: nginx passes our struct and the directive's words.
    unsafe { set(cf, conf, |content| content.status.is_some(), fill) }
}

/// Setter of `websocket_publish topic [get] [delete]`.
pub unsafe extern "C" fn set_publish(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let fill = |content: &mut Content, words: &mut [ffi::ngx_str_t]| {
        let [topic, options @ ..] = words else { return Err(ERROR) };
        // SAFETY: the configuration is being read, and the word one of the directive's.
        content.publish = Some(unsafe { compile(cf, topic) }.ok_or(ERROR)?);
        for word in options {
            match word.as_bytes() {
                b"get" => content.gets = true,
                b"delete" => content.deletes = true,
                text => return Err(refuse(cf, text, "websocket_publish")),
            }
        }
        Ok(())
    };
    // SAFETY: nginx passes our struct and the directive's words.
    unsafe { set(cf, conf, |content| content.publish.is_some(), fill) }
}

/// Setter of `websocket_subscribe topic ... [since=value] [info=value] [format=raw|json|auto] [gap=ignore]`.
pub unsafe extern "C" fn set_subscribe(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let fill = |content: &mut Content, words: &mut [ffi::ngx_str_t]| {
        for word in words {
            // Options are known by the word as written, never by what a variable holds.
            match word.as_bytes() {
                b"format=raw" => content.format = Format::Raw,
                b"format=json" => content.format = Format::Json,
                b"format=auto" => content.format = Format::Auto,
                b"gap=ignore" => content.ignores_gaps = true,
                text if text.starts_with(SINCE) => {
                    // SAFETY: the configuration is being read, and the word begins so.
                    let since = unsafe { compile_rest(cf, word, SINCE) };
                    content.since = Some(since.ok_or(ERROR)?);
                }
                text if text.starts_with(INFO) => {
                    // SAFETY: as above.
                    let info = unsafe { compile_rest(cf, word, INFO) };
                    content.info = Some(info.ok_or(ERROR)?);
                }
                text if [&b"format="[..], b"gap="].iter().any(|name| text.starts_with(name)) => {
                    return Err(refuse(cf, text, "websocket_subscribe"));
                }
                _ => {
                    // SAFETY: as above.
                    let topic = unsafe { compile(cf, word) };
                    content.subscribe.push(topic.ok_or(ERROR)?);
                }
            }
        }
        if content.subscribe.is_empty() {
            return Err(c"needs a topic".as_ptr().cast_mut());
        }
        Ok(())
    };
    // SAFETY: nginx passes our struct and the directive's words.
    unsafe { set(cf, conf, |content| !content.subscribe.is_empty(), fill) }
}

/// Compiles what a word has after its beginning.
///
/// # Safety
/// `cf` must be what nginx passes to a setter, `word` one of the directive's and begin so.
unsafe fn compile_rest(
    cf: *mut ffi::ngx_conf_t,
    word: &ffi::ngx_str_t,
    begin: &[u8],
) -> Option<*mut Value> {
    // SAFETY: the rest lies within the word.
    unsafe {
        let (len, data) = (word.len - begin.len(), word.data.add(begin.len()));
        compile(cf, &mut ffi::ngx_str_t { len, data })
    }
}

/// Setter of `websocket_proxy url [option=value ...]`.
pub unsafe extern "C" fn set_proxy(
    cf: *mut ffi::ngx_conf_t,
    _cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let fill = |content: &mut Content, words: &mut [ffi::ngx_str_t]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let given = Given::parse(&words).map_err(|text| {
            ngx_conf_log_error!(
                ffi::NGX_LOG_EMERG,
                cf,
                "{} in \"websocket_proxy\" directive",
                text
            );
            ERROR
        })?;
        // SAFETY: the configuration is being read, in a location.
        content.proxy = Some(Rc::new(unsafe { make_proxy(cf, given) }.ok_or(ERROR)?));
        Ok(())
    };
    // SAFETY: nginx passes our struct and the directive's words.
    unsafe { set(cf, conf, |content| content.proxy.is_some(), fill) }
}

/// Makes of the words what nginx needs. None: the reason has been logged.
///
/// # Safety
/// `cf` must be the configuration being read, in a location.
unsafe fn make_proxy(cf: *mut ffi::ngx_conf_t, mut given: Given) -> Option<Proxied> {
    // SAFETY: by contract; nginx copies the words that it keeps, or they are of its pool.
    unsafe {
        let value = |text: &[u8]| {
            let mut kept = pool::kept((*cf).pool, text)?;
            compile(cf, &mut kept)
        };
        let target = match &given.target {
            Some(target) => Some(value(target)?),
            None => None,
        };
        let host = value(&given.host)?;
        if let (Some(name), Some(tls)) = (&given.ssl_name, &mut given.wanted.tls) {
            tls.name = Some(value(name)?);
        }
        let conf = Conf::new(cf, &given.wanted)?;
        Some(Proxied { conf, target, host, given })
    }
}

/// Says that a parameter is none. Returns what the setter returns.
fn refuse(cf: *mut ffi::ngx_conf_t, word: &[u8], name: &str) -> *mut c_char {
    let word = String::from_utf8_lossy(word);
    ngx_conf_log_error!(
        ffi::NGX_LOG_EMERG,
        cf,
        "invalid parameter \"{}\" in \"{}\" directive",
        word,
        name
    );
    ERROR
}

/// The words of the directive being read.
///
/// # Safety
/// `cf` must be what nginx passes to a setter.
unsafe fn words<'c>(cf: *mut ffi::ngx_conf_t) -> &'c mut [ffi::ngx_str_t] {
    // SAFETY: the words live while the directive is read, and nobody else looks at them.
    unsafe {
        let args = (*cf).args;
        std::slice::from_raw_parts_mut((*args).elts.cast(), (*args).nelts)
    }
}
