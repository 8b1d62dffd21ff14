//! What the connections of this worker share: memory, the clock, masking keys, the counters. An idle
//! connection owns no buffer. Used by whatever reads or makes frames here, and by the natives, which
//! give a payload's memory back once Lua has its string.

use std::cell::Cell;

use ws_conn::{Counted, Host, Lending, NoMemory, Pool};

use super::random;
use super::stats::{self, Counter};
use crate::ngx::clock::now_ms;
use crate::ngx::heap;
use crate::ngx::lending;
use crate::ngx::per_worker::PerWorker;
use crate::ngx::timer::Timer;

static POOL: PerWorker<Pool> =
    PerWorker::new(Pool::new(Lending { is_lent: lending::is_lent, hold: lending::hold }));

/// So often, in milliseconds, memory that was not needed since the last time is freed.
const TICK: u64 = 100;
/// Compression gives back so many bytes before the heap is looked at: it leaves holes that nobody
/// else fills.
const HOLES: usize = 8 * 1024 * 1024;
/// What a connection's compressor and inflater take.
const CODECS: usize = 300 * 1024;

thread_local! {
    static TIMER: Timer = const { Timer::new() };
    /// Bytes that compression has given back since the heap was last looked at, and whether any were
    /// since the last tick.
    static FREED: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// This worker, as connections see it.
#[derive(Clone, Copy, Debug)]
pub struct Worker;

impl Host for Worker {
    #[inline]
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn masking_key(&self) -> [u8; 4] {
        random::masking_key()
    }

    // Twice a message, always with a known event: of the match nothing is left then.
    #[inline(always)]
    fn count(&self, event: Counted) {
        match event {
            Counted::MessageIn(bytes) => stats::message_in(bytes),
            Counted::MessageOut(bytes) => stats::message_out(bytes),
            Counted::Compressed(before, after) => {
                stats::add(Counter::CompressionBefore, before as u64);
                stats::add(Counter::CompressionAfter, after as u64);
            }
            Counted::Ping => stats::add(Counter::PingsSent, 1),
            Counted::PingTimeout => stats::add(Counter::PingTimeouts, 1),
            Counted::Broken(err) => stats::add(Counter::protocol_error(err.rule()), 1),
        }
    }

    #[inline]
    fn pool(&self) -> &Pool {
        &POOL
    }

    fn recycle(&self, body: Vec<u8>) {
        recycle(body);
    }
}

/// Runs `body` with a buffer. What it leaves there stays until the next buffer is asked for.
pub fn lend<R>(body: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R, NoMemory> {
    let mut buffer = POOL.take_read()?;
    let result = body(&mut buffer);
    POOL.give_back_read(buffer);
    Ok(result)
}

/// Takes the memory of a payload that nobody needs any more.
pub fn recycle(body: Vec<u8>) {
    if POOL.recycle(body) {
        TIMER.with(|timer| timer.set(TICK, tick));
    }
}

/// A connection that compressed has ended.
pub fn codecs_freed() {
    let (freed, _) = FREED.get();
    FREED.set((freed + CODECS, true));
    TIMER.with(|timer| timer.set(TICK, tick));
}

/// Frees what was not needed since the last tick: a worker without large messages keeps nothing, and
/// one whose compressed connections are gone has no heap full of their holes.
fn tick() {
    let (freed, lately) = FREED.get();
    let (tidied, left) = POOL.tidy();
    // At its end the C library keeps twice as much free as the largest block that it has had mapped
    // (mallopt(3), M_TRIM_THRESHOLD): 2 MiB after one message of 1 MiB, 32 after one of 16.
    if (!lately && freed >= HOLES) || (tidied && !left) {
        heap::trim();
    }
    FREED.set((if lately { freed } else { 0 }, false));
    if left || lately {
        TIMER.with(|timer| timer.set(TICK, tick));
    }
}
