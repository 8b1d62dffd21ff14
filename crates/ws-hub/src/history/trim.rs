//! What goes, and when: messages over their topic's limits, topics that nobody used for a day,
//! and topics that others need the room of.
//!
//! Everything takes steps that are bounded, because others wait for the lock. Old messages go in
//! handfuls: what is over a limit and still there is not shown (read.rs). A topic's records leave
//! it all at once, in one chain, and are freed from there as cells are needed.

use super::cells::{Cell, Half};
use super::lock::Slot;
use super::parts::{Parts, EPOCH, EVICTED, GRAVES, SWEPT, TOPICS};
use super::record::{cells_of, strip, About, NEXT, PREVIOUS};
use super::row::{CELLS, COUNT, EPOCH_OF, FIRST, FIRST_STUB, LAST, LAST_STUB, SKIP_TO, USED_AT};
use super::{HistoryError, Limits, KEY_MS, POSITION_MS};
use crate::memory::{Ordering, Word};

/// Records that one step removes at most.
const STEP: usize = 64;
/// Buckets that are looked into for something old before a topic is evicted.
const LOOK: usize = 64;

impl Parts<'_> {
    /// Frees a record that no list has.
    fn free_record(&self, record: Cell) {
        if About::of(&self.cells, record).key > 0 {
            self.remove_key(record);
        }
        self.cells.give(record);
    }

    fn less(&self, row: Cell, half: Half, n: usize) {
        self.cells.set_half(row, half, self.cells.half(row, half) - n as u32);
    }

    /// Takes the oldest message off. If it has a key that somebody may still repeat, `stub` keeps
    /// that; otherwise nothing is left of it.
    fn drop_oldest(&self, row: Cell, stub: bool) {
        let cells = &self.cells;
        let record = cells.half(row, FIRST);
        let next = cells.half(record, NEXT);
        cells.set_half(row, FIRST, next);
        match next {
            0 => cells.set_half(row, LAST, 0),
            _ => cells.set_half(next, PREVIOUS, 0),
        }
        self.less(row, COUNT, 1);
        if !stub {
            self.less(row, CELLS, cells_of(cells, record));
            self.free_record(record);
            return;
        }
        self.less(row, CELLS, strip(cells, record));
        cells.set_half(record, NEXT, 0);
        let more = self.more(row);
        match cells.half(more, LAST_STUB) {
            0 => cells.set_half(more, FIRST_STUB, record),
            last => cells.set_half(last, NEXT, record),
        }
        cells.set_half(more, LAST_STUB, record);
    }

    /// Takes the oldest stub off, if there is one.
    fn drop_stub(&self, row: Cell) -> bool {
        let more = self.more(row);
        let record = self.cells.half(more, FIRST_STUB);
        if record == 0 {
            return false;
        }
        let next = self.cells.half(record, NEXT);
        self.cells.set_half(more, FIRST_STUB, next);
        if next == 0 {
            self.cells.set_half(more, LAST_STUB, 0);
        }
        self.less(row, CELLS, cells_of(&self.cells, record));
        self.free_record(record);
        true
    }

    /// Whether nothing but a position is left.
    fn is_bare(&self, row: Cell) -> bool {
        self.cells.half(row, CELLS) == 0
    }

    /// Removes what is over number or age, so much of it that nobody waits long. The row is under
    /// change. Whether there may be more.
    pub(super) fn trim(&self, row: Cell, limits: &Limits, now: u64) -> bool {
        let age = |record| now.saturating_sub(About::of(&self.cells, record).time);
        for _ in 0..STEP {
            let stub = self.cells.half(self.more(row), FIRST_STUB);
            if stub != 0 && age(stub) > KEY_MS {
                self.drop_stub(row);
                continue;
            }
            let first = self.cells.half(row, FIRST);
            let over = self.cells.half(row, COUNT) > limits.count;
            if first == 0 || !over && age(first) <= limits.ttl {
                return false;
            }
            let keyed = About::of(&self.cells, first).key > 0;
            self.drop_oldest(row, keyed && age(first) <= KEY_MS);
        }
        true
    }

    /// Whether [`Parts::trim`] would find something.
    pub(super) fn is_over(&self, row: Cell, limits: &Limits, now: u64) -> bool {
        let age = |record| now.saturating_sub(About::of(&self.cells, record).time);
        let first = self.cells.half(row, FIRST);
        let stub = self.cells.half(self.more(row), FIRST_STUB);
        first != 0 && (self.cells.half(row, COUNT) > limits.count || age(first) > limits.ttl)
            || stub != 0 && age(stub) > KEY_MS
    }

    /// Takes off the oldest of all until the records have `cells` at most: keys first, for they
    /// are of messages that are gone. The row is under change.
    pub(super) fn trim_cells(&self, row: Cell, cells: usize) {
        while self.cells.half(row, CELLS) as usize > cells {
            if !self.drop_stub(row) {
                self.drop_oldest(row, false);
            }
        }
    }

    /// Takes all records off a row that is under change, to be freed later.
    pub(super) fn bury(&self, row: Cell) {
        let (cells, more) = (&self.cells, self.more(row));
        let lists = [
            (cells.half(row, FIRST), cells.half(row, LAST)),
            (cells.half(more, FIRST_STUB), cells.half(more, LAST_STUB)),
        ];
        self.clear(row);
        for (first, last) in lists {
            if first != 0 {
                cells.set_half(last, NEXT, self.get(GRAVES) as Cell);
                self.set(GRAVES, first.into());
            }
        }
    }

    /// A row without records.
    pub(super) fn clear(&self, row: Cell) {
        let (cells, more) = (&self.cells, self.more(row));
        [FIRST, LAST, CELLS, COUNT].into_iter().for_each(|half| cells.set_half(row, half, 0));
        [FIRST_STUB, LAST_STUB, SKIP_TO].into_iter().for_each(|half| cells.set_half(more, half, 0));
    }

    /// Frees a record that belongs to no topic, if there is one.
    pub(super) fn free_grave(&self) -> bool {
        let record = self.get(GRAVES) as Cell;
        if record == 0 {
            return false;
        }
        self.set(GRAVES, self.cells.half(record, NEXT).into());
        self.free_record(record);
        true
    }

    /// Removes a topic. If new topics begin in its epoch, they do so no longer: a position of
    /// what is forgotten is never taken for one of the topic that comes after it.
    pub(super) fn remove(&self, row: Cell, slot: Slot, random: fn() -> u64) {
        if self.cells.word(row, EPOCH_OF) == self.get(EPOCH) {
            self.commit(EPOCH, random());
        }
        self.lock.begin(slot, row);
        self.bury(row);
        self.remove_row(row);
        self.lock.end(slot);
    }

    /// Removes the topics of a bucket that `goes` says yes to.
    pub(super) fn remove_if(
        &self,
        bucket: &Word,
        random: fn() -> u64,
        mut goes: impl FnMut(Cell) -> bool,
    ) {
        let mut next = bucket.load(Ordering::Relaxed) as Cell;
        while next != 0 {
            let row = next;
            next = self.next_row(row);
            if goes(row) {
                self.remove(row, Slot::Other, random);
            }
        }
    }

    /// Looks through the next bucket of topics, but `keep`, for what is too old.
    pub(super) fn sweep(&self, keep: Cell, now: u64, random: fn() -> u64) {
        let at = self.get(SWEPT);
        self.set(SWEPT, (at + 1) % self.topics.len() as u64);
        let bucket = &self.topics[at as usize];
        self.remove_if(bucket, random, |row| {
            let limits = self.limits(row);
            if row != keep && self.is_over(row, &limits, now) {
                self.lock.begin(Slot::Other, row);
                self.trim(row, &limits, now);
                self.lock.end(Slot::Other);
            }
            let unused = now.saturating_sub(self.cells.word(row, USED_AT));
            row != keep && self.is_bare(row) && unused > POSITION_MS
        });
    }

    /// Sees to it that so many cells are free, at the cost of others than `keep` as long as there
    /// are any. `keep` is under change, or 0.
    pub(super) fn make_room(
        &self,
        cells: usize,
        keep: Cell,
        now: u64,
        random: fn() -> u64,
    ) -> Result<(), HistoryError> {
        let mut looks = LOOK.min(self.topics.len()).min(self.get(TOPICS) as usize);
        while self.cells.free() < cells {
            if self.free_grave() {
                continue;
            }
            if looks > 0 {
                looks -= 1;
                self.sweep(keep, now, random);
            } else if let Some(row) = self.victim(keep) {
                self.remove(row, Slot::Other, random);
                self.set(EVICTED, self.get(EVICTED) + 1);
            } else if keep != 0 && !self.is_bare(keep) {
                if !self.drop_stub(keep) {
                    self.drop_oldest(keep, false);
                }
            } else {
                return Err(HistoryError::Full);
            }
        }
        Ok(())
    }
}
