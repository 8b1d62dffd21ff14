//! Reading: from where, how much in one piece, and what came.

use std::ops::Range;

use super::cells::Cell;
use super::parts::{Parts, EPOCH};
use super::record::{before, number, About, LEN, NEXT, OFFSET, OLDER, PREVIOUS, SKIP};
use super::row::{EPOCH_OF, FIRST, LAST, SKIP_TO, TOP};
use super::Position;

/// Records of one piece at most: as long as that others wait for the lock.
pub const PIECE_RECORDS: usize = 64;
/// Bytes of one piece, save for a first message that is larger.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the message after this position.
    After(Position),
    /// With so many before the end, or as many as there are.
    Newest(usize),
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Messages.
    pub records: usize,
    /// Bytes of messages; a first one that is larger comes nevertheless.
    pub bytes: usize,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The topic's newest position.
    pub top: Position,
    /// There are more messages after the last one that came.
    pub more: bool,
    /// How many there are from the first one that came on, or would have with less of a limit.
    pub all: u64,
}

/// Why messages after a position cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The history that the position was of is gone, or never was.
    Epoch,
    /// Some of them are.
    Trimmed,
}

/// A message of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in its epoch, from 1 on; in a copy there may be gaps between them.
    pub offset: u64,
    /// When it was published, in milliseconds.
    pub time: u64,
    /// The caller's, see [`super::Message::flags`].
    pub flags: u8,
    /// The idempotency key, empty for none.
    pub key: &'a [u8],
    /// The message.
    pub data: &'a [u8],
}

/// Messages that were read. Keeps its memory, to be used again.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Entry>,
}

struct Entry {
    offset: u64,
    about: About,
    /// Key and message in `bytes`.
    place: Range<usize>,
}

impl Batch {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// One of them.
    pub fn get(&self, n: usize) -> Option<Record<'_>> {
        self.records.get(n).map(|entry| self.record(entry))
    }

    /// All of them, in the order of their offsets.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Record<'_>> + ExactSizeIterator {
        self.records.iter().map(|entry| self.record(entry))
    }

    fn record(&self, entry: &Entry) -> Record<'_> {
        let (key, data) = self.bytes[entry.place.clone()].split_at(entry.about.key.into());
        let About { time, flags, .. } = entry.about;
        Record { offset: entry.offset, time, flags, key, data }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// Memory is found before the lock is taken, as far as can be known then.
    pub(super) fn reserve(&mut self) {
        // Without it each message is asked for alone, see `has_room`.
        let _ = self.bytes.try_reserve(PIECE_BYTES);
        let _ = self.records.try_reserve(PIECE_RECORDS);
    }

    /// Makes room for one more message of so many bytes.
    fn has_room(&mut self, len: usize) -> bool {
        self.bytes.try_reserve(len).is_ok() && self.records.try_reserve(1).is_ok()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Parts<'_> {
    /// The topic's newest position: without a row, that of one which is new.
    pub(super) fn top(&self, row: Option<Cell>) -> Position {
        row.map_or(Position { epoch: self.get(EPOCH), offset: 0 }, |row| Position {
            epoch: self.cells.word(row, EPOCH_OF),
            offset: self.cells.word(row, TOP),
        })
    }

    /// Appends messages to `out` until a limit. The row holds nothing that is over its limits.
    pub(super) fn read(
        &self,
        row: Option<Cell>,
        from: From,
        limit: Limit,
        out: &mut Batch,
    ) -> Result<Page, Gap> {
        let top = self.top(row);
        let end = |half| row.map_or(0, |row| self.cells.half(row, half));
        let (first, last) = (end(FIRST), end(LAST));
        let before_first = if first == 0 { top.offset } else { before(&self.cells, first) };
        let mut record = match (from, row) {
            // Nothing has been missed since there was nothing.
            (From::After(Position::NOWHERE), _) if before_first == 0 => first,
            (From::After(at), _) if at.epoch != top.epoch || at.offset > top.offset => {
                return Err(Gap::Epoch);
            }
            (From::After(at), _) if at.offset < before_first => return Err(Gap::Trimmed),
            (From::After(at), Some(row)) if at.offset < top.offset => self.seek(row, at.offset),
            (From::Newest(n), Some(row)) if n > 0 && last != 0 => {
                let (newest, oldest) = (number(&self.cells, last), number(&self.cells, first));
                self.at_number(row, (newest + 1).saturating_sub(n as u64).max(oldest))
            }
            _ => 0,
        };
        let all = match record {
            0 => 0,
            record => number(&self.cells, last) - number(&self.cells, record) + 1,
        };
        let mut left = limit;
        let first = out.len();
        while record != 0 {
            let about = About::of(&self.cells, record);
            let len = self.cells.half(record, LEN) as usize;
            if left.records == 0 || len > left.bytes && out.len() > first {
                return Ok(Page { top, more: true, all });
            }
            let start = out.bytes.len();
            let key = usize::from(about.key);
            if !out.has_room(key + len) {
                // What has come stays. A first message without memory for it cannot be had, which
                // its reader is told as of one that is gone: it would ask for it without end.
                let came = out.len() > first;
                return if came { Ok(Page { top, more: true, all }) } else { Err(Gap::Trimmed) };
            }
            self.cells.load(record, about.start(), key + len, &mut out.bytes);
            let offset = self.cells.word(record, OFFSET);
            out.records.push(Entry { offset, about, place: start..out.bytes.len() });
            left.records -= 1;
            left.bytes = left.bytes.saturating_sub(len);
            record = self.cells.half(record, NEXT);
        }
        Ok(Page { top, more: false, all })
    }

    /// The first record after an offset that the topic's first is not after; there is one.
    fn seek(&self, row: Cell, after: u64) -> Cell {
        let cells = &self.cells;
        let (first, mut record) = (cells.half(row, FIRST), cells.half(row, LAST));
        if !About::of(cells, record).copied {
            return self.at_number(row, after + 1);
        }
        let is_after = |record| cells.word(record, OFFSET) > after;
        let (oldest, newest) = (number(cells, first), number(cells, record));
        let mut skips = newest - newest % SKIP;
        let mut skip = cells.half(self.more(row), SKIP_TO);
        while skips >= oldest && is_after(skip) {
            (record, skip, skips) = (skip, cells.half(skip, OLDER), skips - SKIP);
        }
        while record != first && is_after(cells.half(record, PREVIOUS)) {
            record = cells.half(record, PREVIOUS);
        }
        record
    }

    /// The record of a number that is there.
    fn at_number(&self, row: Cell, at: u64) -> Cell {
        let cells = &self.cells;
        let walk =
            |record, half, steps| (0..steps).fold(record, |record, _| cells.half(record, half));
        let first = cells.half(row, FIRST);
        let top = number(cells, cells.half(row, LAST));
        let steps = at - number(cells, first);
        if steps <= SKIP {
            return walk(first, NEXT, steps);
        }
        if top - at <= SKIP {
            return walk(cells.half(row, LAST), PREVIOUS, top - at);
        }
        // From the newest one that can be skipped to, which is younger.
        let newest = top - top % SKIP;
        let skips = (newest - at) / SKIP;
        let record = walk(cells.half(self.more(row), SKIP_TO), OLDER, skips);
        walk(record, PREVIOUS, newest - skips * SKIP - at)
    }
}
