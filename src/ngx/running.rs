//! Whether the nginx that runs has the structs that this module was built with. nginx compares a
//! version number and a signature when it loads a module; but a bundle may change structs within one
//! version, as OpenResty's security patches do, and a module built for one patch level then reads
//! and writes in the wrong places of the other. What the running binary says about itself is
//! compared here: the offsets in its table of request headers and in its variables, and the
//! version string of a bundle, which counts patch levels.

use std::ffi::{c_int, c_void, CStr};
use std::mem::offset_of;
use std::ptr;

use crate::ffi::{self, ngx_http_headers_in_t as HeadersIn, ngx_http_request_t as HttpRequest};

macro_rules! headers {
    ($($name:literal $field:ident),+ $(,)?) => {
        /// Headers that every nginx keeps a pointer to, and where it lies here.
        const HEADERS: &[(&str, usize)] = &[$(($name, offset_of!(HeadersIn, $field))),+];
    };
}

headers! {
    "Host" host, "Connection" connection, "If-Modified-Since" if_modified_since,
    "If-Unmodified-Since" if_unmodified_since, "If-Match" if_match, "If-None-Match" if_none_match,
    "User-Agent" user_agent, "Referer" referer, "Content-Length" content_length,
    "Content-Range" content_range, "Content-Type" content_type, "Range" range,
    "If-Range" if_range, "Transfer-Encoding" transfer_encoding, "TE" te, "Expect" expect,
    "Upgrade" upgrade, "Authorization" authorization, "Keep-Alive" keep_alive,
}

/// Variables of nginx's core that anybody may ask for and that hold an offset in the request. They
/// lie behind headers_in and headers_out.
const VARIABLES: [(&CStr, usize); 2] = [
    (c"args", offset_of!(HttpRequest, args)),
    (c"limit_rate", offset_of!(HttpRequest, limit_rate)),
];

/// What tells the running nginx from the one this module was built for, if anything does.
///
/// # Safety
/// `cf` must be the configuration being read, whose core variables are known (preconfiguration).
pub unsafe fn difference(cf: *mut ffi::ngx_conf_t) -> Option<String> {
    if misplaced_header() {
        return Some("headers_in lies elsewhere".to_string());
    }
    // SAFETY: by contract.
    if unsafe { misplaced_variable(cf) } {
        return Some("the request's fields lie elsewhere".to_string());
    }
    let ours = ffi::NGINX_VER.to_bytes();
    (has_patch_level(ours) && !binary_has(ours))
        .then(|| format!("it is not {}", String::from_utf8_lossy(ours)))
}

fn misplaced_header() -> bool {
    // SAFETY: nginx's static table, which ends with an entry whose name is empty.
    unsafe {
        let mut entry = ptr::addr_of!(ffi::ngx_http_headers_in).cast::<ffi::ngx_http_header_t>();
        while (*entry).name.len != 0 {
            let name = (*entry).name.as_bytes();
            let known = HEADERS.iter().find(|(known, _)| known.as_bytes() == name);
            if known.is_some_and(|(_, offset)| (*entry).offset != *offset) {
                return true;
            }
            entry = entry.add(1);
        }
    }
    false
}

/// # Safety
/// As for `difference`.
unsafe fn misplaced_variable(cf: *mut ffi::ngx_conf_t) -> bool {
    VARIABLES.iter().any(|(name, offset)| {
        let mut text =
            ffi::ngx_str_t { len: name.count_bytes(), data: name.as_ptr().cast_mut().cast() };
        // SAFETY: by contract. A variable that may be changed, as both may, is returned as it is.
        unsafe {
            let flags = ffi::NGX_HTTP_VAR_CHANGEABLE as ffi::ngx_uint_t;
            let variable = ffi::ngx_http_add_variable(cf, &mut text, flags);
            // 0: a variable that this nginx makes of something else.
            !variable.is_null() && (*variable).data != 0 && (*variable).data != *offset
        }
    })
}

/// Whether `version` ("openresty/1.29.2.1") says more than nginx's own number, which nginx compares.
fn has_patch_level(version: &[u8]) -> bool {
    let number = version.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    number != ffi::NGINX_VERSION.to_bytes()
}

/// Whether the running binary has this version string among its constants, as a whole.
fn binary_has(version: &[u8]) -> bool {
    struct Search<'a> {
        version: &'a [u8],
        found: bool,
    }

    /// Called for each object that is loaded, the binary being the first.
    unsafe extern "C" fn look(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader describes an object that is loaded; what it has mapped readable and not
        // writable stays as it is. `search` is the caller's.
        unsafe {
            let search = &mut *search.cast::<Search<'_>>();
            let headers = ffi::slice((*object).dlpi_phdr, (*object).dlpi_phnum.into());
            for part in headers.iter().filter(|part| part.p_type == libc::PT_LOAD) {
                if part.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R {
                    let start = ((*object).dlpi_addr + part.p_vaddr) as *const u8;
                    let bytes = ffi::slice(start, part.p_memsz as usize);
                    search.found |= contains(bytes, search.version);
                }
            }
        }
        1
    }

    let mut search = Search { version, found: false };
    // SAFETY: `look` gets what it expects, and only during the call.
    unsafe { libc::dl_iterate_phdr(Some(look), ptr::addr_of_mut!(search).cast()) };
    search.found
}

/// Whether `version` stands in `bytes` and no digit or dot follows.
fn contains(bytes: &[u8], version: &[u8]) -> bool {
    let first = version.first().copied().unwrap_or_default();
    let ends = |at: usize| bytes.get(at).is_none_or(|c| !c.is_ascii_digit() && *c != b'.');
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).any(|at| bytes[at..].starts_with(version) && ends(at + version.len()))
}
