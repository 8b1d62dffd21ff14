//! nginx's variables, as the end of a connection sees them whose request was freed before: those that
//! change no more after the upgrade, and can be saved; those that only the end knows; and those of which
//! nothing is known here. The manual has the same lists (`websocket_detach`).

use std::sync::OnceLock;

use crate::ffi;

/// When a variable has the value that is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the upgrade on.
    Saved,
    /// At the end.
    End,
    /// Nobody knows.
    Unknown,
}

/// What only the end knows.
const END: &[&str] = &[
    "body_bytes_sent",
    "bytes_sent",
    "connection_time",
    "connections_active",
    "connections_reading",
    "connections_waiting",
    "connections_writing",
    "msec",
    "request_completion",
    "request_time",
    "status",
    "time_iso8601",
    "time_local",
];

/// The same, by how the name begins.
const END_PREFIXES: &[&str] = &["tcpinfo_", "websocket_"];

/// What is as it was with the upgrade.
const SAVED: &[&str] = &[
    "args",
    "binary_remote_addr",
    "connection",
    "connection_requests",
    "content_length",
    "content_type",
    "document_root",
    "document_uri",
    "gzip_ratio",
    "host",
    "hostname",
    "http2",
    "http3",
    "https",
    "invalid_referer",
    "is_args",
    "limit_conn_status",
    "limit_rate",
    "limit_req_status",
    "nginx_version",
    "pid",
    "pipe",
    "query_string",
    "realip_remote_addr",
    "realip_remote_port",
    "realpath_root",
    "remote_addr",
    "remote_port",
    "remote_user",
    "request",
    "request_body",
    "request_body_file",
    "request_filename",
    "request_id",
    "request_length",
    "request_method",
    "request_uri",
    "scheme",
    "secure_link",
    "secure_link_expires",
    "server_addr",
    "server_name",
    "server_port",
    "server_protocol",
    "uid_got",
    "uid_reset",
    "uid_set",
    "uri",
    "websocket_protocol",
];

/// The same, by how the name begins.
const SAVED_PREFIXES: &[&str] = &[
    "arg_",
    "cookie_",
    "geoip_",
    "http_",
    "proxy_protocol_",
    "sent_http_",
    "sent_trailer_",
    "ssl_",
    "upstream_",
    "websocket_upstream_",
];

/// Which kind this variable is.
pub(super) fn kind_of(variable: &ffi::ngx_http_variable_t) -> Kind {
    let name = variable.name.to_str().unwrap_or_default();
    let among = |names: &[&str], prefixes: &[&str]| {
        names.binary_search(&name).is_ok() || prefixes.iter().any(|p| name.starts_with(p))
    };
    if among(SAVED, SAVED_PREFIXES) || is_configured(variable) {
        Kind::Saved
    } else if among(END, END_PREFIXES) {
        Kind::End
    } else {
        Kind::Unknown
    }
}

/// Whether it was named by the configuration and is made by nginx itself: `set`, `map`, `geo`,
/// `split_clients`, `auth_request_set`, a group of a regular expression.
fn is_configured(variable: &ffi::ngx_http_variable_t) -> bool {
    static NGINX: OnceLock<usize> = OnceLock::new();
    let nginx = || {
        // In a binary that tells nothing of itself no variable is known to be nginx's.
        object_of(ffi::ngx_http_get_indexed_variable as *const libc::c_void)
            .map_or(usize::MAX, |object| object as usize)
    };
    let handler = variable.get_handler.map(|f| object_of(f as *const libc::c_void));
    variable.flags & ffi::NGX_HTTP_VAR_CHANGEABLE as ffi::ngx_uint_t != 0
        && handler.flatten().is_some_and(|object| object as usize == *NGINX.get_or_init(nginx))
}

/// Where the binary or library begins that this function lies in.
fn object_of(function: *const libc::c_void) -> Option<*const libc::c_void> {
    // SAFETY: dladdr looks the address up, and fills what it is given where it returns non-zero.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(function, &mut found) != 0).then_some(found.dli_fbase.cast_const())
    }
}
