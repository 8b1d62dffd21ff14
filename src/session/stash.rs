//! Bytes that were read from the socket and that nobody has asked for yet: what came with the
//! request head, and what followed a frame in the same read. Empty most of the time, and then
//! without memory of its own.

use super::scratch;
use crate::ngx::lending;

/// So much is copied at the end of a turn; where more is left, the buffer that it was read into is
/// kept as it is.
const COPY: usize = scratch::SIZE / 2;

/// A queue of received bytes, consumed from the front.
///
/// Owned by one session. What it holds lies in the worker's reading buffer while it is worked on,
/// and in memory of its own size afterwards (`settle`). Consumed bytes stay where they are until
/// `tidy`; in the worker's buffer, which `give_back` returns before, until the worker reads again.
#[derive(Debug, Default)]
pub struct Stash {
    bytes: Vec<u8>,
    head: usize,
    end: usize,
}

impl Stash {
    /// A stash that starts with `bytes`.
    pub fn new(bytes: Vec<u8>) -> Stash {
        Stash { head: 0, end: bytes.len(), bytes }
    }

    /// Whether every byte has been consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.end
    }

    /// What has not been consumed.
    #[inline]
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.head..self.end]
    }

    /// Marks the next `n` bytes as consumed.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        debug_assert!(self.head + n <= self.end);
        self.head += n;
    }

    /// Where to read more bytes to, once all have been consumed; `filled` tells how many came.
    pub fn room(&mut self) -> &mut [u8] {
        debug_assert!(self.is_empty());
        if self.bytes.len() != scratch::SIZE || lending::is_lent() {
            scratch::give_back(std::mem::take(&mut self.bytes));
            self.bytes = scratch::take();
        }
        (self.head, self.end) = (0, 0);
        &mut self.bytes
    }

    /// `n` bytes were read into `room`.
    pub fn filled(&mut self, n: usize) {
        self.end = n;
    }

    /// Forgets what has not been consumed.
    pub fn clear(&mut self) {
        self.head = self.end;
        self.tidy();
    }

    /// Gives the worker's buffer back if all is consumed. Returns whether nothing is held any more.
    pub fn give_back(&mut self) -> bool {
        if self.is_empty() && self.bytes.len() == scratch::SIZE {
            self.tidy();
        }
        self.bytes.capacity() == 0
    }

    /// Gives any memory back if all is consumed.
    pub fn tidy(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            scratch::give_back(std::mem::take(self).bytes);
        }
    }

    /// The end of a turn: the worker's buffer goes back to it, if little is left to keep.
    pub fn settle(&mut self) {
        self.tidy();
        if self.bytes.len() == scratch::SIZE && self.end - self.head <= COPY {
            let rest = self.rest().to_vec();
            scratch::give_back(std::mem::replace(self, Stash::new(rest)).bytes);
        }
    }
}
