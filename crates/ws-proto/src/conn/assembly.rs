//! The buffer of a payload that arrives in parts. It grows with what came, never with what a
//! header announces: by at most what came, what it holds, or 4 KiB, and never above what can
//! still come. Its size is the peer's choice, so memory that is not there is an error and no panic.
//! It is given away when the payload is whole, so nothing is kept between two.

use crate::Error;

/// Smallest step of growth.
const STEP: usize = 4096;

/// Payload bytes so far. Owned by the `Conn` until `finish` hands them out.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    buf: Vec<u8>,
}

impl Assembly {
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Appends what came; `limit` is how many bytes may still come, these included.
    pub fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Error> {
        if self.spare() < bytes.len() {
            self.grow(bytes.len(), limit)?;
        }
        self.buf.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes room to read into, for `missing` bytes of which none came yet.
    pub fn room(&mut self, missing: usize, limit: usize) -> Result<&mut Vec<u8>, Error> {
        if self.spare() < missing.min(STEP) {
            self.grow(0, limit)?;
        }
        Ok(&mut self.buf)
    }

    /// The last `n` bytes.
    pub fn tail(&mut self, n: usize) -> &mut [u8] {
        let start = self.buf.len().checked_sub(n).expect("more bytes than the buffer holds");
        &mut self.buf[start..]
    }

    /// Goes on in `memory`. Returns what it used before.
    pub fn move_to(&mut self, mut memory: Vec<u8>) -> Vec<u8> {
        memory.clear();
        memory.extend_from_slice(&self.buf);
        std::mem::replace(&mut self.buf, memory)
    }

    /// Gives the payload away.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buf)
    }

    /// How many bytes fit without growing.
    pub fn spare(&self) -> usize {
        self.buf.capacity() - self.buf.len()
    }

    /// By an exact size, because `Vec::reserve` may double beyond the limit.
    fn grow(&mut self, came: usize, limit: usize) -> Result<(), Error> {
        let more = came.max(self.buf.len()).max(STEP).min(limit);
        self.buf.try_reserve_exact(more).map_err(|_| Error::NoMemory)
    }
}
