//! Bytes that were received and that nobody has asked for yet: what came with the request head, and
//! what followed a frame in the same read. Empty most of the time, and then without memory of its
//! own.

use crate::pool::{self, NoMemory, Pool, READ};

/// So much is copied at the end of a turn; where more is left, the buffer that it was read into is
/// kept as it is.
const COPY: usize = READ / 2;

/// A queue of received bytes, consumed from the front.
///
/// Owned by one connection. What it holds lies in the worker's reading buffer while it is worked on,
/// and in memory of its own size afterwards (`end_turn`). Consumed bytes stay where they are until
/// `tidy`; in the worker's buffer, which `give_back` returns before, until the worker reads again.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    bytes: Vec<u8>,
    head: u32,
    end: u32,
}

impl Stash {
    fn new(bytes: Vec<u8>) -> Stash {
        Stash { head: 0, end: bytes.len() as u32, bytes }
    }

    /// Whether every byte has been consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.end
    }

    /// What has not been consumed.
    #[inline]
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.head as usize..self.end as usize]
    }

    /// Marks the next `n` bytes as consumed.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= (self.end - self.head) as usize);
        self.head += n as u32;
    }

    /// Where to read more bytes to, once all have been consumed; `filled` tells how many came.
    pub fn room(&mut self, pool: &Pool) -> Result<&mut [u8], NoMemory> {
        debug_assert!(self.is_empty());
        if self.bytes.len() != READ || pool.is_lent() {
            self.tidy(pool);
            self.bytes = pool.take_read()?;
        }
        (self.head, self.end) = (0, 0);
        Ok(&mut self.bytes)
    }

    /// `n` bytes were read into `room`.
    pub fn filled(&mut self, n: usize) {
        self.end = n as u32;
    }

    /// Appends bytes that somebody else has read.
    pub fn append(&mut self, bytes: &[u8], pool: &Pool) -> Result<(), NoMemory> {
        if self.is_empty() && bytes.len() <= READ {
            self.room(pool)?[..bytes.len()].copy_from_slice(bytes);
            self.filled(bytes.len());
            return Ok(());
        }
        let mut all = Vec::new();
        let held = (self.end - self.head) as usize;
        all.try_reserve_exact(held + bytes.len()).map_err(|_| NoMemory)?;
        all.extend_from_slice(self.rest());
        all.extend_from_slice(bytes);
        pool.give_back_read(std::mem::replace(self, Stash::new(all)).bytes);
        Ok(())
    }

    /// Forgets what has not been consumed.
    pub fn clear(&mut self, pool: &Pool) {
        self.head = self.end;
        self.tidy(pool);
    }

    /// Gives the worker's buffer back if all is consumed.
    #[inline]
    pub fn give_back(&mut self, pool: &Pool) {
        if self.is_empty() && self.bytes.len() == READ {
            self.tidy(pool);
        }
    }

    /// Whether memory is held.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Gives any memory back if all is consumed.
    pub fn tidy(&mut self, pool: &Pool) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            pool.give_back_read(std::mem::take(self).bytes);
        }
    }

    /// The end of a turn: the worker's buffer goes back to it, if little is left to keep. Without
    /// memory for that little it stays here.
    #[inline]
    pub fn end_turn(&mut self, pool: &Pool) {
        if self.is_holding() {
            self.end_turn_holding(pool);
        }
    }

    fn end_turn_holding(&mut self, pool: &Pool) {
        self.tidy(pool);
        if self.bytes.len() == READ && (self.end - self.head) as usize <= COPY {
            if let Ok(rest) = pool::copy(self.rest()) {
                pool.give_back_read(std::mem::replace(self, Stash::new(rest)).bytes);
            }
        }
    }
}
