//! A record as words: its head, and the payload packed eight bytes to a word, both going round
//! the end of the data. All access is relaxed; ring.rs argues the order around it. Only ring.rs
//! calls this.

use std::hash::Hasher;

use twox_hash::XxHash64;

use crate::memory::{Ordering, Word, WORD};
use crate::target::{Target, TopicHash};

/// Words before the payload.
pub(super) const HEAD_WORDS: usize = 6;
/// How much a writer stores between two looks at whether it was overtaken.
const CHUNK: usize = 4096;
/// Makes a hash of this crate differ from one over the same bytes elsewhere.
const SEED: u64 = 0x7773_2d68_7562_0001;

/// What a record says of itself.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub position: u64,
    pub seq: u64,
    pub len: u32,
    pub writer: u16,
    pub target: Target,
    /// Of the payload.
    pub hash: u64,
}

impl Head {
    pub(super) fn store(&self, data: &[Word], offset: usize) {
        let (kind, value) = match self.target {
            Target::All => (0, 0),
            Target::Topic(TopicHash(hash)) => (1, hash),
            Target::Row(row) => (2, row.into()),
        };
        let shape = u64::from(self.len) | u64::from(self.writer) << 32 | kind << 48;
        let words = [self.position, self.seq, shape, value, self.hash];
        let mut at = offset;
        for word in words.into_iter().chain([hash_words(&words)]) {
            data[at].store(word, Ordering::Relaxed);
            at = after(data, at);
        }
    }

    /// Nothing if the words are not one record's head.
    pub(super) fn load(data: &[Word], offset: usize) -> Option<Self> {
        let mut words = [0; HEAD_WORDS];
        let mut at = offset;
        for word in &mut words {
            *word = data[at].load(Ordering::Relaxed);
            at = after(data, at);
        }
        let [head @ .., check] = words;
        if hash_words(&head) != check {
            return None;
        }
        let [position, seq, shape, value, hash] = head;
        let target = match shape >> 48 {
            0 => Target::All,
            1 => Target::Topic(TopicHash(value)),
            2 => Target::Row(value as u16),
            _ => return None,
        };
        Some(Self { position, seq, len: shape as u32, writer: (shape >> 32) as u16, target, hash })
    }
}

fn after(data: &[Word], at: usize) -> usize {
    if at + 1 == data.len() {
        0
    } else {
        at + 1
    }
}

fn hash_words(words: &[u64; HEAD_WORDS - 1]) -> u64 {
    let mut bytes = [0; (HEAD_WORDS - 1) * WORD];
    for (chunk, word) in bytes.chunks_exact_mut(WORD).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    XxHash64::oneshot(SEED, &bytes)
}

/// The hash of the parts joined.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    if let [whole] = parts {
        return XxHash64::oneshot(SEED, whole);
    }
    let mut hasher = XxHash64::with_seed(SEED);
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// Packs the parts, joined, from `offset` on. False, and unfinished, once `go_on` says no.
pub(super) fn store(
    data: &[Word],
    offset: usize,
    parts: &[&[u8]],
    go_on: impl Fn() -> bool,
) -> bool {
    let mut packer = Packer { data, at: offset, word: [0; WORD], filled: 0 };
    let mut room = CHUNK;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            packer.push(now);
            rest = later;
            room -= now.len();
            if room == 0 {
                if !go_on() {
                    return false;
                }
                room = CHUNK;
            }
        }
    }
    packer.finish();
    true
}

struct Packer<'a> {
    data: &'a [Word],
    at: usize,
    word: [u8; WORD],
    filled: usize,
}

impl Packer<'_> {
    fn push(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(WORD - self.filled));
            self.word[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled < WORD {
                return;
            }
            self.data[self.at].store(u64::from_ne_bytes(self.word), Ordering::Relaxed);
            self.at = after(self.data, self.at);
            self.filled = 0;
        }
        let (mut whole, rest) = bytes.split_at(bytes.len() / WORD * WORD);
        while !whole.is_empty() {
            let run = whole.len().min((self.data.len() - self.at) * WORD);
            let (now, later) = whole.split_at(run);
            let words = &self.data[self.at..self.at + run / WORD];
            for (word, chunk) in words.iter().zip(now.chunks_exact(WORD)) {
                let mut bytes = [0; WORD];
                bytes.copy_from_slice(chunk);
                word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            }
            self.at += run / WORD;
            if self.at == self.data.len() {
                self.at = 0;
            }
            whole = later;
        }
        self.word[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn finish(self) {
        if self.filled > 0 {
            self.data[self.at].store(u64::from_ne_bytes(self.word), Ordering::Relaxed);
        }
    }
}

/// Unpacks `len` bytes from `offset` on into `out`. The caller has checked that they fit. False: there
/// is no memory for them.
pub(super) fn load(data: &[Word], offset: usize, len: usize, out: &mut Vec<u8>) -> bool {
    let words = len.div_ceil(WORD);
    if out.try_reserve((words * WORD).saturating_sub(out.len())).is_err() {
        return false;
    }
    out.resize(words * WORD, 0);
    let before_end = words.min(data.len() - offset);
    let (first, second) = out.split_at_mut(before_end * WORD);
    let runs = [(&data[offset..offset + before_end], first), (&data[..words - before_end], second)];
    for (from, to) in runs {
        for (word, chunk) in from.iter().zip(to.chunks_exact_mut(WORD)) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
    }
    out.truncate(len);
    true
}
