//! A message in the zone: a chain of cells. Words of its first one: link and length; offset; time
//! (48 bits), flags, length of the key; previous and next record of its topic; an older record to
//! skip to, and the topic. With a key, the next one in the key's bucket and the key's hash; the
//! topic's epoch. Then the key's and the message's bytes, on into the cells after it: 100 bytes
//! take three cells.
//!
//! Skipping: every record whose offset is a multiple of [`SKIP`] knows the one before it of that
//! kind, so any offset is found in some hundred steps among 100 000. Whether that one is still
//! there is told by its offset alone: it is not older than the topic's first.

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
const PLAIN_START: usize = 5;
const KEYED_START: usize = 7;
const TIME_BITS: u32 = 48;

/// What a record says of itself beside its offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct About {
    /// Milliseconds.
    pub time: u64,
    pub flags: u8,
    /// Bytes of the key, 0 for none.
    pub key: u8,
}

impl About {
    pub(super) fn of(cells: &Cells<'_>, record: Cell) -> Self {
        let word = cells.word(record, ABOUT);
        Self {
            time: word & ((1 << TIME_BITS) - 1),
            flags: (word >> TIME_BITS) as u8,
            key: (word >> (TIME_BITS + 8)) as u8,
        }
    }

    pub(super) fn store(self, cells: &Cells<'_>, record: Cell) {
        let time = self.time & ((1 << TIME_BITS) - 1);
        let flags = u64::from(self.flags) << TIME_BITS;
        cells.set_word(record, ABOUT, time | flags | u64::from(self.key) << (TIME_BITS + 8));
    }

    /// The word in the first cell where the key or the message begins.
    pub(super) fn start(self) -> usize {
        if self.key > 0 {
            KEYED_START
        } else {
            PLAIN_START
        }
    }
}

/// Cells of a record with a key of `key` bytes, 0 for none.
pub(super) fn record_cells(key: usize, len: usize) -> usize {
    chain_len(if key > 0 { KEYED_START } else { PLAIN_START }, key + len)
}

/// Cells of a record.
pub(super) fn cells_of(cells: &Cells<'_>, record: Cell) -> usize {
    let key = About::of(cells, record).key;
    record_cells(key.into(), cells.half(record, LEN) as usize)
}

/// Takes the message away and leaves key, offset and time. Cells that this frees.
pub(super) fn strip(cells: &Cells<'_>, record: Cell) -> usize {
    let about = About::of(cells, record);
    let mut last = record;
    for _ in 1..record_cells(about.key.into(), 0) {
        last = cells.half(last, LINK);
    }
    cells.set_half(record, LEN, 0);
    cells.cut(last)
}
