//! After the death of a process that held the lock: the topics that it was changing go, and all
//! that is derived is made anew from what is left: free cells, the order of use, the keys. Takes
//! some ten milliseconds for a million cells, and no memory but for that order.
//!
//! Who dies in the middle of this leaves the lock to the next one, who begins again: the names of
//! the topics under change stay until the end.

use super::cells::{Cell, LINK};
use super::lock::Slot;
use super::parts::{Parts, BUSY, EPOCH, GRAVES, IDLE, KILLED, RULES, TOPICS};
use super::record::{About, NEXT};
use super::row::{FIRST, FIRST_STUB, USED_AT};
use crate::memory::{Ordering, Word};

impl Parts<'_> {
    pub(super) fn repair(&self, random: fn() -> u64) {
        // Before any of their positions is forgotten.
        self.commit(EPOCH, random());
        for bucket in self.topics {
            self.drop_changing(bucket);
        }
        let derived = [self.marks, self.keys].into_iter().flatten();
        derived.for_each(|word| word.store(0, Ordering::Relaxed));
        [IDLE, BUSY, GRAVES].into_iter().for_each(|at| self.set(at, 0));
        self.mark_chain(self.get(RULES) as Cell);
        let mut rows = Vec::new();
        for bucket in self.topics {
            for row in self.chain(bucket) {
                self.mark_chain(row);
                self.mark_records(self.cells.half(row, FIRST));
                self.mark_records(self.cells.half(self.more(row), FIRST_STUB));
                rows.push((self.cells.word(row, USED_AT), row));
            }
        }
        rows.sort_unstable();
        rows.iter().for_each(|&(_, row)| self.use_now(row));
        self.set(TOPICS, rows.len() as u64);
        self.cells.clear_free();
        let unmarked = |cell: &Cell| {
            let word = self.marks[*cell as usize / 64].load(Ordering::Relaxed);
            word >> (cell % 64) & 1 == 0
        };
        for cell in (1..self.cells.fresh()).rev().filter(unmarked) {
            self.cells.set_word(cell, 0, 0);
            self.cells.give(cell);
        }
        self.lock.end(Slot::Own);
        self.lock.end(Slot::Other);
    }

    /// Takes the rows that were being changed out of a chain.
    fn drop_changing(&self, bucket: &Word) {
        let mut before = None;
        let mut row = bucket.load(Ordering::Relaxed) as Cell;
        while row != 0 {
            let next = self.next_row(row);
            if self.lock.changing(row) {
                self.unlink(bucket, before, next);
                self.set(KILLED, self.get(KILLED) + 1);
            } else {
                before = Some(row);
            }
            row = next;
        }
    }

    fn mark_chain(&self, mut cell: Cell) {
        while cell != 0 {
            let word = &self.marks[cell as usize / 64];
            word.store(word.load(Ordering::Relaxed) | 1 << (cell % 64), Ordering::Relaxed);
            cell = self.cells.half(cell, LINK);
        }
    }

    fn mark_records(&self, mut record: Cell) {
        while record != 0 {
            self.mark_chain(record);
            if About::of(&self.cells, record).key > 0 {
                self.add_key(record);
            }
            record = self.cells.half(record, NEXT);
        }
    }
}
