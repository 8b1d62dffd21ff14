//! How many subscribers a topic has in each worker, so that any worker can say how many there are
//! in all. [`crate::Zone`] owns the layout; a worker writes the entries of its own row, everybody
//! reads all of them.
//!
//! One word for each pair of topic and worker: a part of the topic's hash, the row, the number. It
//! stands in the emptier of two buckets (of eight slots, a cache line) that hash and row choose,
//! which fills three quarters of the table before the first pair finds no room; there are no chains
//! and no tombstones, so an entry goes as if it had never been there. Every change is one store or
//! one compare-and-swap of one word: a worker that is killed leaves nothing half done, and whoever
//! takes its row clears it. Nobody counts the rows of workers that are gone.
//!
//! Where both buckets are full, the pair has no entry: its worker knows that
//! ([`Entered::No`]), and shows it; the others count too few. Two topics of one worker are taken
//! for one if 34 bits of hash and the slots agree: once in some thousand million.

use crate::memory::{Ordering, Word};
use crate::target::TopicHash;

/// Slots of a bucket.
const BUCKET: usize = 8;
const COUNT_BITS: u32 = 20;
const ROW_BITS: u32 = 10;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The largest number that is told from a larger one.
pub const MAX_COUNT: u64 = COUNT_MASK;

/// The numbers in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Census<'m> {
    slots: &'m [Word],
}

/// Whether a pair of topic and worker has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It has.
    Yes,
    /// All its slots are taken by others.
    No,
}

impl<'m> Census<'m> {
    /// At least one bucket, all zero or a census's before. What is no whole bucket stays unused.
    pub(crate) fn new(slots: &'m [Word]) -> Self {
        Self { slots: &slots[..slots.len() / BUCKET * BUCKET] }
    }

    /// How many pairs of topic and worker there is room for, at most.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Sets the number of a topic's subscribers in `row`, 0 to forget it. Only the worker that has
    /// the row may. Returns whether the pair had an entry before, and has one now.
    pub fn set(&self, row: u16, topic: TopicHash, count: usize) -> (Entered, Entered) {
        let name = name(row, topic);
        let word = name | (count as u64).min(MAX_COUNT);
        if let Some(slot) = self.find(row, topic) {
            // The entry is this worker's, and nobody else's while it lives.
            slot.store(if count > 0 { word } else { 0 }, Ordering::Relaxed);
            return (Entered::Yes, if count > 0 { Entered::Yes } else { Entered::No });
        }
        let taken = count > 0 && self.insert(row, topic, word);
        (Entered::No, if taken { Entered::Yes } else { Entered::No })
    }

    fn insert(&self, row: u16, topic: TopicHash, word: u64) -> bool {
        let mut buckets = self.buckets(row, topic);
        let free =
            |slots: &[Word]| slots.iter().filter(|slot| slot.load(Ordering::Relaxed) == 0).count();
        if free(buckets[1]) > free(buckets[0]) {
            buckets.swap(0, 1);
        }
        buckets.into_iter().flatten().any(|slot| {
            // Another worker may be faster.
            slot.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// The number of a topic's subscribers in `row`.
    pub fn get(&self, row: u16, topic: TopicHash) -> u64 {
        self.find(row, topic).map_or(0, |slot| {
            let word = slot.load(Ordering::Relaxed);
            // It may have gone since it was found.
            if word & !COUNT_MASK == name(row, topic) {
                word & COUNT_MASK
            } else {
                0
            }
        })
    }

    /// Forgets all entries of a row: it has a new owner, or is about to have none.
    pub(crate) fn clear(&self, row: u16) {
        for slot in self.slots {
            let word = slot.load(Ordering::Relaxed);
            if word != 0 && row_of(word) == row {
                slot.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.slots.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count()
    }

    fn find(&self, row: u16, topic: TopicHash) -> Option<&'m Word> {
        let name = name(row, topic);
        let is_it = |slot: &&Word| slot.load(Ordering::Relaxed) & !COUNT_MASK == name;
        self.buckets(row, topic).into_iter().flatten().find(is_it)
    }

    /// Where a pair may stand.
    fn buckets(&self, row: u16, topic: TopicHash) -> [&'m [Word]; 2] {
        // Mixed as splitmix64 does, so that the rows of one topic lie far from each other.
        let mut x = topic.0.wrapping_add(u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let slots = self.slots;
        [x >> 32, x & 0xffff_ffff].map(|half| {
            let buckets = (slots.len() / BUCKET) as u64;
            let at = ((half * buckets) >> 32) as usize * BUCKET;
            &slots[at..at + BUCKET]
        })
    }
}

/// What tells an entry from others: never 0.
fn name(row: u16, topic: TopicHash) -> u64 {
    let tag = (topic.0 << (ROW_BITS + COUNT_BITS) >> (ROW_BITS + COUNT_BITS)).max(1);
    tag << (ROW_BITS + COUNT_BITS) | u64::from(row) << COUNT_BITS
}

fn row_of(word: u64) -> u16 {
    (word >> COUNT_BITS) as u16 & ((1 << ROW_BITS) - 1)
}
