//! The buffer that a worker reads its sockets into, shared by all its connections: an idle one owns
//! none. Used by `intake` and `stream`.

use std::cell::RefCell;

/// One read of a socket.
const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with the buffer. What it leaves there stays until the next call.
pub fn lend<R>(body: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    if buffer.is_empty() {
        buffer = vec![0; SIZE];
    }
    let result = body(&mut buffer);
    BUFFER.set(buffer);
    result
}
