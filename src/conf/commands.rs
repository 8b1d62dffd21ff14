//! The directive table and nginx's hooks around it. A simple directive is one row here and one
//! field in `Location`.

use std::ffi::{c_char, c_void, CStr};
use std::mem::offset_of;
use std::ptr;
use std::rc::Rc;

use ngx::ngx_conf_log_error;
use ws_hub::history::Rule;

use super::arguments::{ArgumentError, DUPLICATE};
use super::handlers;
use super::location::Location;
use super::main::{LuaModules, Main};
use crate::ffi;
use crate::hub;
use crate::ngx::block;
use crate::ngx::http_conf::http_block;
use crate::ngx::zone;

const EVERYWHERE: u32 = ffi::NGX_HTTP_MAIN_CONF | ffi::NGX_HTTP_SRV_CONF | ffi::NGX_HTTP_LOC_CONF;

type Setter =
    unsafe extern "C" fn(*mut ffi::ngx_conf_t, *mut ffi::ngx_command_t, *mut c_void) -> *mut c_char;

const fn name(text: &'static CStr) -> ffi::ngx_str_t {
    ffi::ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

const fn row(text: &'static CStr, args: u32, set: Setter, offset: usize) -> ffi::ngx_command_t {
    ffi::ngx_command_t {
        name: name(text),
        type_: (EVERYWHERE | args) as ffi::ngx_uint_t,
        set: Some(set),
        conf: ffi::NGX_HTTP_LOC_CONF_OFFSET,
        offset,
        post: ptr::null_mut(),
    }
}

/// A content directive: where `proxy_pass` may stand.
const fn content(text: &'static CStr, args: u32, set: Setter) -> ffi::ngx_command_t {
    let places = ffi::NGX_HTTP_LOC_CONF | ffi::NGX_HTTP_LIF_CONF | ffi::NGX_HTTP_LMT_CONF;
    ffi::ngx_command_t { type_: (places | args) as ffi::ngx_uint_t, ..row(text, args, set, 0) }
}

const ONE: u32 = ffi::NGX_CONF_TAKE1;
const SIZE: Setter = set_size;
const TIME: Setter = ffi::ngx_conf_set_msec_slot;

const fn value(text: &'static CStr, value: usize) -> ffi::ngx_conf_enum_t {
    ffi::ngx_conf_enum_t { name: name(text), value }
}

static mut SLOW: [ffi::ngx_conf_enum_t; 3] = [
    value(c"drop", 0),
    value(c"close", 1),
    ffi::ngx_conf_enum_t { name: ffi::ngx_str_t::empty(), value: 0 },
];

/// From its rows the table that nginx reads to its empty end.
macro_rules! table {
    ($($row:expr),+ $(,)?) => {
        /// The module's directives.
        pub static mut COMMANDS: [ffi::ngx_command_t; [$(stringify!($row)),+].len() + 1] =
            [$($row),+, ffi::ngx_command_t::empty()];
    };
}

table![
    row(c"websocket_max_message_size", ONE, SIZE, offset_of!(Location, max_message_size)),
    row(c"websocket_send_buffer", ONE, SIZE, offset_of!(Location, send_buffer)),
    row(c"websocket_recv_timeout", ONE, TIME, offset_of!(Location, recv_timeout)),
    row(c"websocket_send_timeout", ONE, TIME, offset_of!(Location, send_timeout)),
    row(c"websocket_ping_interval", ONE, TIME, offset_of!(Location, ping_interval)),
    row(c"websocket_ping_timeout", ONE, TIME, offset_of!(Location, ping_timeout)),
    row(c"websocket_compression", ffi::NGX_CONF_1MORE, set_compression, 0),
    row(c"websocket_shutdown_close", ffi::NGX_CONF_TAKE123, set_shutdown_close, 0),
    ffi::ngx_command_t {
        post: ptr::addr_of_mut!(SLOW).cast(),
        ..row(
            c"websocket_slow_consumer",
            ONE,
            ffi::ngx_conf_set_enum_slot,
            offset_of!(Location, slow_consumer),
        )
    },
    row(
        c"websocket_handler_close",
        ffi::NGX_CONF_FLAG,
        ffi::ngx_conf_set_flag_slot,
        offset_of!(Location, handler_close),
    ),
    row(
        c"websocket_detach",
        ffi::NGX_CONF_FLAG,
        ffi::ngx_conf_set_flag_slot,
        offset_of!(Location, detach),
    ),
    row(
        c"websocket_publish_from_client",
        ffi::NGX_CONF_FLAG,
        ffi::ngx_conf_set_flag_slot,
        offset_of!(Location, publish_from_client),
    ),
    row(c"websocket_origin", ffi::NGX_CONF_1MORE, set_origin, 0),
    content(c"websocket_status", ffi::NGX_CONF_NOARGS | ffi::NGX_CONF_TAKE12, handlers::set_status),
    content(c"websocket_publish", ffi::NGX_CONF_TAKE123, handlers::set_publish),
    content(c"websocket_subscribe", ffi::NGX_CONF_1MORE, handlers::set_subscribe),
    content(c"websocket_proxy", ffi::NGX_CONF_1MORE, handlers::set_proxy),
    ffi::ngx_command_t {
        name: name(c"websocket_zone"),
        type_: (ffi::NGX_HTTP_MAIN_CONF | ONE) as ffi::ngx_uint_t,
        set: Some(set_zone),
        conf: ffi::NGX_HTTP_MAIN_CONF_OFFSET,
        offset: offset_of!(Main, zone),
        post: ptr::null_mut(),
    },
    ffi::ngx_command_t {
        name: name(c"websocket_history_zone"),
        type_: (ffi::NGX_HTTP_MAIN_CONF | ONE) as ffi::ngx_uint_t,
        set: Some(set_history_zone),
        conf: ffi::NGX_HTTP_MAIN_CONF_OFFSET,
        offset: offset_of!(Main, history_zone),
        post: ptr::null_mut(),
    },
    ffi::ngx_command_t {
        name: name(c"websocket_topic"),
        type_: (ffi::NGX_HTTP_MAIN_CONF | ffi::NGX_CONF_1MORE) as ffi::ngx_uint_t,
        set: Some(set_topic),
        conf: ffi::NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ffi::ngx_command_t {
        name: name(c"websocket_broker"),
        type_: (ffi::NGX_HTTP_MAIN_CONF | ffi::NGX_CONF_BLOCK | ONE) as ffi::ngx_uint_t,
        set: Some(set_broker),
        conf: ffi::NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    row(
        c"websocket_max_subscriptions",
        ONE,
        ffi::ngx_conf_set_num_slot,
        offset_of!(Location, max_subscriptions),
    ),
    row(
        c"websocket_resume_limit",
        ONE,
        ffi::ngx_conf_set_num_slot,
        offset_of!(Location, resume_limit),
    ),
    row(c"websocket_rate", ffi::NGX_CONF_TAKE12, set_rate, 0),
    row(c"websocket_max_lifetime", ffi::NGX_CONF_TAKE12, set_lifetime, 0),
    ffi::ngx_command_t {
        name: name(c"websocket_lua_modules"),
        type_: (ffi::NGX_HTTP_MAIN_CONF | ffi::NGX_CONF_1MORE) as ffi::ngx_uint_t,
        set: Some(set_lua_modules),
        conf: ffi::NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
];

/// `create_main_conf` hook.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe extern "C" fn create_main_conf(cf: *mut ffi::ngx_conf_t) -> *mut c_void {
    // SAFETY: by contract.
    unsafe { in_pool(cf, Main::unset()) }
}

/// Puts `conf` into the configuration's pool, which drops it when it goes. Null: no memory.
///
/// # Safety
/// `cf` must be the configuration being read.
unsafe fn in_pool<C>(cf: *mut ffi::ngx_conf_t, conf: C) -> *mut c_void {
    /// Cleanup of the configuration's pool.
    unsafe extern "C" fn drop_conf<C>(conf: *mut c_void) {
        // SAFETY: made below; nginx runs a cleanup once.
        unsafe { ptr::drop_in_place(conf.cast::<C>()) };
    }
    // SAFETY: nginx's pool gives aligned memory for as long as the configuration lives; `write`
    // initialises it without reading it.
    unsafe {
        let cleanup = ffi::ngx_pool_cleanup_add((*cf).pool, size_of::<C>());
        if cleanup.is_null() {
            return ptr::null_mut();
        }
        let place = (*cleanup).data.cast::<C>();
        place.write(conf);
        (*cleanup).handler = Some(drop_conf::<C>);
        place.cast()
    }
}

/// Whether `require` is to find the modules of this family.
///
/// # Safety
/// `conf` must come from `create_main_conf`.
pub unsafe fn provides(conf: *const c_void, family: LuaModules) -> bool {
    // SAFETY: by contract.
    unsafe { (*conf.cast::<Main>()).provides(family) }
}

/// Asks nginx for the zones, once the configuration has been read, and keeps the http block's
/// own values for `merge_loc_conf`. False: nginx has logged
/// why not.
///
/// # Safety
/// `cf` must be the configuration being read, in its http block.
pub unsafe fn request_zone(cf: *mut ffi::ngx_conf_t) -> bool {
    // SAFETY: in the http block `ctx` is nginx's ngx_http_conf_ctx_t, and our main conf was made
    // by `create_main_conf`.
    unsafe {
        let ctx = (*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>();
        let index = ffi::ngx_http_lua_websocket_module.ctx_index;
        let main = (*(*ctx).main_conf.add(index)).cast::<Main>();
        (*main).top = (*(*ctx).loc_conf.add(index)).cast::<Location>();
        zone::HUB.request(cf, (*main).zone_size())
            && zone::HISTORY.request(cf, (*main).history_zone_size())
    }
}

/// The rules of topics, and the brokers, of a configuration that has been loaded; without an http
/// block none.
///
/// # Safety
/// `cycle` must be what nginx passes to init_module.
pub unsafe fn topic_rules(cycle: *mut ffi::ngx_cycle_t) -> (Vec<Rule>, Vec<Rc<hub::Broker>>) {
    // SAFETY: by contract; our main conf was made by `create_main_conf`.
    unsafe {
        let Some(ctx) = http_block(cycle) else { return (Vec::new(), Vec::new()) };
        let main = *ctx.main_conf.add(ffi::ngx_http_lua_websocket_module.ctx_index);
        let main = &*main.cast::<Main>();
        (main.topics.clone(), main.brokers_with_limits())
    }
}

unsafe extern "C" fn set_broker(
    cf: *mut ffi::ngx_conf_t,
    _: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls a setter with its own arguments; the row says that it is for `Main`.
    unsafe {
        let main = &mut *conf.cast::<Main>();
        let mut broker = match main.begin_broker(&block::words(cf)[1..], &block::folder(cf)) {
            Ok(broker) => broker,
            Err(fault) => return refuse(cf, fault),
        };
        let rc = block::read(cf, &mut |words| {
            broker.line(words).map_err(|fault| refuse(cf, fault)).err().unwrap_or_default()
        });
        if !rc.is_null() {
            return rc;
        }
        match main.end_broker(broker) {
            Ok(warnings) => {
                for warning in warnings {
                    ngx_conf_log_error!(ffi::NGX_LOG_WARN, cf, "{}", warning);
                }
                ptr::null_mut()
            }
            Err(fault) => refuse(cf, fault),
        }
    }
}

/// Says what is wrong in a `websocket_broker`.
fn refuse(cf: *mut ffi::ngx_conf_t, fault: ArgumentError) -> *mut c_char {
    let text = match fault {
        ArgumentError::Duplicate => "a duplicate".to_string(),
        ArgumentError::Text(text) => text,
    };
    ngx_conf_log_error!(ffi::NGX_LOG_EMERG, cf, "{} in \"websocket_broker\" directive", text);
    ffi::NGX_CONF_ERROR
}

unsafe extern "C" fn set_zone(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls a setter with its own arguments.
    unsafe { set_zone_size(cf, cmd, conf, |main| main.zone, hub::smallest_zone()) }
}

unsafe extern "C" fn set_history_zone(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls a setter with its own arguments.
    unsafe { set_zone_size(cf, cmd, conf, |main| main.history_zone, hub::smallest_history_zone()) }
}

/// Sets a zone's size, which must not be less than `smallest`.
///
/// # Safety
/// The pointers must be what nginx passes to a setter of a directive of `Main`.
unsafe fn set_zone_size(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
    size: fn(&Main) -> usize,
    smallest: usize,
) -> *mut c_char {
    // SAFETY: nginx's own setter, for the field whose offset the row holds; the conf is our struct,
    // the command our own row.
    let (rc, size, name) = unsafe {
        let rc = ffi::ngx_conf_set_size_slot(cf, cmd, conf);
        (rc, size(&*conf.cast::<Main>()), (*cmd).name.to_string())
    };
    if rc.is_null() && size < smallest {
        ngx_conf_log_error!(
            ffi::NGX_LOG_EMERG,
            cf,
            "zone of {} bytes is too small in \"{}\" directive: {}k at least",
            size,
            name,
            smallest.div_ceil(1024)
        );
        return ffi::NGX_CONF_ERROR;
    }
    rc
}

/// `create_loc_conf` hook.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe extern "C" fn create_loc_conf(cf: *mut ffi::ngx_conf_t) -> *mut c_void {
    // SAFETY: by contract.
    unsafe { in_pool(cf, Location::unset()) }
}

/// `merge_loc_conf` hook.
///
/// # Safety
/// Both pointers must come from `create_loc_conf`.
pub unsafe extern "C" fn merge_loc_conf(
    cf: *mut ffi::ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: by contract; nginx never passes the same struct as both. In the http block `ctx` is
    // nginx's ngx_http_conf_ctx_t, and our main conf was made by `create_main_conf`.
    unsafe {
        let ctx = (*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>();
        let index = ffi::ngx_http_lua_websocket_module.ctx_index;
        let main = (*(*ctx).main_conf.add(index)).cast::<Main>();
        // A worker that starts: for init_worker_by_lua ngx_lua merges anew, with nothing above
        // where the http block would be.
        let above = if (*main).top.is_null() { prev.cast::<Location>() } else { (*main).top };
        let conf = &mut *conf.cast::<Location>();
        conf.merge(&*above);
        handlers::inherit(cf, &(*above).content, &mut conf.content);
    }
    ptr::null_mut()
}

unsafe extern "C" fn set_size(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's own setter, for the field whose offset the row holds, which is read then.
    unsafe {
        let rc = ffi::ngx_conf_set_size_slot(cf, cmd, conf);
        if rc.is_null() && *conf.cast::<u8>().add((*cmd).offset).cast::<usize>() == 0 {
            return c"must not be 0".as_ptr().cast_mut();
        }
        rc
    }
}

/// Setters in plain Rust, see `set_by`.
macro_rules! setters {
    ($($name:ident $set:path),+ $(,)?) => {$(
        unsafe extern "C" fn $name(
            cf: *mut ffi::ngx_conf_t,
            cmd: *mut ffi::ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            // SAFETY: nginx calls a setter with its own arguments; the row says for what it is.
            unsafe { set_by(cf, cmd, conf, $set) }
        }
    )+};
}

setters! {
    set_compression Location::set_compression,
    set_lifetime Location::set_lifetime,
    set_origin Location::set_origin,
    set_rate Location::set_rate,
    set_shutdown_close Location::set_shutdown_close,
    set_lua_modules Main::set_lua_modules,
    set_topic Main::set_topic,
}

/// Runs a setter in plain Rust on the directive's words.
///
/// # Safety
/// The pointers must be what nginx passes to a setter of a directive whose values are in a `C`.
unsafe fn set_by<C>(
    cf: *mut ffi::ngx_conf_t,
    cmd: *mut ffi::ngx_command_t,
    conf: *mut c_void,
    set: fn(&mut C, &[&[u8]]) -> Result<(), ArgumentError>,
) -> *mut c_char {
    // SAFETY: by contract; the words live in the configuration's pool.
    let (values, words) = unsafe {
        let args = (*cf).args;
        let words = ffi::slice((*args).elts.cast::<ffi::ngx_str_t>(), (*args).nelts);
        (&mut *conf.cast::<C>(), words)
    };
    let words: Vec<&[u8]> = words[1..].iter().map(|word| word.as_bytes()).collect();
    match set(values, &words) {
        Ok(()) => ptr::null_mut(),
        Err(ArgumentError::Duplicate) => DUPLICATE.as_ptr().cast_mut(),
        Err(ArgumentError::Text(text)) => {
            // SAFETY: the command is our own row.
            let name = unsafe { (*cmd).name.to_string() };
            ngx_conf_log_error!(ffi::NGX_LOG_EMERG, cf, "{} in \"{}\" directive", text, name);
            // NGX_CONF_ERROR: the message has been written.
            ffi::NGX_CONF_ERROR
        }
    }
}
