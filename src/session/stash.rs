//! Bytes that were read from the socket before anybody asked for them: what came with the request
//! head, and what followed a frame in the same read. Empty most of the time, and then without
//! memory of its own.

use super::scratch;

/// More than this is not copied: the buffer that it was read into is kept as it is.
const COPY: usize = 4 * 1024;

/// A queue of received bytes, consumed from the front.
///
/// Owned by one session. Memory is kept until `tidy`, so that a frame lying in it can still be
/// read after it has been consumed; the worker's reading buffer goes back to the worker then.
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
    pub fn is_empty(&self) -> bool {
        self.head == self.end
    }

    /// What has not been consumed.
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.head..self.end]
    }

    /// Marks all but the last `left` bytes as consumed.
    pub fn keep_last(&mut self, left: usize) {
        self.head = self.end - left;
    }

    /// Replaces the (consumed) content by `buffer[head..end]`, and takes the buffer away if that is
    /// much.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, head: usize, end: usize) {
        debug_assert!(self.is_empty());
        if end - head > COPY {
            let old = std::mem::replace(self, Stash { bytes: std::mem::take(buffer), head, end });
            scratch::give_back(old.bytes);
        } else if head < end {
            self.bytes.clear();
            self.bytes.extend_from_slice(&buffer[head..end]);
            self.head = 0;
            self.end = end - head;
        }
    }

    /// Gives the memory back once all is consumed: an idle connection holds none.
    pub fn tidy(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            scratch::give_back(std::mem::take(self).bytes);
        }
    }
}
