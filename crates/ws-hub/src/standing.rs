//! How it stands with each broker, for who looks on: a row of words for each, which the gateway
//! writes and any worker reads. A row has the hash of the broker's name, so that workers of another
//! configuration, in which another one has its place, do not take it for theirs.
//!
//! There is one gateway at a time, so totals need no atomic addition; they outlive it. Each word is
//! true by itself: who reads while the gateway writes may see a number older than the next.

use twox_hash::XxHash64;

use crate::broker::Number;
use crate::gateway::BROKERS;
use crate::memory::{Ordering, Word};

/// How it stands with a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// It has not been there yet, nor failed.
    #[default]
    Connecting,
    /// Every topic wanted is subscribed.
    Connected,
    /// It was lost, or could not be had; it is tried again and again.
    Away,
}

/// Where a row has what.
const NAME: usize = 0;
const STANDS: usize = 1;
const NUMBERS: usize = 2;
/// Words of a row.
const STRIDE: usize = (NUMBERS + Number::SHOWN.len()).next_multiple_of(8);

/// The rows in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Standings<'m> {
    words: &'m [Word],
}

/// A row as it was read.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// How it stands.
    pub stands: Stands,
    /// Since when, in milliseconds; while the broker is not there since when it is not.
    pub since_ms: u64,
    numbers: [u64; Number::SHOWN.len()],
}

impl Standing {
    /// Of a broker of which no gateway has written anything yet.
    pub fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, ..Self::default() }
    }

    /// One of the broker's numbers.
    pub fn get(&self, number: Number) -> u64 {
        self.numbers[number as usize]
    }

    /// For how many milliseconds the broker has not been there; 0: it is.
    pub fn away(&self, now_ms: u64) -> u64 {
        match self.stands {
            Stands::Connected => 0,
            Stands::Connecting | Stands::Away => now_ms.saturating_sub(self.since_ms),
        }
    }
}

impl<'m> Standings<'m> {
    /// Words of the whole.
    pub(crate) const WORDS: usize = BROKERS * STRIDE;

    /// All zero, or rows of before.
    pub(crate) fn new(words: &'m [Word]) -> Self {
        Self { words }
    }

    /// The gateway says how it stands with the broker that is the `n`th of its configuration. One
    /// that was away when another gateway had it is so since then.
    pub fn set(&self, n: usize, name: &str, stands: Stands, since_ms: u64) {
        let Some(row) = self.row(n) else { return };
        let hash = hash(name);
        if row[NAME].load(Ordering::Relaxed) != hash {
            row.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            row[NAME].store(hash, Ordering::Relaxed);
        }
        let before = row[STANDS].load(Ordering::Relaxed);
        let was_gone = before != 0 && unpack(before).0 != Stands::Connected;
        let since_ms = match was_gone && stands != Stands::Connected {
            true => unpack(before).1,
            false => since_ms,
        };
        row[STANDS].store(pack(stands, since_ms), Ordering::Relaxed);
    }

    /// The gateway counts: more of a total, or what a gauge is now.
    pub fn count(&self, n: usize, number: Number, value: u64) {
        let Some(row) = self.row(n) else { return };
        let word = &row[NUMBERS + number as usize];
        let before = if number.is_gauge() { 0 } else { word.load(Ordering::Relaxed) };
        word.store(before.wrapping_add(value), Ordering::Relaxed);
    }

    /// The row of the broker of that name, if a gateway has written one.
    pub fn read(&self, name: &str) -> Option<Standing> {
        let hash = hash(name);
        let mut rows = self.words.chunks_exact(STRIDE);
        let row = rows.find(|row| row[NAME].load(Ordering::Relaxed) == hash)?;
        let (stands, since_ms) = unpack(row[STANDS].load(Ordering::Relaxed));
        let numbers = std::array::from_fn(|n| row[NUMBERS + n].load(Ordering::Relaxed));
        Some(Standing { stands, since_ms, numbers })
    }

    fn row(&self, n: usize) -> Option<&'m [Word]> {
        self.words.chunks_exact(STRIDE).nth(n)
    }
}

/// Never 0: a row that was never written has no name.
fn hash(name: &str) -> u64 {
    XxHash64::oneshot(0, name.as_bytes()).max(1)
}

/// Never 0.
fn pack(stands: Stands, since_ms: u64) -> u64 {
    since_ms << 2 | (stands as u64 + 1)
}

fn unpack(word: u64) -> (Stands, u64) {
    let stands = match word & 3 {
        2 => Stands::Connected,
        3 => Stands::Away,
        _ => Stands::Connecting,
    };
    (stands, word >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Vec<Word> {
        (0..Standings::WORDS).map(|_| Word::new(0)).collect()
    }

    fn seen(rows: &Standings<'_>, name: &str) -> Option<(Stands, u64)> {
        rows.read(name).map(|row| (row.stands, row.since_ms))
    }

    #[test]
    fn who_is_away_stays_so_under_the_next_gateway() {
        let words = memory();
        let rows = Standings::new(&words);
        assert_eq!(seen(&rows, "main"), None);
        rows.set(1, "main", Stands::Connecting, 0);
        assert_eq!(seen(&rows, "main"), Some((Stands::Connecting, 0)));
        rows.set(1, "main", Stands::Connected, 2000);
        rows.set(1, "main", Stands::Away, 3000);
        rows.set(1, "main", Stands::Connecting, 9000);
        assert_eq!(seen(&rows, "main"), Some((Stands::Connecting, 3000)));
        assert_eq!(rows.read("main").map(|row| row.away(10_000)), Some(7000));
        rows.set(1, "main", Stands::Connected, 11_000);
        assert_eq!(rows.read("main").map(|row| row.away(12_000)), Some(0));
        rows.set(1, "main", Stands::Away, 12_000);
        assert_eq!(seen(&rows, "main"), Some((Stands::Away, 12_000)));
        rows.set(BROKERS, "more", Stands::Away, 1);
        assert_eq!(seen(&rows, "more"), None);
    }

    #[test]
    fn totals_add_up_and_gauges_are_what_they_are() {
        let words = memory();
        let rows = Standings::new(&words);
        rows.set(0, "main", Stands::Connected, 1);
        for n in [3, 4] {
            rows.count(0, Number::Published, n);
            rows.count(0, Number::RttMs, n);
        }
        rows.count(BROKERS, Number::Published, 1);
        let row = rows.read("main").unwrap();
        assert_eq!((row.get(Number::Published), row.get(Number::RttMs)), (7, 4));
        // Another broker in its place begins anew.
        rows.set(0, "other", Stands::Connecting, 1);
        assert_eq!(rows.read("other").unwrap().get(Number::Published), 0);
        assert!(rows.read("main").is_none());
    }
}
