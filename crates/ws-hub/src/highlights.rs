//! What stands out in each worker: its largest topics and its slowest readers, written by the worker
//! now and then into its own place in the zone, for whoever shows them.
//!
//! A place begins with a version that is odd while it is being written. A reader takes what it has
//! copied only if the version was even and the same before and after; what a killed worker left odd
//! is nobody's, until the next owner of the row writes it anew.

use crate::id::ConnId;
use crate::memory::{fence, Ordering, Word};

/// As many topics and as many readers of each worker.
pub const SHOWN: usize = 8;
/// The bytes of a topic's name that are kept.
pub const NAME: usize = 63;

/// A name's words: a byte for its length, and its beginning.
const NAME_WORDS: usize = (NAME + 1) / 8;
const TOPIC: usize = 1 + NAME_WORDS;
const READER: usize = 1 + 2;
const AT_READERS: usize = 1 + SHOWN * TOPIC;

/// The largest and the slowest, of one worker or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Highlights {
    /// Names (their first [`NAME`] bytes) and subscribers.
    pub topics: Vec<(Vec<u8>, u64)>,
    /// Connections, and how many bytes wait for each.
    pub readers: Vec<(ConnId, u64)>,
}

/// The places in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Board<'m> {
    words: &'m [Word],
}

impl<'m> Board<'m> {
    /// Words of a row: whole cache lines.
    pub(crate) const STRIDE: usize = (AT_READERS + SHOWN * READER).next_multiple_of(8);

    /// All zero, or a board's before.
    pub(crate) fn new(words: &'m [Word]) -> Self {
        Self { words }
    }

    fn row(&self, row: u16) -> &'m [Word] {
        let start = usize::from(row) * Self::STRIDE;
        &self.words[start..start + Self::STRIDE]
    }

    /// Writes what a worker has to show, [`SHOWN`] of each. Only the worker that has the row may.
    pub fn write(&self, row: u16, shown: &Highlights) {
        let words = self.row(row);
        let odd = words[0].load(Ordering::Relaxed) | 1;
        words[0].store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        for (n, place) in words[1..AT_READERS].chunks_exact(TOPIC).enumerate() {
            let none = (Vec::new(), 0);
            let (name, subscribers) = shown.topics.get(n).unwrap_or(&none);
            let mut bytes = [0; NAME + 1];
            let length = name.len().min(NAME);
            bytes[0] = length as u8;
            bytes[1..=length].copy_from_slice(&name[..length]);
            place[0].store(*subscribers, Ordering::Relaxed);
            store(&place[1..], &bytes);
        }
        for (n, place) in words[AT_READERS..].chunks_exact(READER).take(SHOWN).enumerate() {
            let (id, waiting) = match shown.readers.get(n) {
                Some((id, waiting)) => (*id.as_bytes(), *waiting),
                None => ([0; 16], 0),
            };
            place[0].store(waiting, Ordering::Relaxed);
            store(&place[1..], &id);
        }
        words[0].store(odd + 1, Ordering::Release);
    }

    /// What the worker in `row` has to show. Nothing while it is being written.
    pub fn read(&self, row: u16) -> Option<Highlights> {
        let words = self.row(row);
        let version = words[0].load(Ordering::Acquire);
        let mut shown = Highlights::default();
        for place in words[1..AT_READERS].chunks_exact(TOPIC) {
            let subscribers = place[0].load(Ordering::Relaxed);
            let bytes: [u8; NAME + 1] = load(&place[1..]);
            let length = usize::from(bytes[0]).min(NAME);
            if subscribers > 0 {
                shown.topics.push((bytes[1..=length].to_vec(), subscribers));
            }
        }
        for place in words[AT_READERS..].chunks_exact(READER).take(SHOWN) {
            let waiting = place[0].load(Ordering::Relaxed);
            if waiting > 0 {
                shown.readers.push((ConnId::from_bytes(load(&place[1..])), waiting));
            }
        }
        fence(Ordering::Acquire);
        let same = words[0].load(Ordering::Relaxed) == version;
        (version.is_multiple_of(2) && same).then_some(shown)
    }
}

fn store(words: &[Word], bytes: &[u8]) {
    for (word, eight) in words.iter().zip(bytes.chunks_exact(8)) {
        let value = eight.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        word.store(value, Ordering::Relaxed);
    }
}

fn load<const N: usize>(words: &[Word]) -> [u8; N] {
    let mut bytes = [0; N];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(words) {
        eight.copy_from_slice(&word.load(Ordering::Relaxed).to_be_bytes());
    }
    bytes
}

/// The `most` entries with the largest numbers, largest first; ties in the order of their keys.
pub fn largest<K: Ord>(entries: impl Iterator<Item = (K, u64)>, most: usize) -> Vec<(K, u64)> {
    let mut kept: Vec<(K, u64)> = Vec::with_capacity(most + 1);
    for entry in entries {
        let after =
            |other: &(K, u64)| other.1 > entry.1 || (other.1 == entry.1 && other.0 < entry.0);
        let at = kept.partition_point(after);
        if entry.1 > 0 && at < most {
            kept.insert(at, entry);
            kept.truncate(most);
        }
    }
    kept
}
