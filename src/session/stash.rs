//! Bytes that were read from the socket before anybody asked for them: what came with the request
//! head, and what followed a frame in the same read. Empty most of the time, and then without
//! memory of its own.

/// A queue of received bytes, consumed from the front.
///
/// Owned by one session. Memory is kept until `tidy`, so that a frame lying in it can still be
/// read after it has been consumed.
#[derive(Debug, Default)]
pub struct Stash {
    bytes: Vec<u8>,
    head: usize,
}

impl Stash {
    /// A stash that starts with `bytes`.
    pub fn new(bytes: Vec<u8>) -> Stash {
        Stash { bytes, head: 0 }
    }

    /// Whether every byte has been consumed.
    pub fn is_empty(&self) -> bool {
        self.head == self.bytes.len()
    }

    /// What has not been consumed.
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.head..]
    }

    /// Marks all but the last `left` bytes as consumed.
    pub fn keep_last(&mut self, left: usize) {
        self.head = self.bytes.len() - left;
    }

    /// Replaces the (consumed) content.
    pub fn fill(&mut self, bytes: &[u8]) {
        debug_assert!(self.is_empty());
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.head = 0;
    }

    /// Frees the memory once all is consumed: an idle connection holds none.
    pub fn tidy(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            *self = Stash::default();
        }
    }
}
