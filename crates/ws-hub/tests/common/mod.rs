//! What the tests with threads and with processes share: messages that say whose they are and
//! show any byte that is not theirs, and a reader's books.

use std::collections::HashMap;

use ws_hub::ring::Meta;

/// A generator for lengths and moments (xorshift); tests print its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn mixed(author: u32, number: u64) -> u64 {
    let mut random = Random((u64::from(author) << 40 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    random.0 |= 1;
    random.next();
    random.next()
}

/// Message `number` of `author`: both, then bytes that follow from both. Most are small, one in
/// 64 is up to `most` bytes.
pub fn message(author: u32, number: u64, most: usize, out: &mut Vec<u8>) {
    let mixed = mixed(author, number);
    let len = if mixed.is_multiple_of(64) { mixed >> 8 } else { (mixed >> 8) % 300 } as usize;
    out.clear();
    out.extend(author.to_le_bytes());
    out.extend(number.to_le_bytes());
    let mut byte = mixed as u8;
    out.extend((0..len % (most - 12)).map(|_| {
        byte = byte.wrapping_mul(5).wrapping_add(1);
        byte
    }));
}

/// What a reader has had from each author.
#[derive(Default)]
pub struct Books {
    last: HashMap<u32, u64>,
    last_seq: Option<u64>,
    expected: Vec<u8>,
    /// Numbers that never came, between others of the same author that did.
    pub missed: u64,
    pub read: u64,
    pub lost: u64,
}

impl Books {
    /// Panics if the message is not exactly what its author published, came before, or comes
    /// after a later one of the same author.
    pub fn enter(&mut self, meta: &Meta, bytes: &[u8], most: usize) {
        let author = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let number = u64::from_le_bytes(bytes[4..12].try_into().unwrap());
        message(author, number, most, &mut self.expected);
        assert!(self.expected == bytes, "message {number} of {author} is not what it was");
        assert!(self.last_seq.is_none_or(|last| last < meta.seq), "seq goes back");
        self.last_seq = Some(meta.seq);
        if let Some(last) = self.last.insert(author, number) {
            assert!(number > last, "message {number} of {author} after its {last}");
            self.missed += number - last - 1;
        }
        self.read += 1;
    }
}
