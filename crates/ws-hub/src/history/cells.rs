//! The arena of a history zone: cells of 64 bytes, numbered from 1 on (0 is none), each with a
//! link to the next of its chain in the lower half of its first word. What does not fit into one
//! cell goes on in the next one of the chain, after that word. Free cells are a chain of their
//! own; cells that were never used lie behind them, so that a large zone costs no memory before
//! it holds something.
//!
//! All access is relaxed: only the holder of the zone's lock touches a cell (history.rs).

use crate::memory::{Ordering, Word, WORD};

/// Words of a cell.
pub(super) const CELL: usize = 8;
/// Bytes of a cell.
pub(super) const CELL_BYTES: usize = CELL * WORD;
/// Words of a cell after its link.
const BODY: usize = CELL - 1;

/// A cell's number.
pub(super) type Cell = u32;

/// Half of a word of a cell.
#[derive(Clone, Copy)]
pub(super) struct Half {
    word: usize,
    shift: u32,
}

impl Half {
    pub(super) const fn low(word: usize) -> Self {
        Self { word, shift: 0 }
    }

    pub(super) const fn high(word: usize) -> Self {
        Self { word, shift: 32 }
    }

    /// This half of a word.
    pub(super) fn get(self, word: u64) -> u32 {
        (word >> self.shift) as u32
    }

    /// The word with this half replaced.
    pub(super) fn put(self, word: u64, value: u32) -> u64 {
        word & !(u64::from(u32::MAX) << self.shift) | u64::from(value) << self.shift
    }
}

/// The next cell of the chain.
pub(super) const LINK: Half = Half::low(0);

/// How many cells a chain has whose first holds `len` bytes from word `start` on.
pub(super) fn chain_len(start: usize, len: usize) -> usize {
    1 + len.saturating_sub((CELL - start) * WORD).div_ceil(BODY * WORD)
}

/// The cells. A copy is a second handle.
#[derive(Clone, Copy)]
pub(super) struct Cells<'m> {
    words: &'m [Word],
    /// First free cell, and how many there are.
    free: &'m Word,
    /// The first cell that was never used.
    fresh: &'m Word,
}

const HEAD: Half = Half::low(0);
const COUNT: Half = Half::high(0);

impl<'m> Cells<'m> {
    /// Cells that lie in `words`; number 0 is there too, and never used.
    pub(super) fn new(words: &'m [Word], free: &'m Word, fresh: &'m Word) -> Self {
        Self { words: &words[..words.len() / CELL * CELL], free, fresh }
    }

    /// Nothing is used.
    pub(super) fn init(&self) {
        self.free.store(0, Ordering::Relaxed);
        self.fresh.store(1, Ordering::Relaxed);
    }

    /// One more than the largest number.
    pub(super) fn end(&self) -> usize {
        self.words.len() / CELL
    }

    /// One more than the largest number in use.
    pub(super) fn fresh(&self) -> Cell {
        self.fresh.load(Ordering::Relaxed) as Cell
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        let listed = COUNT.get(self.free.load(Ordering::Relaxed));
        listed as usize + self.end() - self.fresh() as usize
    }

    /// Forgets the free ones; who calls this gives them again.
    pub(super) fn clear_free(&self) {
        self.free.store(0, Ordering::Relaxed);
    }

    fn at(&self, cell: Cell, word: usize) -> &'m Word {
        &self.words[cell as usize * CELL + word]
    }

    pub(super) fn word(&self, cell: Cell, word: usize) -> u64 {
        self.at(cell, word).load(Ordering::Relaxed)
    }

    pub(super) fn set_word(&self, cell: Cell, word: usize, value: u64) {
        self.at(cell, word).store(value, Ordering::Relaxed);
    }

    pub(super) fn half(&self, cell: Cell, half: Half) -> u32 {
        half.get(self.word(cell, half.word))
    }

    pub(super) fn set_half(&self, cell: Cell, half: Half, value: u32) {
        self.set_word(cell, half.word, half.put(self.word(cell, half.word), value));
    }

    /// As `set_half`, and whoever sees this sees everything that was stored before.
    pub(super) fn commit_half(&self, cell: Cell, half: Half, value: u32) {
        let word = half.put(self.word(cell, half.word), value);
        self.at(cell, half.word).store(word, Ordering::Release);
    }

    /// Takes a chain of `n` cells; the caller has made sure that so many are free.
    pub(super) fn take(&self, n: usize) -> Cell {
        let mut free = self.free.load(Ordering::Relaxed);
        let mut fresh = self.fresh();
        let mut first = 0;
        for _ in 0..n {
            let cell = HEAD.get(free);
            let cell = if cell != 0 {
                let next = self.half(cell, LINK);
                free = COUNT.put(HEAD.put(free, next), COUNT.get(free) - 1);
                cell
            } else {
                fresh += 1;
                fresh - 1
            };
            self.set_word(cell, 0, u64::from(first));
            first = cell;
        }
        self.free.store(free, Ordering::Relaxed);
        self.fresh.store(fresh.into(), Ordering::Relaxed);
        first
    }

    /// Gives a chain back.
    pub(super) fn give(&self, chain: Cell) {
        let free = self.free.load(Ordering::Relaxed);
        let (mut last, mut n) = (chain, 1);
        while self.half(last, LINK) != 0 {
            last = self.half(last, LINK);
            n += 1;
        }
        self.set_half(last, LINK, HEAD.get(free));
        let count = COUNT.get(free) + n;
        self.free.store(COUNT.put(chain.into(), count), Ordering::Relaxed);
    }

    /// Gives back what hangs on `cell`, which stays.
    pub(super) fn cut(&self, cell: Cell) -> usize {
        let rest = self.half(cell, LINK);
        if rest == 0 {
            return 0;
        }
        let before = self.free();
        self.set_half(cell, LINK, 0);
        self.give(rest);
        self.free() - before
    }

    /// Stores the parts, joined, from word `start` of `cell` on.
    pub(super) fn store(&self, cell: Cell, start: usize, parts: &[&[u8]]) {
        let mut place = Place { cell, word: start };
        let (mut word, mut filled) = ([0; WORD], 0);
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(WORD - filled));
                word[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                rest = later;
                if filled == WORD {
                    place.next(self).store(u64::from_ne_bytes(word), Ordering::Relaxed);
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            place.next(self).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Appends the `len` bytes from word `start` of `cell` on to `out`, which has room for what is
    /// long: who holds the lock must not end for want of memory.
    pub(super) fn load(&self, cell: Cell, start: usize, len: usize, out: &mut Vec<u8>) {
        let mut place = Place { cell, word: start };
        let mut left = len;
        while left > 0 {
            let bytes = place.next(self).load(Ordering::Relaxed).to_ne_bytes();
            let now = &bytes[..left.min(WORD)];
            out.extend_from_slice(now);
            left -= now.len();
        }
    }

    /// Whether the bytes from word `start` of `cell` on begin with these.
    pub(super) fn holds(&self, cell: Cell, start: usize, bytes: &[u8]) -> bool {
        let mut place = Place { cell, word: start };
        bytes.chunks(WORD).all(|chunk| {
            let word = place.next(self).load(Ordering::Relaxed).to_ne_bytes();
            word[..chunk.len()] == *chunk
        })
    }
}

/// Goes over the words of a chain.
struct Place {
    cell: Cell,
    word: usize,
}

impl Place {
    fn next<'m>(&mut self, cells: &Cells<'m>) -> &'m Word {
        if self.word == CELL {
            *self = Self { cell: cells.half(self.cell, LINK), word: 1 };
        }
        self.word += 1;
        cells.at(self.cell, self.word - 1)
    }
}
