//! Frames on their way out, in order. Small frames are packed into one buffer, so that a burst
//! leaves in one system call; a large one keeps a buffer of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use ws_proto::mask;

use crate::ngx::wire::MAX_PARTS;

/// Frames are appended to the last buffer until it holds this much.
const PACK: usize = 16 * 1024;
/// Smallest buffer.
const SMALLEST: usize = 256;

/// A shared frame up to this size is copied into the last buffer: cheaper than one more piece.
const COPY_SHARED: usize = 1024;

/// A piece of output.
#[derive(Debug)]
enum Chunk {
    /// Made for this connection.
    Own(Vec<u8>),
    /// One frame for many connections; the last of them frees it.
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// Pending output of one session, which owns it; freed as it is sent.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent already.
    sent: usize,
    bytes: usize,
    /// The first chunk begins with the rest of a frame.
    begun: bool,
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
        let tail = self.tail(header.len() + payload.len());
        tail.extend_from_slice(header);
        match key {
            Some(key) => mask::extend(key, payload, tail),
            None => tail.extend_from_slice(payload),
        }
    }

    /// Takes what is left of a frame whose beginning was sent past this outbox, which is empty.
    pub fn push_rest(&mut self, header: &[u8], payload: &[u8]) {
        if header.len() + payload.len() > 0 {
            self.begun = true;
            self.push(header, payload, None);
        }
    }

    /// Appends a whole frame that other outboxes hold too.
    pub fn push_shared(&mut self, frame: &Bytes) {
        if frame.len() <= COPY_SHARED {
            self.tail(frame.len()).extend_from_slice(frame);
        } else {
            self.bytes += frame.len();
            self.chunks.push_back(Chunk::Shared(frame.clone()));
        }
    }

    /// A buffer to which `more` bytes are about to be appended.
    fn tail(&mut self, more: usize) -> &mut Vec<u8> {
        self.bytes += more;
        let fits = match self.chunks.back() {
            Some(Chunk::Own(tail)) => tail.len() + more <= PACK,
            _ => false,
        };
        if !fits {
            self.chunks.push_back(Chunk::Own(Vec::with_capacity(more.max(SMALLEST))));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Own(tail)) => tail,
            _ => unreachable!("the last chunk is our own, see above"),
        }
    }

    /// The next bytes to send, at most `MAX_PARTS` pieces. Returns how many of `parts` are set.
    pub fn parts<'a>(&'a self, parts: &mut [&'a [u8]; MAX_PARTS]) -> usize {
        let mut used = 0;
        for (slot, chunk) in parts.iter_mut().zip(&self.chunks) {
            let chunk = chunk.bytes();
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
            let len = first.bytes().len();
            if left < len {
                break;
            }
            left -= len;
            self.begun = false;
            self.chunks.pop_front();
        }
        self.sent = left;
        if self.chunks.is_empty() {
            *self = Outbox::default();
        }
    }

    /// Everything that waits, in one piece; nothing waits afterwards.
    pub fn take_all(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes);
        for chunk in std::mem::take(self).chunks {
            out.extend_from_slice(chunk.bytes());
        }
        out
    }

    /// Forgets everything but the piece that has begun to be sent: cutting that would break the
    /// frame it belongs to.
    pub fn forget_unsent(&mut self) {
        let keep = usize::from(self.sent > 0 || self.begun);
        self.chunks.truncate(keep);
        self.bytes = self.chunks.front().map_or(0, |chunk| chunk.bytes().len() - self.sent);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}
