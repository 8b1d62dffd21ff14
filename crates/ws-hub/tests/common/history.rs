//! What the tests of histories share.

use std::cell::Cell;

use ws_hub::history::{Batch, Limit, Limits, Message, Owner, Topic};
use ws_hub::memory::Word;
use ws_hub::History;

thread_local!(static RANDOM: Cell<u64> = const { Cell::new(1) });

/// Unlike any before, in this thread.
pub fn random() -> u64 {
    let next = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(next);
    let mixed = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 27
}

pub const ME: Owner = Owner { id: 1, is_alive: |_| true, random };

pub const ALL: Limit = Limit { records: usize::MAX, bytes: usize::MAX };

pub fn words(bytes: usize) -> Vec<Word> {
    (0..bytes / 8).map(|_| Word::new(0)).collect()
}

pub fn limits(count: u32, ttl: u64) -> Limits {
    Limits { count, ttl, bytes: 0 }
}

/// A topic by no rules: the generation of a zone where none were set.
pub fn topic(name: &[u8], limits: Limits) -> Topic<'_> {
    Topic { name, limits, generation: 0 }
}

pub fn text(data: &[u8]) -> Message<'_> {
    Message { data, flags: 1, key: None, subscribed: false }
}

pub fn keyed<'a>(data: &'a [u8], key: &'a [u8]) -> Message<'a> {
    Message { key: Some(key), ..text(data) }
}

pub fn offsets(batch: &Batch) -> Vec<u64> {
    batch.iter().map(|record| record.offset).collect()
}

/// Bytes in use.
pub fn used(history: &History) -> u64 {
    history.stats().bytes
}
