//! Counters of this worker. Read by `resty.websocket.info()`.

use std::cell::Cell;

thread_local! {
    // One thread per worker: a thread-local is a per-worker static without locks.
    static OPEN: Cell<u64> = const { Cell::new(0) };
    static ACCEPTED: Cell<u64> = const { Cell::new(0) };
}

/// A connection was upgraded.
pub fn opened() {
    OPEN.with(|n| n.set(n.get() + 1));
    ACCEPTED.with(|n| n.set(n.get() + 1));
}

/// The request of an upgraded connection ended.
pub fn closed() {
    OPEN.with(|n| n.set(n.get().saturating_sub(1)));
}

/// Connections whose request lives, and connections ever accepted, in this worker.
pub fn connections() -> (u64, u64) {
    (OPEN.with(Cell::get), ACCEPTED.with(Cell::get))
}
