//! A message in the zone: a chain of cells. Words of its first one: link and length; offset; time
//! (48 bits), flags, length of the key; previous and next record of its topic; an older record to
//! skip to, and the topic. With a key, the next one in the key's bucket and the key's hash; the
//! topic's epoch. Then the key's and the message's bytes, on into the cells after it: 100 bytes
//! take three cells.
//!
//! A record of a copy (copy.rs), which has no key, has the offset before it and its number in those
//! two words instead: offsets may have gaps there, numbers grow by one. Elsewhere the number is the
//! offset.
//!
//! Skipping: every record whose number is a multiple of [`SKIP`] knows the one before it of that
//! kind, so any number is found in some hundred steps among 100 000. Whether that one is still
//! there is told by its number alone: it is not older than the topic's first.

use super::cells::{chain_len, Cell, Cells, Half, LINK};

/// Records from one that can be skipped to, to the next.
pub(super) const SKIP: u64 = 64;

pub(super) const LEN: Half = Half::high(0);
pub(super) const OFFSET: usize = 1;
const ABOUT: usize = 2;
pub(super) const PREVIOUS: Half = Half::low(3);
pub(super) const NEXT: Half = Half::high(3);
pub(super) const OLDER: Half = Half::low(4);
pub(super) const TOPIC: Half = Half::high(4);
pub(super) const NEXT_KEY: Half = Half::low(5);
pub(super) const KEY_HASH: Half = Half::high(5);
pub(super) const KEY_EPOCH: usize = 6;
const BEFORE: usize = 5;
const NUMBER: usize = 6;
const PLAIN_START: usize = 5;
const KEYED_START: usize = 7;
const TIME_BITS: u32 = 48;
/// Beside the key's length: the record is one of a copy.
const COPIED: u8 = 0x80;

/// What a record says of itself beside its offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct About {
    /// Milliseconds.
    pub time: u64,
    pub flags: u8,
    /// Bytes of the key, 0 for none.
    pub key: u8,
    /// It is a record of a copy.
    pub copied: bool,
}

/// Where a record of a copy is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub offset: u64,
    /// The offset of the one before.
    pub before: u64,
}

impl About {
    pub(super) fn of(cells: &Cells<'_>, record: Cell) -> Self {
        let word = cells.word(record, ABOUT);
        Self {
            time: word & ((1 << TIME_BITS) - 1),
            flags: (word >> TIME_BITS) as u8,
            key: (word >> (TIME_BITS + 8)) as u8 & !COPIED,
            copied: (word >> (TIME_BITS + 8)) as u8 & COPIED != 0,
        }
    }

    pub(super) fn store(self, cells: &Cells<'_>, record: Cell) {
        let time = self.time & ((1 << TIME_BITS) - 1);
        let flags = u64::from(self.flags) << TIME_BITS;
        let key = self.key | if self.copied { COPIED } else { 0 };
        cells.set_word(record, ABOUT, time | flags | u64::from(key) << (TIME_BITS + 8));
    }

    /// The word in the first cell where the key or the message begins.
    pub(super) fn start(self) -> usize {
        if self.key > 0 || self.copied {
            KEYED_START
        } else {
            PLAIN_START
        }
    }

    /// Cells of such a record with a message of `len` bytes.
    pub(super) fn cells(self, len: usize) -> usize {
        chain_len(self.start(), usize::from(self.key) + len)
    }
}

/// Cells of a record.
pub(super) fn cells_of(cells: &Cells<'_>, record: Cell) -> usize {
    About::of(cells, record).cells(cells.half(record, LEN) as usize)
}

/// Notes where a record of a copy is, and its number.
pub(super) fn set_place(cells: &Cells<'_>, record: Cell, before: u64, number: u64) {
    cells.set_word(record, BEFORE, before);
    cells.set_word(record, NUMBER, number);
}

/// A record's number among its topic's.
pub(super) fn number(cells: &Cells<'_>, record: Cell) -> u64 {
    let copied = About::of(cells, record).copied;
    cells.word(record, if copied { NUMBER } else { OFFSET })
}

/// The offset of the message before a record, which may be gone.
pub(super) fn before(cells: &Cells<'_>, record: Cell) -> u64 {
    match About::of(cells, record).copied {
        true => cells.word(record, BEFORE),
        false => cells.word(record, OFFSET) - 1,
    }
}

/// Takes the message away and leaves key, offset and time. Cells that this frees.
pub(super) fn strip(cells: &Cells<'_>, record: Cell) -> usize {
    let about = About::of(cells, record);
    let mut last = record;
    for _ in 1..about.cells(0) {
        last = cells.half(last, LINK);
    }
    cells.set_half(record, LEN, 0);
    cells.cut(last)
}
