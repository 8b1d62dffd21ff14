//! Where everything lies in a history zone: a header, one bit for each cell (for repair.rs), the
//! tables of topics and of idempotency keys by hash, and the cells.

use std::hash::{DefaultHasher, Hasher};

use super::cells::{Cells, CELL, CELL_BYTES};
use super::lock::{Lock, LOCK_WORDS};
use super::HistoryError;
use crate::memory::{Ordering, Word};

/// "hist" and the version of the layout.
const MAGIC: u64 = 0x6869_7374_0000_0003;
const HEADER: usize = 32;
const AT_MAGIC: usize = 0;
const AT_LEN: usize = 1;
const AT_SEED: usize = 2;
const AT_HASH: usize = 3;
const AT_LOCK: usize = 8;
const AT_FREE: usize = 16;
const AT_FRESH: usize = 17;
/// Fewer cells are no zone.
const MIN_CELLS: usize = 256;

/// The epoch that new topics begin in.
pub(super) const EPOCH: usize = 4;
/// First cell and length of the rules.
pub(super) const RULES: usize = 5;
/// Grows with every change of the rules.
pub(super) const GENERATION: usize = 6;
/// Oldest and newest topic without subscribers, and of those with.
pub(super) const IDLE: usize = 18;
pub(super) const BUSY: usize = 19;
/// First of the records that belong to no topic any more and are not free yet.
pub(super) const GRAVES: usize = 20;
/// How many topics there are.
pub(super) const TOPICS: usize = 21;
/// How many topics had to go before their time.
pub(super) const EVICTED: usize = 22;
/// How many were dropped on demand.
pub(super) const FORGOTTEN: usize = 24;
/// How many ended as the process died that was changing them.
pub(super) const KILLED: usize = 25;
/// The bucket that is swept next.
pub(super) const SWEPT: usize = 23;

/// The parts of a zone. A copy is a second handle. Only the lock's holder may use them, save to read
/// a number.
#[derive(Clone, Copy)]
pub(super) struct Parts<'m> {
    header: &'m [Word],
    pub(super) lock: Lock<'m>,
    pub(super) marks: &'m [Word],
    /// Powers of two of them; each holds the number of a chain's first cell.
    pub(super) topics: &'m [Word],
    pub(super) keys: &'m [Word],
    pub(super) cells: Cells<'m>,
}

impl<'m> Parts<'m> {
    /// Makes an empty zone, whatever the words held.
    pub(super) fn init(words: &'m [Word], seed: u64, epoch: u64) -> Result<Self, HistoryError> {
        let parts = Self::carve(words).ok_or(HistoryError::TooSmall)?;
        let before = [parts.header, parts.marks, parts.topics, parts.keys];
        before.into_iter().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
        parts.cells.init();
        parts.set(AT_SEED, seed);
        parts.set(EPOCH, epoch);
        parts.set(AT_LEN, words.len() as u64);
        parts.set(AT_HASH, parts.hash(b"history"));
        parts.header[AT_MAGIC].store(MAGIC, Ordering::Release);
        Ok(parts)
    }

    /// The zone that `init` made of these words. Nothing if it is of another size or version, or
    /// of one with another hash function.
    pub(super) fn attach(words: &'m [Word]) -> Option<Self> {
        let parts = Self::carve(words)?;
        let ours = parts.header[AT_MAGIC].load(Ordering::Acquire) == MAGIC
            && parts.get(AT_LEN) == words.len() as u64
            && parts.get(AT_HASH) == parts.hash(b"history");
        ours.then_some(parts)
    }

    fn carve(words: &'m [Word]) -> Option<Self> {
        let cells = words.len().min(u32::MAX as usize) / CELL;
        let marks = cells.div_ceil(64);
        // A bucket for 8 to 16 cells: few topics are smaller.
        let buckets = 1 << (cells / 8).checked_ilog2()?;
        let before = HEADER + marks + 2 * buckets;
        if words.len() < before + MIN_CELLS * CELL {
            return None;
        }
        let (header, rest) = words.split_at(HEADER);
        let (marks, rest) = rest.split_at(marks);
        let (topics, rest) = rest.split_at(buckets);
        let (keys, rest) = rest.split_at(buckets);
        let end = rest.len().min(cells * CELL);
        Some(Self {
            header,
            lock: Lock::new(&header[AT_LOCK..AT_LOCK + LOCK_WORDS]),
            marks,
            topics,
            keys,
            cells: Cells::new(&rest[..end], &header[AT_FREE], &header[AT_FRESH]),
        })
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        self.header[at].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, at: usize, value: u64) {
        self.header[at].store(value, Ordering::Relaxed);
    }

    /// As `set`, and whoever sees this sees everything that was stored before.
    pub(super) fn commit(&self, at: usize, value: u64) {
        self.header[at].store(value, Ordering::Release);
    }

    /// How often rules have been set.
    pub(super) fn generation(&self) -> u64 {
        self.header[GENERATION].load(Ordering::Acquire)
    }

    /// Of a topic or a key: clients may choose both, so it is a SipHash with this zone's secret.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.get(AT_SEED));
        hasher.write(bytes);
        hasher.finish()
    }

    /// The bucket of a hash in a table.
    pub(super) fn bucket(table: &'m [Word], hash: u64) -> &'m Word {
        &table[hash as usize & (table.len() - 1)]
    }

    /// Bytes that hold something.
    pub(super) fn used(&self) -> u64 {
        self.capacity().saturating_sub((self.cells.free() * CELL_BYTES) as u64)
    }

    /// Bytes that may.
    pub(super) fn capacity(&self) -> u64 {
        ((self.cells.end() - 1) * CELL_BYTES) as u64
    }
}
