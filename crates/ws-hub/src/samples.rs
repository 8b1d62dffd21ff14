//! The last minutes of some numbers, for graphs that begin with a past: a sample of each, taken over
//! all workers every [`EVERY_MS`], in a ring of [`SAMPLES`]. Whichever worker comes first at the time
//! of a sample takes it; the others find it taken.
//!
//! A sample's stamp is its number, and is written last: a reader takes what it has copied only if the
//! stamp was the same before and after, so a sample that is being written, or whose worker was killed
//! while it wrote, is left out and nobody waits for it.

use crate::counters::Counter;
use crate::memory::{fence, Ordering, Word};

/// The numbers that are kept, in the order of a sample's values.
pub const KEPT: [Counter; 8] = [
    Counter::Open,
    Counter::MessagesIn,
    Counter::MessagesOut,
    Counter::BytesIn,
    Counter::BytesOut,
    Counter::Published,
    Counter::Delivered,
    Counter::Subscriptions,
];
/// Milliseconds between two samples.
pub const EVERY_MS: u64 = 2000;
/// How many samples there are: six minutes.
pub const SAMPLES: usize = 180;

/// Words of a sample: its stamp and its values.
const STRIDE: usize = 1 + KEPT.len();
/// The number of the newest sample that somebody takes or has taken.
const AT_NEWEST: usize = 0;
/// Until when somebody looks, see [`Samples::look`].
const AT_LOOKING: usize = 1;
const HEADER: usize = 8;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, in [`EVERY_MS`].
    pub number: u64,
    /// As [`KEPT`] names them.
    pub values: [u64; KEPT.len()],
}

/// The samples in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Samples<'m> {
    words: &'m [Word],
}

impl<'m> Samples<'m> {
    /// Words of the whole.
    pub(crate) const WORDS: usize = HEADER + SAMPLES * STRIDE;

    /// All zero, or samples of before.
    pub(crate) fn new(words: &'m [Word]) -> Self {
        Self { words }
    }

    /// Takes the sample that is due at `now_ms`, of a clock that all workers share, unless somebody
    /// has.
    pub fn take(&self, now_ms: u64, value: impl Fn(Counter) -> u64) {
        // 0 is a sample that was never taken.
        let number = now_ms / EVERY_MS + 1;
        let newest = &self.words[AT_NEWEST];
        let seen = newest.load(Ordering::Relaxed);
        let won = seen < number
            && newest.compare_exchange(seen, number, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !won {
            return;
        }
        let (stamp, values) = self.place(number);
        stamp.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, counter) in values.iter().zip(KEPT) {
            word.store(value(counter), Ordering::Relaxed);
        }
        stamp.store(number, Ordering::Release);
    }

    /// The samples up to `now_ms`, oldest first.
    pub fn samples(&self, now_ms: u64) -> impl Iterator<Item = Sample> + 'm {
        let this = *self;
        let last = now_ms / EVERY_MS + 1;
        (last.saturating_sub(SAMPLES as u64 - 1).max(1)..=last)
            .filter_map(move |number| this.read(number))
    }

    fn read(&self, number: u64) -> Option<Sample> {
        let (stamp, words) = self.place(number);
        if stamp.load(Ordering::Acquire) != number {
            return None;
        }
        let mut values = [0; KEPT.len()];
        for (value, word) in values.iter_mut().zip(words) {
            *value = word.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        (stamp.load(Ordering::Relaxed) == number).then_some(Sample { number, values })
    }

    fn place(&self, number: u64) -> (&'m Word, &'m [Word]) {
        let at = HEADER + (number % SAMPLES as u64) as usize * STRIDE;
        (&self.words[at], &self.words[at + 1..at + STRIDE])
    }

    /// Somebody looks until `until_ms`, and wants what is too dear to be kept for nobody
    /// ([`crate::highlights`]).
    pub fn look(&self, until_ms: u64) {
        self.words[AT_LOOKING].store(until_ms, Ordering::Relaxed);
    }

    /// Whether somebody looks.
    pub fn is_looked_at(&self, now_ms: u64) -> bool {
        now_ms < self.words[AT_LOOKING].load(Ordering::Relaxed)
    }
}
