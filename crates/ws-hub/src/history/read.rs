//! Reading: from where, how much in one piece, and what came.

use std::ops::Range;

use super::cells::Cell;
use super::parts::{Parts, EPOCH};
use super::record::{About, LEN, NEXT, OFFSET, OLDER, PREVIOUS, SKIP};
use super::row::{COUNT, EPOCH_OF, FIRST, LAST, SKIP_TO, TOP};
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
    /// Its number in its epoch, from 1 on.
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
        let count = row.map_or(0, |row| self.cells.half(row, COUNT)) as u64;
        let before_first = top.offset - count;
        let after = match from {
            From::Newest(n) => top.offset - count.min(n as u64),
            // Nothing has been missed since there was nothing.
            From::After(Position::NOWHERE) if before_first == 0 => 0,
            From::After(at) if at.epoch != top.epoch || at.offset > top.offset => {
                return Err(Gap::Epoch);
            }
            From::After(at) if at.offset < before_first => return Err(Gap::Trimmed),
            From::After(at) => at.offset,
        };
        let Some(row) = row.filter(|_| after < top.offset) else {
            return Ok(Page { top, more: false });
        };
        let mut record = self.seek(row, after + 1);
        let mut left = limit;
        let first = out.len();
        while record != 0 {
            let about = About::of(&self.cells, record);
            let len = self.cells.half(record, LEN) as usize;
            if left.records == 0 || len > left.bytes && out.len() > first {
                return Ok(Page { top, more: true });
            }
            let start = out.bytes.len();
            let key = usize::from(about.key);
            if !out.has_room(key + len) {
                // What has come stays. A first message without memory for it cannot be had, which
                // its reader is told as of one that is gone: it would ask for it without end.
                let came = out.len() > first;
                return if came { Ok(Page { top, more: true }) } else { Err(Gap::Trimmed) };
            }
            self.cells.load(record, about.start(), key + len, &mut out.bytes);
            let offset = self.cells.word(record, OFFSET);
            out.records.push(Entry { offset, about, place: start..out.bytes.len() });
            left.records -= 1;
            left.bytes = left.bytes.saturating_sub(len);
            record = self.cells.half(record, NEXT);
        }
        Ok(Page { top, more: false })
    }

    /// The record of an offset that is there.
    fn seek(&self, row: Cell, offset: u64) -> Cell {
        let cells = &self.cells;
        let walk =
            |record, half, steps| (0..steps).fold(record, |record, _| cells.half(record, half));
        let first = cells.half(row, FIRST);
        let top = cells.word(row, TOP);
        let steps = offset - cells.word(first, OFFSET);
        if steps <= SKIP {
            return walk(first, NEXT, steps);
        }
        if top - offset <= SKIP {
            return walk(cells.half(row, LAST), PREVIOUS, top - offset);
        }
        // From the newest one that can be skipped to, which is younger than the offset.
        let newest = top - top % SKIP;
        let skips = (newest - offset) / SKIP;
        let record = walk(cells.half(self.more(row), SKIP_TO), OLDER, skips);
        walk(record, PREVIOUS, newest - skips * SKIP - offset)
    }
}
