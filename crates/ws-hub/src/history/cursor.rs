//! A position as clients see it: `c`, then base64url of the topic's hash, the epoch and the
//! offset, 33 characters in all. It is opaque to them, and grants nothing.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;

use super::Position;
use crate::target::TopicHash;

const BYTES: usize = 3 * 8;
/// Characters of every cursor.
pub const CURSOR_LEN: usize = 1 + BYTES * 4 / 3;

/// A position in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which topic.
    pub topic: TopicHash,
    /// Where in it.
    pub position: Position,
}

impl Cursor {
    /// As text.
    pub fn encode(&self) -> [u8; CURSOR_LEN] {
        let mut bytes = [0; BYTES];
        let words = [self.topic.0, self.position.epoch, self.position.offset];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        let mut text = [b'c'; CURSOR_LEN];
        // It fits: 24 bytes are 32 characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text[1..]);
        text
    }

    /// Of text that `encode` made; nothing of any other.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(b"c").filter(|text| text.len() == CURSOR_LEN - 1)?;
        let mut bytes = [0; BYTES];
        URL_SAFE_NO_PAD.decode_slice_unchecked(text, &mut bytes).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [topic, epoch, offset] = [0, 1, 2].map(|n| u64::from_be_bytes(words[n]));
        Some(Self { topic: TopicHash(topic), position: Position { epoch, offset } })
    }
}
