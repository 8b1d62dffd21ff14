//! A topic in the zone: two cells and its name. Rows hang in chains by hash, and a row is there
//! when its chain has it: both putting it in and taking it out is one store. See history.rs for
//! what that is good for.

use super::cells::{chain_len, Cell, Half, LINK};
use super::parts::{Parts, TOPICS};
use super::Limits;
use crate::memory::{Ordering, Word};

const NAME_LEN: Half = Half::high(0);
pub(super) const HASH: usize = 1;
pub(super) const EPOCH_OF: usize = 2;
const CHAIN: Half = Half::low(3);
pub(super) const BUSY_FLAG: Half = Half::high(3);
pub(super) const FIRST: Half = Half::low(4);
pub(super) const LAST: Half = Half::high(4);
pub(super) const TOP: usize = 5;
pub(super) const USED_AT: usize = 6;
/// Cells of its records.
pub(super) const CELLS: Half = Half::low(7);
/// Records that are not stubs.
pub(super) const COUNT: Half = Half::high(7);

/// Halves of the second cell, see [`Parts::more`]: it is a copy (copy.rs); and the rest.
pub(super) const IS_COPY: Half = Half::high(0);
pub(super) const OLDER_USED: Half = Half::low(1);
pub(super) const NEWER_USED: Half = Half::high(1);
pub(super) const FIRST_STUB: Half = Half::low(2);
pub(super) const LAST_STUB: Half = Half::high(2);
/// The newest record that can be skipped to.
pub(super) const SKIP_TO: Half = Half::low(3);
const LIMIT_COUNT: Half = Half::low(4);
const LIMIT_TTL: Half = Half::high(4);
const NAME_START: usize = 5;

/// Cells of a row.
pub(super) fn row_cells(name: usize) -> usize {
    1 + chain_len(NAME_START, name)
}

impl Parts<'_> {
    /// The second cell of a row.
    pub(super) fn more(&self, row: Cell) -> Cell {
        self.cells.half(row, LINK)
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Cell> {
        let hash = self.hash(name);
        self.chain(Self::bucket(self.topics, hash)).find(|&row| {
            self.cells.word(row, HASH) == hash
                && self.cells.half(row, NAME_LEN) as usize == name.len()
                && self.cells.holds(self.more(row), NAME_START, name)
        })
    }

    /// The rows of a bucket.
    pub(super) fn chain<'a>(&'a self, bucket: &'a Word) -> impl Iterator<Item = Cell> + 'a {
        let some = |cell: Cell| (cell != 0).then_some(cell);
        let first = some(bucket.load(Ordering::Relaxed) as Cell);
        std::iter::successors(first, move |&row| some(self.cells.half(row, CHAIN)))
    }

    pub(super) fn next_row(&self, row: Cell) -> Cell {
        self.cells.half(row, CHAIN)
    }

    pub(super) fn name(&self, row: Cell, out: &mut Vec<u8>) {
        out.clear();
        let len = self.cells.half(row, NAME_LEN) as usize;
        self.cells.load(self.more(row), NAME_START, len, out);
    }

    /// Takes the cells of a row, which the caller has made sure of, and puts it into its chain.
    pub(super) fn add_row(&self, name: &[u8], epoch: u64, now: u64) -> Cell {
        let cells = &self.cells;
        let row = cells.take(row_cells(name.len()));
        let hash = self.hash(name);
        let more = self.more(row);
        (1..8).for_each(|word| cells.set_word(row, word, 0));
        (1..NAME_START).for_each(|word| cells.set_word(more, word, 0));
        cells.set_half(row, NAME_LEN, name.len() as u32);
        cells.set_word(row, HASH, hash);
        cells.set_word(row, EPOCH_OF, epoch);
        cells.set_word(row, USED_AT, now);
        cells.store(more, NAME_START, &[name]);
        let bucket = Self::bucket(self.topics, hash);
        cells.set_half(row, CHAIN, bucket.load(Ordering::Relaxed) as u32);
        bucket.store(row.into(), Ordering::Release);
        self.set(TOPICS, self.get(TOPICS) + 1);
        self.use_now(row);
        row
    }

    /// Takes a row without records out of its chain and frees it.
    pub(super) fn remove_row(&self, row: Cell) {
        let bucket = Self::bucket(self.topics, self.cells.word(row, HASH));
        let next = self.cells.half(row, CHAIN);
        let before = self.chain(bucket).find(|&other| self.next_row(other) == row);
        self.unlink(bucket, before, next);
        self.take_out(row);
        self.cells.give(row);
        self.set(TOPICS, self.get(TOPICS) - 1);
    }

    /// Makes `next` follow on `before`, or be the first of the bucket.
    pub(super) fn unlink(&self, bucket: &Word, before: Option<Cell>, next: Cell) {
        match before {
            Some(before) => self.cells.commit_half(before, CHAIN, next),
            None => bucket.store(next.into(), Ordering::Release),
        }
    }

    /// What the topic's rule said when it was last published to, but for the bytes.
    pub(super) fn limits(&self, row: Cell) -> Limits {
        let half = |half| self.cells.half(self.more(row), half);
        Limits { count: half(LIMIT_COUNT), ttl: half(LIMIT_TTL).into(), bytes: 0 }
    }

    pub(super) fn set_limits(&self, row: Cell, limits: Limits) {
        let ttl = limits.ttl.min(u32::MAX.into()) as u32;
        self.cells.set_half(self.more(row), LIMIT_COUNT, limits.count);
        self.cells.set_half(self.more(row), LIMIT_TTL, ttl);
    }
}
