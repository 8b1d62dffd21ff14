//! Random bytes for masking keys (RFC 6455 5.3 and 10.3 ask for a strong source), handshake keys
//! and ids, taken from the operating system in batches: one system call serves some hundred frames.

use std::cell::RefCell;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use rand::rngs::OsRng;
use rand::TryRngCore;

const BATCH: usize = 1024;

struct Batch {
    bytes: [u8; BATCH],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Batch> = const { RefCell::new(Batch { bytes: [0; BATCH], used: BATCH }) };
}

/// `N` unpredictable bytes, at most a batch.
///
/// # Panics
/// When the operating system has no random source, which Linux does not do after boot.
pub fn bytes<const N: usize>() -> [u8; N] {
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > BATCH {
            OsRng.try_fill_bytes(&mut pool.bytes).expect("random source of the operating system");
            pool.used = 0;
        }
        let fresh = &mut pool.bytes[pool.used..pool.used + N];
        let mut out = [0; N];
        out.copy_from_slice(fresh);
        fresh.fill(0);
        pool.used += N;
        out
    })
}

/// A masking key.
pub fn masking_key() -> [u8; 4] {
    bytes()
}

/// A Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 4.1).
pub fn handshake_key() -> String {
    STANDARD.encode(bytes::<16>())
}

/// Throws the batch away. For a worker that has just been forked: its copy of the master's batch
/// would be every other worker's too.
pub fn forget() {
    POOL.with_borrow_mut(|pool| pool.used = BATCH);
}
