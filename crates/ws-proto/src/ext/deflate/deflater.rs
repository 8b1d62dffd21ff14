//! The sending direction of permessage-deflate (RFC 7692 7.2.1): compresses whole messages, one
//! connection's in its own context or one message for many connections. The caller writes the
//! frames, with RSV1 set on the first of a message.

use super::parameters::{Agreed, RSV1, TAIL};
use super::spare;
use crate::ext::extension::Encoder;
use crate::Role;
use std::fmt;
use zlib_rs::{Deflate, DeflateError, DeflateFlush};

/// Compressor of one connection's sending direction. Owns zlib's compressor from the first
/// message it compresses on where messages may refer to earlier ones, and otherwise none:
/// see `spare`.
pub struct Deflater {
    level: u8,
    window_bits: u8,
    takeover: bool,
    threshold: usize,
    /// The context: what the peer's window holds, if any.
    context: Option<Deflate>,
    /// Bytes of the messages compressed, before and after.
    bytes: (u64, u64),
}

impl Deflater {
    /// The compressor of the side `role`, ours.
    pub fn new(agreed: &Agreed, role: Role) -> Deflater {
        let (window_bits, takeover) = agreed.direction(role);
        Deflater {
            level: agreed.level.clamp(1, 9),
            window_bits,
            takeover,
            threshold: agreed.threshold.max(1),
            context: None,
            bytes: (0, 0),
        }
    }

    /// The agreed window.
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Whether messages refer to earlier ones.
    pub fn takes_context_over(&self) -> bool {
        self.takeover
    }

    /// Bytes of all messages that were compressed, before and after.
    pub fn compressed_bytes(&self) -> (u64, u64) {
        self.bytes
    }
}

impl Encoder for Deflater {
    fn rsv(&self) -> u8 {
        RSV1
    }

    /// Not below the threshold, and not where it is not worth it.
    fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if payload.len() < self.threshold {
            return false;
        }
        let context =
            self.context.take().map_or_else(|| spare::deflate(self.level, self.window_bits), Ok);
        // Without memory for it the message goes as it is; no context is lost, for there was none.
        let Ok(mut deflate) = context else { return false };
        let start = out.len();
        let done = compress(&mut deflate, payload, out).is_ok();
        let len = out.len() - start;
        // A message that went out compressed is in the peer's window and must stay in ours. A few
        // bytes more are a small price for that, unless it filled the window with noise anyway.
        let keep = done && self.takeover && payload.len() < 1 << self.window_bits;
        if !keep && (!done || len >= payload.len()) {
            out.truncate(start);
            spare::keep_deflate(self.level, self.window_bits, deflate);
            return false;
        }
        if self.takeover {
            self.context = Some(deflate);
        } else {
            spare::keep_deflate(self.level, self.window_bits, deflate);
        }
        self.bytes.0 += payload.len() as u64;
        self.bytes.1 += len as u64;
        true
    }

    fn takes_deflated(&self, window_bits: u8, len: usize) -> bool {
        self.window_bits >= window_bits && len >= self.threshold
    }

    /// The peer's window moved on without ours, so that the next message must start from an empty
    /// one, as a compressor always may.
    fn sent_elsewhere(&mut self) {
        if let Some(deflate) = self.context.take() {
            spare::keep_deflate(self.level, self.window_bits, deflate);
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, window_bits, takeover, threshold, context, bytes } = self;
        f.debug_struct("Deflater")
            .field("level", level)
            .field("window_bits", window_bits)
            .field("takeover", takeover)
            .field("threshold", threshold)
            .field("has_context", &context.is_some())
            .field("bytes", bytes)
            .finish()
    }
}

/// Compresses a message for any number of connections whose window has at least `window_bits` (8
/// to 15), whatever was sent on them before: it refers to nothing but itself. `level` is 1 to 9.
/// Each connection's [`Encoder::sent_elsewhere`] must be told.
///
/// None: there is no memory for it.
pub fn compress_once(level: u8, window_bits: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let (level, window_bits) = (level.clamp(1, 9), window_bits.clamp(8, 15));
    let mut out = Vec::new();
    let mut deflate = spare::deflate(level, window_bits).ok()?;
    compress(&mut deflate, payload, &mut out).ok()?;
    spare::keep_deflate(level, window_bits, deflate);
    Some(out)
}

/// Compresses, flushes to a whole byte, and leaves the flush's empty block out but for its first
/// byte.
fn compress(
    deflate: &mut Deflate,
    mut payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DeflateError> {
    spare::with_scratch(|scratch| loop {
        let (taken, made) = (deflate.total_in(), deflate.total_out());
        deflate.compress(payload, scratch, DeflateFlush::SyncFlush)?;
        let (taken, made) = (deflate.total_in() - taken, deflate.total_out() - made);
        payload = &payload[taken as usize..];
        out.try_reserve(made as usize).map_err(|_| DeflateError::MemError)?;
        out.extend_from_slice(&scratch[..made as usize]);
        // Room was left: the flush is complete.
        if (made as usize) < scratch.len() {
            return Ok(());
        }
    })?;
    debug_assert!(payload.is_empty() && out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    Ok(())
}
