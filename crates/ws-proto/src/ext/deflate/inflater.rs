//! The receiving direction of permessage-deflate (RFC 7692 7.2.2): inflates messages while they
//! come, in blocks that the connection checks against its limits before it stores them; beyond what
//! is wanted before a message's end (`Ahead`) the compressed bytes are kept instead. Owned by
//! one `Conn`; keeps zlib's inflater between messages only where the peer may refer to earlier
//! ones. The peer's window bits are not looked at: zlib-rs inflates by a window of 32 KB always,
//! and a reference beyond the agreed window does no harm.

use super::parameters::{Agreed, RSV1, TAIL};
use super::spare;
use crate::ext::extension::{Ahead, Decoder, Sink};
use crate::{Error, Role};
use std::{fmt, mem};
use zlib_rs::{Inflate, InflateFlush, Status};

/// State of one connection's receiving direction.
pub(crate) struct Inflater {
    takeover: bool,
    inflate: Option<Inflate>,
    /// Something was fed since the message began, or since its last DEFLATE stream ended.
    dirty: bool,
    /// Of the message under way: what came and was not fed yet.
    held: Vec<u8>,
}

impl Inflater {
    /// The inflater of the side `role`, ours.
    pub fn new(agreed: &Agreed, role: Role) -> Inflater {
        let peer = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let (_, takeover) = agreed.direction(peer);
        Inflater { takeover, inflate: None, dirty: false, held: Vec::new() }
    }
}

impl Decoder for Inflater {
    fn rsv(&self) -> u8 {
        RSV1
    }

    fn decode(&mut self, bytes: &[u8], ahead: Option<Ahead>, sink: Sink<'_>) -> Result<(), Error> {
        if let Some(ahead) = ahead {
            if ahead.decoded == 0 || !self.held.is_empty() {
                return self.hold(bytes, ahead.coded);
            }
        }
        let mut inflate = match self.inflate.take() {
            Some(inflate) => inflate,
            None => spare::inflate()?,
        };
        let (dirty, held) = (&mut self.dirty, mem::take(&mut self.held));
        let mut left = 0;
        spare::with_scratch(|scratch| {
            let most = ahead.map_or(usize::MAX, |ahead| ahead.decoded);
            let mut run = Run { inflate: &mut inflate, dirty, scratch, filled: 0, most, sink };
            run.feed(&held)?;
            left = run.feed(bytes)?;
            if ahead.is_some() {
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
        match ahead {
            None if !self.takeover => spare::keep_inflate(inflate),
            _ => self.inflate = Some(inflate),
        }
        ahead.map_or(Ok(()), |ahead| self.hold(&bytes[bytes.len() - left..], ahead.coded))
    }
}

impl Inflater {
    /// Keeps compressed bytes for the message's end.
    fn hold(&mut self, bytes: &[u8], most: usize) -> Result<(), Error> {
        if bytes.len() > most.saturating_sub(self.held.len()) {
            return Err(Error::MessageTooLarge);
        }
        self.held.try_reserve(bytes.len()).map_err(|_| Error::NoMemory)?;
        self.held.extend_from_slice(bytes);
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
    /// So many bytes more may come out.
    most: usize,
    sink: Sink<'s>,
}

impl Run<'_, '_> {
    /// Returns how many of the bytes were not taken, because no more may come out.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<usize, Error> {
        loop {
            if !bytes.is_empty() {
                *self.dirty = true;
            }
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let end = self.scratch.len().min(self.filled.saturating_add(self.most));
            let room = &mut self.scratch[self.filled..end];
            let status = self.inflate.decompress(bytes, room, InflateFlush::SyncFlush);
            let taken = (self.inflate.total_in() - taken) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            bytes = &bytes[taken..];
            self.filled += made;
            self.most -= made;
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
            if self.most == 0 {
                return Ok(bytes.len());
            }
            if self.filled == self.scratch.len() {
                // There may be more that only wanted room.
                self.flush(false)?;
            } else if bytes.is_empty() {
                return Ok(0);
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
