//! Random bytes for masking keys (RFC 6455 5.3 and 10.3 ask for a strong source), taken from the
//! operating system in batches: one system call serves some hundred frames.

use std::cell::RefCell;

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

/// Four unpredictable bytes.
///
/// # Panics
/// When the operating system has no random source, which Linux does not do after boot.
pub fn masking_key() -> [u8; 4] {
    POOL.with_borrow_mut(|pool| {
        if pool.used == BATCH {
            OsRng.try_fill_bytes(&mut pool.bytes).expect("random source of the operating system");
            pool.used = 0;
        }
        let key = &mut pool.bytes[pool.used..pool.used + 4];
        let out = [key[0], key[1], key[2], key[3]];
        key.fill(0);
        pool.used += 4;
        out
    })
}

/// Throws the batch away. For a worker that has just been forked: its copy of the master's batch
/// would be every other worker's too.
pub fn forget() {
    POOL.with_borrow_mut(|pool| pool.used = BATCH);
}
