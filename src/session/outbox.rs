//! Frames on their way out, in order. Small frames are packed into one buffer, so that a burst
//! leaves in one system call; a large one keeps a buffer of its own.

use std::collections::VecDeque;

use ws_proto::mask;

use crate::ngx::link::MAX_PARTS;

/// Frames are appended to the last buffer until it holds this much.
const PACK: usize = 16 * 1024;

/// Pending output of one session, which owns it; freed as it is sent.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are sent already.
    sent: usize,
    bytes: usize,
}

impl Outbox {
    /// Bytes not yet taken by the kernel.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a frame: `header` (masking key included, if any) and the payload, masked on the way.
    pub fn push(&mut self, header: &[u8], payload: &[u8], key: Option<[u8; 4]>) {
        let total = header.len() + payload.len();
        let tail = match self.chunks.back_mut() {
            Some(tail) if tail.len() + total <= PACK => tail,
            _ => {
                self.chunks.push_back(Vec::with_capacity(total.max(256)));
                match self.chunks.back_mut() {
                    Some(tail) => tail,
                    None => return,
                }
            }
        };
        tail.extend_from_slice(header);
        match key {
            Some(key) => mask::extend(key, payload, tail),
            None => tail.extend_from_slice(payload),
        }
        self.bytes += total;
    }

    /// The next bytes to send, at most `MAX_PARTS` pieces. Returns how many of `parts` are set.
    pub fn parts<'a>(&'a self, parts: &mut [&'a [u8]; MAX_PARTS]) -> usize {
        let mut used = 0;
        for (slot, chunk) in parts.iter_mut().zip(&self.chunks) {
            *slot = if used == 0 { &chunk[self.sent..] } else { chunk };
            used += 1;
        }
        used
    }

    /// `n` bytes were sent.
    pub fn advance(&mut self, n: usize) {
        self.bytes -= n;
        let mut left = self.sent + n;
        while let Some(first) = self.chunks.front() {
            if left < first.len() {
                break;
            }
            left -= first.len();
            self.chunks.pop_front();
        }
        self.sent = left;
        if self.chunks.is_empty() {
            *self = Outbox::default();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}
