//! Frames on their way out, in order. Small frames are packed into one buffer, so that a burst
//! leaves in one system call, as are larger ones of a burst; others keep a buffer of their own.
//! Nothing is allocated for most messages: buffers that were sent wait in the pool for the next
//! frame. Without memory for a frame nothing of it is queued.

use std::collections::VecDeque;

use bytes::Bytes;
use ws_proto::{header, mask};

use crate::host::{Io, Sent, MAX_PARTS};
use crate::pool::{make_room, NoMemory, Pool, PACK, ROOM, SMALLEST};
use crate::IoError;

/// A shared frame up to this size is copied to what waits already: cheaper than one more piece.
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

/// Pending output of one connection, which owns it; freed as it is sent.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What goes out first. Nearly always the only piece.
    first: Option<Chunk>,
    /// What follows it, if anything does.
    #[allow(
        clippy::box_collection,
        reason = "a pointer instead of four words, nearly always null"
    )]
    more: Option<Box<VecDeque<Chunk>>>,
    /// Bytes of the first piece that are sent already.
    sent: usize,
    bytes: usize,
    /// The first piece begins with the rest of a frame.
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
    pub fn push(
        &mut self,
        pool: &Pool,
        header: &[u8],
        payload: &[u8],
        key: Option<[u8; 4]>,
    ) -> Result<(), NoMemory> {
        let bytes = header.len() + payload.len();
        let tail = self.tail(pool, bytes, bytes)?;
        tail.extend_from_slice(header);
        match key {
            Some(key) => mask::extend(key, payload, tail),
            None => tail.extend_from_slice(payload),
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Appends a whole unmasked frame.
    #[inline]
    pub fn push_plain(&mut self, pool: &Pool, opcode: u8, payload: &[u8]) -> Result<(), NoMemory> {
        let most = header::LONGEST + payload.len();
        let tail = self.tail(pool, most, most)?;
        let before = tail.len();
        header::append(tail, opcode, payload.len());
        tail.extend_from_slice(payload);
        self.bytes += tail.len() - before;
        Ok(())
    }

    /// Appends a frame of at most `BURST` bytes after which more such are likely to follow at once.
    pub fn push_burst(
        &mut self,
        pool: &Pool,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), NoMemory> {
        let bytes = header.len() + payload.len();
        let tail = self.tail(pool, bytes, ROOM)?;
        tail.extend_from_slice(header);
        tail.extend_from_slice(payload);
        self.bytes += bytes;
        Ok(())
    }

    /// Takes what is left of a frame whose beginning was sent past this outbox, which is empty.
    pub fn push_rest(
        &mut self,
        pool: &Pool,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), NoMemory> {
        if header.len() + payload.len() > 0 {
            self.push(pool, header, payload, None)?;
            self.begun = true;
        }
        Ok(())
    }

    /// Appends a whole frame that other outboxes hold too. Where nothing waits not even a short
    /// one is copied: it is sent from where it lies.
    pub fn push_shared(&mut self, pool: &Pool, frame: &Bytes) {
        let copied = self.first.is_some() && frame.len() <= COPY_SHARED;
        match if copied { self.tail(pool, frame.len(), frame.len()) } else { Err(NoMemory) } {
            Ok(tail) => tail.extend_from_slice(frame),
            Err(NoMemory) => self.append(Chunk::Shared(frame.clone())),
        }
        self.bytes += frame.len();
    }

    fn append(&mut self, chunk: Chunk) {
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.more.get_or_insert_default().push_back(chunk),
        }
    }

    /// A buffer with room for `more` bytes behind all that waits, or else a new one with room for
    /// `room`. The caller counts what it appends.
    fn tail(&mut self, pool: &Pool, more: usize, room: usize) -> Result<&mut Vec<u8>, NoMemory> {
        let last = self.more.as_ref().and_then(|more| more.back()).or(self.first.as_ref());
        let fits = |tail: &Vec<u8>| tail.len() + more <= PACK.max(tail.capacity());
        let fits = matches!(last, Some(Chunk::Own(tail)) if fits(tail));
        if !fits && !self.unshare(pool, more) {
            let fresh = pool.take_out(room)?;
            self.append(Chunk::Own(fresh));
        }
        match self.more.as_mut().and_then(|more| more.back_mut()).or(self.first.as_mut()) {
            Some(Chunk::Own(tail)) => {
                make_room(tail, more)?;
                Ok(tail)
            }
            _ => unreachable!("the last chunk is our own, see above"),
        }
    }

    /// Turns a short shared frame that waits alone into a buffer of our own, so that a burst of
    /// them is one piece.
    fn unshare(&mut self, pool: &Pool, more: usize) -> bool {
        match &self.first {
            Some(Chunk::Shared(frame))
                if frame.len() <= COPY_SHARED && self.sent == 0 && self.more.is_none() =>
            {
                // More will follow as it does in a burst.
                let Ok(mut own) = pool.take_out((frame.len() + more).max(4 * SMALLEST)) else {
                    return false;
                };
                own.extend_from_slice(frame);
                self.first = Some(Chunk::Own(own));
                true
            }
            _ => false,
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.first.iter().chain(self.more.iter().flat_map(|more| more.iter()))
    }

    /// Sends as much as the kernel takes, and asks for the write event where it does not take all.
    /// Returns the bytes sent; after an error nothing waits any more.
    pub fn flush(&mut self, pool: &Pool, io: &impl Io) -> Result<usize, IoError> {
        let mut sent = 0;
        while !self.is_empty() || io.holds_back() {
            let (offered, taken) = match self.single() {
                Some(part) => (part.len(), io.send_one(part)),
                None => self.send_parts(io),
            };
            match taken {
                Sent::Bytes(n) => {
                    self.advance(pool, n);
                    sent += n;
                    if n < offered || io.holds_back() {
                        io.want_write();
                        break;
                    }
                }
                Sent::Failed(errno) => {
                    self.clear();
                    return Err(IoError::from_errno(errno));
                }
            }
        }
        Ok(sent)
    }

    /// Offers several pieces at once. Returns how many bytes it offered, and what became of them.
    #[inline(never)]
    fn send_parts(&self, io: &impl Io) -> (usize, Sent) {
        let mut parts: [&[u8]; MAX_PARTS] = [&[]; MAX_PARTS];
        let used = self.parts(&mut parts);
        let offered = parts[..used].iter().map(|part| part.len()).sum();
        (offered, io.send(&parts[..used]))
    }

    /// All that waits, where it lies in one piece.
    fn single(&self) -> Option<&[u8]> {
        match &self.first {
            Some(first) if self.more.is_none() => Some(&first.bytes()[self.sent..]),
            _ => None,
        }
    }

    /// The next bytes to send, at most `MAX_PARTS` pieces. Returns how many of `parts` are set.
    fn parts<'a>(&'a self, parts: &mut [&'a [u8]; MAX_PARTS]) -> usize {
        let mut used = 0;
        for (slot, chunk) in parts.iter_mut().zip(self.chunks()) {
            let chunk = chunk.bytes();
            *slot = if used == 0 { &chunk[self.sent..] } else { chunk };
            used += 1;
        }
        used
    }

    /// `n` bytes were sent.
    fn advance(&mut self, pool: &Pool, n: usize) {
        self.bytes -= n;
        let mut left = self.sent + n;
        while let Some(first) = &self.first {
            let len = first.bytes().len();
            if left < len {
                break;
            }
            left -= len;
            self.begun = false;
            let next = self.more.as_mut().and_then(|more| more.pop_front());
            if self.more.as_ref().is_some_and(|more| more.is_empty()) {
                self.more = None;
            }
            if let Some(Chunk::Own(used)) = std::mem::replace(&mut self.first, next) {
                pool.give_back_out(used);
            }
        }
        self.sent = left;
    }

    /// Everything that waits, in one piece; nothing waits afterwards. Without memory for it all still
    /// waits.
    pub fn take_all(&mut self, pool: &Pool) -> Result<Vec<u8>, NoMemory> {
        let mut out = Vec::new();
        out.try_reserve_exact(self.bytes).map_err(|_| NoMemory)?;
        let mut sent = self.sent;
        for chunk in self.chunks() {
            out.extend_from_slice(&chunk.bytes()[std::mem::take(&mut sent)..]);
        }
        self.advance(pool, self.bytes);
        Ok(out)
    }

    /// Forgets everything but the piece that has begun to be sent: cutting that would break the
    /// frame it belongs to.
    pub fn forget_unsent(&mut self) {
        if self.sent == 0 && !self.begun {
            self.first = None;
        }
        self.more = None;
        self.bytes = self.first.as_ref().map_or(0, |chunk| chunk.bytes().len() - self.sent);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}
