//! Frames on their way out, in order. Small frames are packed into one buffer, so that a burst
//! leaves in one system call, as are larger ones of a burst; others keep a buffer of their own.
//! Nothing is allocated for most messages: buffers that were sent wait in a small stock of the
//! worker for the next frame.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use ws_proto::{header, mask};

use super::IoError;
use crate::ngx::per_worker::PerWorker;
use crate::ngx::wire::{Sent, Wire, MAX_PARTS};

/// Frames are appended to the last buffer until it holds this much: sixteen of 1 KiB and more.
const PACK: usize = 32 * 1024;
/// Smallest buffer.
const SMALLEST: usize = 256;
/// So much of a burst of larger frames goes out in one piece. Its buffer has room for their headers
/// too, and `ROOMS` such buffers are kept by the worker.
pub const BURST: usize = 128 * 1024;
const ROOM: usize = BURST + 1024;
const ROOMS: usize = 4;
/// A shared frame up to this size is copied to what waits already: cheaper than one more piece.
const COPY_SHARED: usize = 1024;
/// Buffers kept by the worker, each of at most `PACK` bytes. A turn of the event loop that queues
/// for more connections at a time allocates.
const STOCK: usize = 32;

static SPARE: PerWorker<RefCell<Vec<Vec<u8>>>> = PerWorker::new(RefCell::new(Vec::new()));
static SPARE_ROOMS: PerWorker<RefCell<Vec<Vec<u8>>>> = PerWorker::new(RefCell::new(Vec::new()));

/// An empty buffer with room for `more` bytes at least.
fn buffer(more: usize) -> Vec<u8> {
    let stock = if more == ROOM { &SPARE_ROOMS } else { &SPARE };
    let mut spare = stock.borrow_mut().pop().unwrap_or_default();
    make_room(&mut spare, more.max(SMALLEST));
    spare
}

/// Makes room for `more` bytes. A buffer that packs frames has a power of two, so that it never
/// outgrows what `give_back` keeps.
fn make_room(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        let needed = buffer.len() + more;
        let size = if needed <= PACK { needed.next_power_of_two() } else { needed };
        buffer.reserve_exact(size - buffer.len());
    }
}

