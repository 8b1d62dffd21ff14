//! The buffers that a worker reads its sockets into, and the memory of large payloads, shared by all
//! its connections: an idle one owns none. Used by whatever reads or makes frames here, and by the
//! natives, which give a payload's memory back once Lua has its string.

use std::cell::{Cell, RefCell};

use crate::ngx::lending;
use crate::ngx::per_worker::PerWorker;
use crate::ngx::timer::Timer;

/// One read of a socket.
pub const SIZE: usize = 64 * 1024;
/// Buffers kept for reading: one in use, one that a connection holds for a moment.
const KEPT: usize = 2;
/// How much memory is kept for the payloads of large messages, at most.
const BODIES: usize = 16 * 1024 * 1024;
/// So often, in milliseconds, what of it was not needed since the last time is freed.
const TICK: u64 = 100;
/// A smaller one is not worth keeping.
const LEAST_BODY: usize = 256 * 1024;

thread_local! {
    static SPARE_BODIES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// The fewest that there were since the last tick.
    static IDLE: Cell<usize> = const { Cell::new(0) };
    static TIMER: Timer = const { Timer::new() };
}
static BUFFERS: PerWorker<RefCell<Vec<Vec<u8>>>> = PerWorker::new(RefCell::new(Vec::new()));

/// Runs `body` with a buffer. What it leaves there stays until the next buffer is asked for.
pub fn lend<R>(body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = take();
    let result = body(&mut buffer);
    give_back(buffer);
    result
}

/// A buffer of `SIZE` bytes, owed to `give_back`. Not one that bytes may lie in which are lent.
pub fn take() -> Vec<u8> {
    let kept = if lending::is_lent() { None } else { BUFFERS.borrow_mut().pop() };
    kept.unwrap_or_else(|| vec![0; SIZE])
}

/// Takes back a buffer of `take`; others are freed. What lies in it stays until the next buffer is
/// asked for.
pub fn give_back(buffer: Vec<u8>) {
    if lending::is_lent() {
        lending::hold(buffer);
    } else if buffer.len() == SIZE {
        let mut kept = BUFFERS.borrow_mut();
        if kept.len() == KEPT {
            kept.swap_remove(0);
        }
        kept.push(buffer);
    }
}

/// Memory for a payload of `whole` bytes, or else for a part of at least `least`, from an earlier
/// one: without it, the memory of each such message would come from the system and go back to it.
pub fn spare_body(least: usize, whole: usize) -> Option<Vec<u8>> {
    SPARE_BODIES.with_borrow_mut(|kept| {
        // Of those that are large enough the smallest, or else the largest.
        let rank = |body: &Vec<u8>| {
            let enough = body.capacity() >= whole;
            (!enough, if enough { body.capacity() } else { usize::MAX - body.capacity() })
        };
        let (fit, best) = kept.iter().enumerate().min_by_key(|(_, body)| rank(body))?;
        if best.capacity() < least {
            return None;
        }
        let body = kept.swap_remove(fit);
        IDLE.set(IDLE.get().min(kept.len()));
        Some(body)
    })
}

/// Takes the memory of a payload that nobody needs any more.
pub fn recycle(mut body: Vec<u8>) {
    if lending::is_lent() {
        lending::hold(body);
    } else if body.capacity() >= LEAST_BODY {
        SPARE_BODIES.with_borrow_mut(|kept| {
            let total: usize = kept.iter().map(Vec::capacity).sum();
            if total + body.capacity() <= BODIES {
                if kept.is_empty() {
                    TIMER.with(|timer| timer.set(TICK, tick));
                }
                body.clear();
                kept.push(body);
            }
        });
    }
}

/// Frees what was not needed since the last tick: a worker without large messages keeps nothing.
fn tick() {
    SPARE_BODIES.with_borrow_mut(|kept| {
        kept.drain(..IDLE.get());
        IDLE.set(kept.len());
        if !kept.is_empty() {
            TIMER.with(|timer| timer.set(TICK, tick));
        }
    });
}
