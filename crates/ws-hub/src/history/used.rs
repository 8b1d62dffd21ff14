//! Topics in the order of their last use, those without subscribers apart: who goes first when
//! the zone is full. Two lists through the rows; derived from them (repair.rs), by their times.

use super::cells::{Cell, Half};
use super::parts::{Parts, BUSY, IDLE};
use super::row::{BUSY_FLAG, NEWER_USED, OLDER_USED};

const OLDEST: Half = Half::low(0);
const NEWEST: Half = Half::high(0);

impl Parts<'_> {
    fn list_of(&self, row: Cell) -> usize {
        if self.cells.half(row, BUSY_FLAG) != 0 {
            BUSY
        } else {
            IDLE
        }
    }

    /// Puts a row that is in no list at the young end.
    pub(super) fn use_now(&self, row: Cell) {
        let at = self.list_of(row);
        let list = self.get(at);
        let newest = NEWEST.get(list);
        self.cells.set_half(self.more(row), OLDER_USED, newest);
        self.cells.set_half(self.more(row), NEWER_USED, 0);
        if newest == 0 {
            self.set(at, OLDEST.put(NEWEST.put(list, row), row));
        } else {
            self.cells.set_half(self.more(newest), NEWER_USED, row);
            self.set(at, NEWEST.put(list, row));
        }
    }

    /// Takes a row out of its list.
    pub(super) fn take_out(&self, row: Cell) {
        let at = self.list_of(row);
        let older = self.cells.half(self.more(row), OLDER_USED);
        let newer = self.cells.half(self.more(row), NEWER_USED);
        let link = |row: Cell, link, end: Half, value| {
            if row == 0 {
                self.set(at, end.put(self.get(at), value));
            } else {
                self.cells.set_half(self.more(row), link, value);
            }
        };
        link(older, NEWER_USED, OLDEST, newer);
        link(newer, OLDER_USED, NEWEST, older);
    }

    /// Moves a row to the young end of the list that it belongs to now.
    pub(super) fn touch(&self, row: Cell, busy: bool) {
        let is_newest = NEWEST.get(self.get(self.list_of(row))) == row;
        if is_newest && busy == (self.cells.half(row, BUSY_FLAG) != 0) {
            return;
        }
        self.take_out(row);
        self.cells.set_half(row, BUSY_FLAG, busy.into());
        self.use_now(row);
    }

    /// Who goes first, unless it is `keep`.
    pub(super) fn victim(&self, keep: Cell) -> Option<Cell> {
        [IDLE, BUSY].into_iter().find_map(|list| {
            let oldest = OLDEST.get(self.get(list));
            let next = || self.cells.half(self.more(oldest), NEWER_USED);
            let row = if oldest != 0 && oldest == keep { next() } else { oldest };
            (row != 0).then_some(row)
        })
    }
}
