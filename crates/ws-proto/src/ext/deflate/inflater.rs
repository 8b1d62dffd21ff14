//! The receiving direction of permessage-deflate (RFC 7692 7.2.2): inflates messages while they
//! come, in blocks that the connection checks against its limits before it stores them. Owned by
//! one `Conn`; keeps zlib's inflater between messages only where the peer may refer to earlier
//! ones. The peer's window bits are not looked at: zlib-rs inflates by a window of 32 KB always,
//! and a reference beyond the agreed window does no harm.

use super::{spare, Agreed, Role, TAIL};
use crate::ext::{Extension, Sink};
use crate::Error;
use std::{fmt, mem};
use zlib_rs::{Inflate, InflateFlush, Status};

/// State of one connection's receiving direction.
pub(crate) struct Inflater {
    takeover: bool,
    inflate: Option<Inflate>,
    /// Something was fed since the message began, or since its last DEFLATE stream ended.
    dirty: bool,
}

impl Inflater {
    /// The inflater of the side `role`, ours.
    pub fn new(agreed: &Agreed, role: Role) -> Inflater {
        let peer = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let (_, takeover) = agreed.direction(peer);
        Inflater { takeover, inflate: None, dirty: false }
    }
}

impl Extension for Inflater {
    fn rsv(&self) -> u8 {
        0x40
    }

    fn decode(&mut self, bytes: &[u8], last: bool, sink: Sink<'_>) -> Result<(), Error> {
        let mut inflate = self.inflate.take().unwrap_or_else(spare::inflate);
        let dirty = &mut self.dirty;
        spare::with_scratch(|scratch| {
            let mut run = Run { inflate: &mut inflate, dirty, scratch, filled: 0, sink };
            run.feed(bytes)?;
            if !last {
                return run.flush(false);
            }
            // A message without a byte, or whose last block is marked as final with no block
            // after it, is at its end already: the tail would begin a block there.
            if mem::take(run.dirty) {
                run.feed(&TAIL)?;
                *run.dirty = false;
            }
            run.flush(true)
        })?;
        if last && !self.takeover {
            spare::keep_inflate(inflate);
        } else {
            self.inflate = Some(inflate);
        }
        Ok(())
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("takeover", &self.takeover)
            .field("has_context", &self.inflate.is_some())
            .finish()
    }
}

/// One call of `decode`.
struct Run<'a, 's> {
    inflate: &'a mut Inflate,
    dirty: &'a mut bool,
    scratch: &'a mut [u8],
    filled: usize,
    sink: Sink<'s>,
}

impl Run<'_, '_> {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            if !bytes.is_empty() {
                *self.dirty = true;
            }
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let room = &mut self.scratch[self.filled..];
            let status = self.inflate.decompress(bytes, room, InflateFlush::SyncFlush);
            let taken = (self.inflate.total_in() - taken) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            bytes = &bytes[taken..];
            self.filled += made;
            let Ok(status) = status else {
                // What came before the fault is judged first, however the bytes were cut.
                self.flush(false)?;
                return Err(Error::BadDeflate);
            };
            if matches!(status, Status::StreamEnd) {
                // A final block ends the stream but not the message (RFC 7692 7.2.3.4); what
                // follows is another, and no compressor lets it refer to the one before.
                self.inflate.reset(false);
                *self.dirty = false;
            }
            if self.filled == self.scratch.len() {
                // There may be more that only wanted room.
                self.flush(false)?;
            } else if bytes.is_empty() {
                return Ok(());
            } else if taken == 0 && made == 0 {
                return Err(Error::BadDeflate);
            }
        }
    }

    fn flush(&mut self, end: bool) -> Result<(), Error> {
        let filled = mem::take(&mut self.filled);
        (self.sink)(&self.scratch[..filled], end)
    }
}
