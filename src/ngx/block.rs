//! Blocks of the configuration whose lines are not nginx's directives: nginx reads them, and hands
//! each to a function.

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::ffi;

/// What is done with a line: null, or what a setter returns for an error.
type Line<'a> = dyn FnMut(&[&[u8]]) -> *mut c_char + 'a;

/// Reads the block that follows, line by line.
///
/// # Safety
/// `cf` must be the configuration being read, behind a block's opening brace.
pub unsafe fn read(cf: *mut ffi::ngx_conf_t, mut line: &mut Line<'_>) -> *mut c_char {
    // SAFETY: by contract. `line` lies on this stack as long as nginx reads the block, and what was
    // there before is put back.
    unsafe {
        let outside = ((*cf).handler, (*cf).handler_conf);
        (*cf).handler = Some(on_line);
        (*cf).handler_conf = ptr::addr_of_mut!(line).cast();
        let rc = ffi::ngx_conf_parse(cf, ptr::null_mut());
        ((*cf).handler, (*cf).handler_conf) = outside;
        rc
    }
}

/// The words of the line being read.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn words<'a>(cf: *mut ffi::ngx_conf_t) -> Vec<&'a [u8]> {
    // SAFETY: by contract; the words live in the configuration's pool.
    unsafe {
        let args = (*cf).args;
        let words = ffi::slice((*args).elts.cast::<ffi::ngx_str_t>(), (*args).nelts);
        words.iter().map(|word| word.as_bytes()).collect()
    }
}

/// The folder from where the configuration names files.
///
/// # Safety
/// `cf` must be the configuration being read.
pub unsafe fn folder(cf: *mut ffi::ngx_conf_t) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe { (*(*cf).cycle).conf_prefix.as_bytes().to_vec() }
}

unsafe extern "C" fn on_line(
    cf: *mut ffi::ngx_conf_t,
    _: *mut ffi::ngx_command_t,
    line: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this with the line's words and what `read` has put there.
    unsafe { (*line.cast::<&mut Line<'_>>())(&words(cf)) }
}
