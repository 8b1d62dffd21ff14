//! The C library's heap, which nginx, OpenSSL and this module share.

/// Gives free pages back to the system, those between blocks that are in use as well: the heap does
/// that by itself only at its end.
pub fn trim() {
    // SAFETY: needs nothing and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
