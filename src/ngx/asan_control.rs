//! The positive control of `make test-asan`, in no other build: reads freed memory where it is told to.

/// Does, if the variable WEBSOCKET_ASAN_CONTROL is set: AddressSanitizer has to end the process.
pub fn run() {
    if std::env::var_os("WEBSOCKET_ASAN_CONTROL").is_none() {
        return;
    }
    let address = Box::into_raw(Box::new(7u8));
    // SAFETY: this frees what was allocated the line before.
    drop(unsafe { Box::from_raw(address) });
    // SAFETY: none. That it is freed memory is what AddressSanitizer has to say.
    std::hint::black_box(unsafe { address.read_volatile() });
}
