//! Memory shared by all connections of a worker, so that an idle one owns none: buffers that sockets
//! are read into, buffers of frames on their way out, and the memory of large payloads. Sizes that a
//! peer decides are reserved fallibly.

use std::cell::{Cell, RefCell};

/// One read of a socket.
pub const READ: usize = 64 * 1024;
/// Buffers kept for reading: one in use, one that a connection holds for a moment.
const READS: usize = 2;

/// Frames are appended to a buffer until it holds this much: sixteen of 1 KiB and more.
pub(crate) const PACK: usize = 32 * 1024;
/// Smallest such buffer.
pub(crate) const SMALLEST: usize = 256;
/// Such buffers kept. A turn of the event loop that queues for more connections at a time allocates.
const PACKS: usize = 32;

/// So much of a burst of larger frames goes out in one piece.
pub const BURST: usize = 128 * 1024;
/// Its buffer has room for their headers too, and `ROOMS` such buffers are kept.
pub(crate) const ROOM: usize = BURST + 1024;
const ROOMS: usize = 4;

/// How much memory is kept for the payloads of large messages, at most.
const BODIES: usize = 16 * 1024 * 1024;
/// A smaller one is not worth keeping.
const LEAST_BODY: usize = 256 * 1024;

/// There was no memory of a size that a peer has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<NoMemory> for ws_proto::Error {
    fn from(_: NoMemory) -> Self {
        ws_proto::Error::NoMemory
    }
}

/// A copy of `bytes`.
pub(crate) fn copy(bytes: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let mut copy = Vec::new();
    append(&mut copy, bytes)?;
    Ok(copy)
}

/// Appends `bytes`, in memory of just that size where there is none yet.
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoMemory> {
    let reserved = match to.capacity() {
        0 => to.try_reserve_exact(bytes.len()),
        _ => to.try_reserve(bytes.len()),
    };
    reserved.map_err(|_| NoMemory)?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// Views of items are copied by their takers, and more may happen until that is done. While any is lent
/// nothing that bytes may lie in is freed or written to.
#[derive(Clone, Copy, Debug)]
pub struct Lending {
    /// Whether anything is lent.
    pub is_lent: fn() -> bool,
    /// Keeps memory as it is until nothing is.
    pub hold: fn(Vec<u8>),
}

/// The memory. Owned by the worker; connections borrow it for the time of a call.
#[derive(Debug)]
pub struct Pool {
    lending: Lending,
    reads: RefCell<Vec<Vec<u8>>>,
    packs: RefCell<Vec<Vec<u8>>>,
    rooms: RefCell<Vec<Vec<u8>>>,
    bodies: RefCell<Vec<Vec<u8>>>,
    /// The fewest bodies that there were since the last `tidy`.
    unused: Cell<usize>,
}

impl Pool {
    /// An empty pool.
    pub const fn new(lending: Lending) -> Pool {
        Pool {
            lending,
            reads: RefCell::new(Vec::new()),
            packs: RefCell::new(Vec::new()),
            rooms: RefCell::new(Vec::new()),
            bodies: RefCell::new(Vec::new()),
            unused: Cell::new(0),
        }
    }

    /// Whether something is lent.
    #[inline]
    pub fn is_lent(&self) -> bool {
        (self.lending.is_lent)()
    }

    /// A buffer of `READ` bytes, owed to `give_back_read`.
    pub fn take_read(&self) -> Result<Vec<u8>, NoMemory> {
        if !self.is_lent() {
            if let Some(buffer) = self.reads.borrow_mut().pop() {
                return Ok(buffer);
            }
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(READ).map_err(|_| NoMemory)?;
        buffer.resize(READ, 0);
        Ok(buffer)
    }

    /// Takes back a buffer of `take_read`; others are freed. What lies in it stays until the next
    /// buffer is asked for.
    pub fn give_back_read(&self, buffer: Vec<u8>) {
        if self.is_lent() {
            (self.lending.hold)(buffer);
        } else if buffer.len() == READ {
            let mut kept = self.reads.borrow_mut();
            if kept.len() == READS {
                kept.swap_remove(0);
            }
            kept.push(buffer);
        }
    }

    /// An empty buffer for frames, with room for `more` bytes at least.
    pub(crate) fn take_out(&self, more: usize) -> Result<Vec<u8>, NoMemory> {
        let stock = if more == ROOM { &self.rooms } else { &self.packs };
        let mut buffer = stock.borrow_mut().pop().unwrap_or_default();
        make_room(&mut buffer, more.max(SMALLEST))?;
        Ok(buffer)
    }

    /// Takes back a buffer that has been sent.
    pub(crate) fn give_back_out(&self, mut used: Vec<u8>) {
        let (stock, most) = match used.capacity() {
            SMALLEST..=PACK => (&self.packs, PACKS),
            ROOM => (&self.rooms, ROOMS),
            _ => return,
        };
        used.clear();
        let mut spare = stock.borrow_mut();
        if spare.len() < most {
            spare.push(used);
        }
    }

    /// Memory for a payload of `whole` bytes, or else for a part of at least `least`, from an earlier
    /// one: without it, the memory of each such message would come from the system and go back to it.
    pub fn take_body(&self, least: usize, whole: usize) -> Option<Vec<u8>> {
        let mut kept = self.bodies.borrow_mut();
        // Of those that are large enough the smallest, or else the largest.
        let rank = |body: &Vec<u8>| {
            let enough = body.capacity() >= whole;
            (!enough, if enough { body.capacity() } else { usize::MAX - body.capacity() })
        };
        let (fit, best) = kept.iter().enumerate().min_by_key(|(_, body)| rank(body))?;
        if best.capacity() < least {
            return None;
        }
        let body = kept.swap_remove(fit);
        self.unused.set(self.unused.get().min(kept.len()));
        Some(body)
    }

    /// Takes the memory of a payload that nobody needs any more. Returns whether it is the first that
    /// is kept: then `tidy` is to be called now and then.
    pub fn recycle(&self, mut body: Vec<u8>) -> bool {
        if self.is_lent() {
            (self.lending.hold)(body);
            return false;
        }
        if body.capacity() < LEAST_BODY {
            return false;
        }
        let mut kept = self.bodies.borrow_mut();
        let total: usize = kept.iter().map(Vec::capacity).sum();
        if total + body.capacity() > BODIES {
            return false;
        }
        body.clear();
        kept.push(body);
        kept.len() == 1
    }

    /// Frees the payloads' memory that was not needed since the last call. Returns whether there was
    /// any, and whether some is left.
    pub fn tidy(&self) -> (bool, bool) {
        let mut kept = self.bodies.borrow_mut();
        let unused = self.unused.get().min(kept.len());
        kept.drain(..unused);
        self.unused.set(kept.len());
        (unused > 0, !kept.is_empty())
    }
}

/// Makes room for `more` bytes. A buffer that packs frames has a power of two, so that it never
/// outgrows what `give_back_out` keeps.
pub(crate) fn make_room(buffer: &mut Vec<u8>, more: usize) -> Result<(), NoMemory> {
    if buffer.capacity() - buffer.len() < more {
        let needed = buffer.len() + more;
        let size = if needed <= PACK { needed.next_power_of_two() } else { needed };
        buffer.try_reserve_exact(size - buffer.len()).map_err(|_| NoMemory)?;
    }
    Ok(())
}
