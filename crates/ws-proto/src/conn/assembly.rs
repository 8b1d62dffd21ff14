//! The buffer of a payload that arrives in parts. It grows with what came, never with what a
//! header announces: by at most what came, what it holds, or 4 KiB, and never above what can
//! still come. It is given away when the payload is whole, so nothing is kept between two.

use bytes::BytesMut;

/// Smallest step of growth.
const STEP: usize = 4096;

/// Payload bytes so far. Owned by the `Conn` until `finish` hands them out.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    buf: BytesMut,
}

impl Assembly {
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Appends what came; `limit` is how many bytes may still come, these included.
    pub fn append(&mut self, bytes: &[u8], limit: usize) {
        if self.spare() < bytes.len() {
            self.grow(bytes.len(), limit);
        }
        self.buf.extend_from_slice(bytes);
    }

    /// Makes room to read into, for `missing` bytes of which none came yet.
    pub fn room(&mut self, missing: usize, limit: usize) -> &mut BytesMut {
        if self.spare() < missing.min(STEP) {
            self.grow(0, limit);
        }
        &mut self.buf
    }

    /// The last `n` bytes.
    pub fn tail(&mut self, n: usize) -> &mut [u8] {
        let start = self.buf.len().checked_sub(n).expect("more bytes than the buffer holds");
        &mut self.buf[start..]
    }

    /// Goes on in `memory`. Returns what it used before.
    pub fn move_to(&mut self, mut memory: BytesMut) -> BytesMut {
        memory.clear();
        memory.extend_from_slice(&self.buf);
        std::mem::replace(&mut self.buf, memory)
    }

    /// Gives the payload away.
    pub fn finish(&mut self) -> BytesMut {
        std::mem::take(&mut self.buf)
    }

    /// How many bytes fit without growing.
    pub fn spare(&self) -> usize {
        self.buf.capacity() - self.buf.len()
    }

    /// A new buffer of an exact size, because `BytesMut::reserve` may double beyond the limit.
    fn grow(&mut self, came: usize, limit: usize) {
        let len = self.buf.len();
        let more = came.max(len).max(STEP).min(limit);
        let mut bigger = BytesMut::with_capacity(len + more);
        bigger.extend_from_slice(&self.buf);
        self.buf = bigger;
    }
}
