//! The buffers that a worker reads its sockets into, shared by all its connections: an idle one owns
//! none. Used by `intake` and `stream`.

use std::cell::RefCell;

use bytes::BytesMut;

/// One read of a socket.
const SIZE: usize = 64 * 1024;
/// Buffers kept for reading: one in use, one that a connection holds for a moment.
const KEPT: usize = 2;
/// How much memory is kept for the payloads of large messages.
const BODIES: usize = 4 * 1024 * 1024;
/// A smaller one is not worth keeping.
const LEAST_BODY: usize = 256 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SPARE_BODIES: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with a buffer. What it leaves there stays until the next call. It may take the
/// buffer away, and owes it to `give_back` then.
pub fn lend<R>(body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
    let result = body(&mut buffer);
    give_back(buffer);
    result
}

/// Takes back a buffer that was taken away from `lend`. Others are freed.
pub fn give_back(buffer: Vec<u8>) {
    if buffer.len() == SIZE {
        BUFFERS.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(buffer);
            }
        });
    }
}

/// Memory for a payload of at least `least` bytes, from an earlier one: without it, the memory of
/// each such message would come from the system and go back to it.
pub fn spare_body(least: usize) -> Option<BytesMut> {
    SPARE_BODIES.with_borrow_mut(|kept| {
        let fit = kept.iter().position(|body| body.capacity() >= least)?;
        Some(kept.swap_remove(fit))
    })
}

/// Takes the memory of a payload that nobody needs any more.
pub fn recycle(mut body: BytesMut) {
    if body.capacity() >= LEAST_BODY {
        SPARE_BODIES.with_borrow_mut(|kept| {
            let total: usize = kept.iter().map(BytesMut::capacity).sum();
            if total + body.capacity() <= BODIES {
                body.clear();
                kept.push(body);
            }
        });
    }
}
