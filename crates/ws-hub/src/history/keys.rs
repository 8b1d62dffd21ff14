//! Which record an idempotency key belongs to: chains by the hash of topic and key. A key counts
//! within its topic's epoch only, and no two epochs of one row's number are alike (a row goes only
//! when the zone's epoch is another one), so records that wait for being freed answer nothing.
//! Derived from the records (repair.rs).

use super::cells::Cell;
use super::parts::Parts;
use super::record::{About, KEY_EPOCH, KEY_HASH, NEXT_KEY, TOPIC};
use super::row::{EPOCH_OF, HASH};
use crate::memory::{Ordering, Word};

impl<'m> Parts<'m> {
    fn key_bucket(&self, hash: u32) -> &'m Word {
        Self::bucket(self.keys, hash.into())
    }

    /// A topic's hash of a key.
    pub(super) fn key_hash(&self, row: Cell, key: &[u8]) -> u32 {
        (self.hash(key) ^ self.cells.word(row, HASH)) as u32
    }

    /// Enters a record whose key, hash and epoch are stored.
    pub(super) fn add_key(&self, record: Cell) {
        let bucket = self.key_bucket(self.cells.half(record, KEY_HASH));
        self.cells.set_half(record, NEXT_KEY, bucket.load(Ordering::Relaxed) as Cell);
        bucket.store(record.into(), Ordering::Relaxed);
    }

    /// Removes a record.
    pub(super) fn remove_key(&self, record: Cell) {
        let bucket = self.key_bucket(self.cells.half(record, KEY_HASH));
        let next = self.cells.half(record, NEXT_KEY);
        match self.key_chain(bucket).find(|&other| self.cells.half(other, NEXT_KEY) == record) {
            Some(before) => self.cells.set_half(before, NEXT_KEY, next),
            None => bucket.store(next.into(), Ordering::Relaxed),
        }
    }

    /// The newest record of the topic with this key.
    pub(super) fn find_key(&self, row: Cell, key: &[u8]) -> Option<Cell> {
        let hash = self.key_hash(row, key);
        self.key_chain(self.key_bucket(hash)).find(|&record| {
            let about = About::of(&self.cells, record);
            self.cells.half(record, KEY_HASH) == hash
                && self.cells.half(record, TOPIC) == row
                && self.cells.word(record, KEY_EPOCH) == self.cells.word(row, EPOCH_OF)
                && usize::from(about.key) == key.len()
                && self.cells.holds(record, about.start(), key)
        })
    }

    fn key_chain<'a>(&'a self, bucket: &Word) -> impl Iterator<Item = Cell> + 'a {
        let some = |cell: Cell| (cell != 0).then_some(cell);
        let first = some(bucket.load(Ordering::Relaxed) as Cell);
        std::iter::successors(first, move |&record| some(self.cells.half(record, NEXT_KEY)))
    }
}