/// Takes back a buffer that has been sent.
fn give_back(mut used: Vec<u8>) {
    let (stock, most) = match used.capacity() {
        SMALLEST..=PACK => (&SPARE, STOCK),
        ROOM => (&SPARE_ROOMS, ROOMS),
        _ => return,
    };
    used.clear();
    let mut spare = stock.borrow_mut();
    if spare.len() < most {
        spare.push(used);
    }
}

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
    /// What goes out first. Nearly always the only piece.
    first: Option<Chunk>,
    /// What follows it.
    more: VecDeque<Chunk>,
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
    pub fn push(&mut self, header: &[u8], payload: &[u8], key: Option<[u8; 4]>) {
        let bytes = header.len() + payload.len();
        self.bytes += bytes;
        let tail = self.tail(bytes, bytes);
        tail.extend_from_slice(header);
        match key {
            Some(key) => mask::extend(key, payload, tail),
            None => tail.extend_from_slice(payload),
        }
    }

    /// Appends a whole unmasked frame.
    #[inline]
    pub fn push_plain(&mut self, opcode: u8, payload: &[u8]) {
        let most = header::LONGEST + payload.len();
        let tail = self.tail(most, most);
        let before = tail.len();
        header::append(tail, opcode, payload.len());
        tail.extend_from_slice(payload);
        self.bytes += tail.len() - before;
    }

    /// Appends a frame of at most `BURST` bytes after which more such are likely to follow at once.
    pub fn push_burst(&mut self, header: &[u8], payload: &[u8]) {
        let bytes = header.len() + payload.len();
        self.bytes += bytes;
        let tail = self.tail(bytes, ROOM);
        tail.extend_from_slice(header);
        tail.extend_from_slice(payload);
    }

    /// Takes what is left of a frame whose beginning was sent past this outbox, which is empty.
    pub fn push_rest(&mut self, header: &[u8], payload: &[u8]) {
        if header.len() + payload.len() > 0 {
            self.begun = true;
            self.push(header, payload, None);
        }
    }

    /// Appends a whole frame that other outboxes hold too. Where nothing waits not even a short
    /// one is copied: it is sent from where it lies.
    pub fn push_shared(&mut self, frame: &Bytes) {
        self.bytes += frame.len();
        if self.first.is_some() && frame.len() <= COPY_SHARED {
            self.tail(frame.len(), frame.len()).extend_from_slice(frame);
        } else {
            self.append(Chunk::Shared(frame.clone()));
        }
    }

    fn append(&mut self, chunk: Chunk) {
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.more.push_back(chunk),
        }
    }

    /// A buffer with room for `more` bytes behind all that waits, or else a new one with room for
    /// `room`. The caller counts what it appends.
    fn tail(&mut self, more: usize, room: usize) -> &mut Vec<u8> {
        let last = self.more.back().or(self.first.as_ref());
        let fits = |tail: &Vec<u8>| tail.len() + more <= PACK.max(tail.capacity());
        let fits = matches!(last, Some(Chunk::Own(tail)) if fits(tail));
        if !fits && !self.unshare(more) {
            self.append(Chunk::Own(buffer(room)));
        }
        match self.more.back_mut().or(self.first.as_mut()) {
            Some(Chunk::Own(tail)) => {
                make_room(tail, more);
                tail
            }
            _ => unreachable!("the last chunk is our own, see above"),
        }
    }

    /// Turns a short shared frame that waits alone into a buffer of our own, so that a burst of
    /// them is one piece.
    fn unshare(&mut self, more: usize) -> bool {
        match &self.first {
            Some(Chunk::Shared(frame))
                if frame.len() <= COPY_SHARED && self.sent == 0 && self.more.is_empty() =>
            {
                // More will follow as it does in a burst.
                let mut own = buffer((frame.len() + more).max(4 * SMALLEST));
                own.extend_from_slice(frame);
                self.first = Some(Chunk::Own(own));
                true
            }
            _ => false,
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.first.iter().chain(&self.more)
    }

    /// Sends as much as the kernel takes, and asks for the write event where it does not take all.
    /// Returns the bytes sent; after an error nothing waits any more.
    pub fn flush(&mut self, wire: &Wire) -> Result<usize, IoError> {
        let mut sent = 0;
        while !self.is_empty() || wire.tls_pending() {
            let (offered, taken) = match self.single() {
                Some(part) => (part.len(), wire.send_one(part)),
                None => self.send_parts(wire),
            };
            match taken {
                Sent::Bytes(n) => {
                    self.advance(n);
                    sent += n;
                    if n < offered || wire.tls_pending() {
                        wire.want_write();
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
    fn send_parts(&self, wire: &Wire) -> (usize, Sent) {
        let mut parts: [&[u8]; MAX_PARTS] = [&[]; MAX_PARTS];
        let used = self.parts(&mut parts);
        let offered = parts[..used].iter().map(|part| part.len()).sum();
        (offered, wire.send(&parts[..used]))
    }

    /// All that waits, where it lies in one piece.
    fn single(&self) -> Option<&[u8]> {
        match &self.first {
            Some(first) if self.more.is_empty() => Some(&first.bytes()[self.sent..]),
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
    fn advance(&mut self, n: usize) {
        self.bytes -= n;
        let mut left = self.sent + n;
        while let Some(first) = &self.first {
            let len = first.bytes().len();
            if left < len {
                break;
            }
            left -= len;
            self.begun = false;
            let next = self.more.pop_front();
            if let Some(Chunk::Own(used)) = std::mem::replace(&mut self.first, next) {
                give_back(used);
            }
        }
        self.sent = left;
        if self.first.is_none() && self.more.capacity() > 0 {
            self.more = VecDeque::new();
        }
    }

    /// Sends by `offer`, which returns how much of its argument was taken, until that takes less
    /// than it is offered. An error, as errno, leaves waiting what was not sent.
    pub fn offer(&mut self, offer: impl Fn(&[u8]) -> Result<usize, i32>) -> Result<(), i32> {
        while let Some(first) = &self.first {
            let part = &first.bytes()[self.sent..];
            let (offered, taken) = (part.len(), offer(part)?);
            self.advance(taken);
            if taken < offered {
                break;
            }
        }
        Ok(())
    }

    /// Everything that waits, in one piece; nothing waits afterwards.
    pub fn take_all(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes);
        let mut sent = self.sent;
        for chunk in std::mem::take(self).chunks() {
            out.extend_from_slice(&chunk.bytes()[std::mem::take(&mut sent)..]);
        }
        out
    }

    /// Forgets everything but the piece that has begun to be sent: cutting that would break the
    /// frame it belongs to.
    pub fn forget_unsent(&mut self) {
        if self.sent == 0 && !self.begun {
            self.first = None;
        }
        self.more = VecDeque::new();
        self.bytes = self.first.as_ref().map_or(0, |chunk| chunk.bytes().len() - self.sent);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}
