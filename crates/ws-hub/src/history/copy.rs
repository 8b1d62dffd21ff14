//! Copies of histories that are kept elsewhere, at a broker: epoch, offsets and times are what they
//! are there, and whoever reads the copy reads it as any history. A copy begins after some position,
//! and messages are appended to it one after the other; what does not follow is not taken. Offsets
//! may have gaps there (those of a JetStream are its stream's), so each message comes with the offset
//! before it.
//!
//! A topic that is empty there has no epoch yet. Its copy stands at [`Position::NOWHERE`], and so
//! does who reads it: the first message of whatever epoch begins follows on that.
//!
//! A copy never becomes a history of this machine's: its epoch is another's, who goes on in it. Where the
//! topic is kept here from now on, it is dropped (`History::drop_copies`).
//!
//! Whether a copy is as new as what it is of is the caller's to know: a row has a mark of the
//! caller's, 0 in a row that is new.

use super::cells::{Cell, Half};
use super::lock::Slot;
use super::parts::{Parts, EPOCH};
use super::publish::about;
use super::record::Place;
use super::row::{row_cells, EPOCH_OF, IS_COPY, TOP, USED_AT};
use super::{HistoryError, Message, Position, Topic};

/// In the second cell of a row.
const MARK: Half = Half::high(3);

/// What became of a message for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is the newest now.
    Appended,
    /// The copy has it, or has had it.
    Known,
    /// It does not follow on what the copy has.
    Gap,
}

impl Parts<'_> {
    /// Begins a copy anew: what it has is dropped, its next message is the one after `at`. A copy that has
    /// had `at` stays: who has read more of it would be told that this was another history's.
    pub(super) fn begin_copy(
        &self,
        topic: &Topic<'_>,
        at: Position,
        now: u64,
        random: fn() -> u64,
    ) -> Result<(), HistoryError> {
        if topic.generation != self.generation() {
            return Err(HistoryError::Stale);
        }
        let row = match self.find(topic.name) {
            Some(row) if self.has_had(row, at) => return Ok(()),
            Some(row) => row,
            None => {
                self.make_room(row_cells(topic.name.len()), 0, now, random)?;
                self.add_row(topic.name, at.epoch, now)
            }
        };
        if self.cells.word(row, EPOCH_OF) == self.get(EPOCH) {
            // It was a history of this machine's, whose positions are forgotten.
            self.commit(EPOCH, random());
        }
        self.lock.begin(Slot::Own, row);
        self.bury(row);
        self.cells.set_half(self.more(row), IS_COPY, 1);
        self.set_limits(row, topic.limits);
        self.cells.set_word(row, EPOCH_OF, at.epoch);
        self.cells.set_word(row, TOP, at.offset);
        self.cells.set_word(row, USED_AT, now);
        self.lock.end(Slot::Own);
        self.touch(row, self.is_busy(row));
        Ok(())
    }

    /// Whether a topic is kept elsewhere.
    pub(super) fn is_copy(&self, row: Cell) -> bool {
        self.cells.half(self.more(row), IS_COPY) != 0
    }

    fn has_had(&self, row: Cell, at: Position) -> bool {
        let top = self.top(Some(row));
        top.epoch == at.epoch && top.offset >= at.offset
    }

    /// Appends a message that is at `at` where it comes from, if it follows.
    pub(super) fn place(
        &self,
        topic: &Topic<'_>,
        at: Position,
        before: u64,
        time: u64,
        message: &Message<'_>,
        random: fn() -> u64,
    ) -> Result<Placed, HistoryError> {
        if topic.generation != self.generation() {
            return Err(HistoryError::Stale);
        }
        let Some(row) = self.find(topic.name) else { return Ok(Placed::Gap) };
        let top = self.top(Some(row));
        let is_first = top == Position::NOWHERE && before == 0;
        if self.has_had(row, at) {
            return Ok(Placed::Known);
        }
        if !is_first && (at.epoch != top.epoch || before != top.offset) {
            return Ok(Placed::Gap);
        }
        let most = self.most_cells(&topic.limits);
        let place = Some(Place { offset: at.offset, before });
        let need = about(message, b"", place, time).cells(message.data.len());
        if need > most {
            return Err(HistoryError::TooLarge);
        }
        self.lock.begin(Slot::Own, row);
        self.set_limits(row, topic.limits);
        self.cells.set_word(row, EPOCH_OF, at.epoch);
        self.trim_cells(row, most - need);
        let room = self.make_room(need, row, time, random);
        if room.is_ok() {
            self.append(row, message, &[], place, time);
        }
        self.trim(row, &topic.limits, time);
        self.lock.end(Slot::Own);
        self.touch(row, message.subscribed);
        room.map(|()| Placed::Appended)
    }

    pub(super) fn mark(&self, name: &[u8]) -> u32 {
        self.find(name).map_or(0, |row| self.cells.half(self.more(row), MARK))
    }

    pub(super) fn set_mark(&self, name: &[u8], mark: u32) {
        if let Some(row) = self.find(name) {
            self.cells.set_half(self.more(row), MARK, mark);
        }
    }
}
