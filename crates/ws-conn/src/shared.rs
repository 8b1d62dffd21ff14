//! A message on its way to many connections: encoded once, compressed at most once, and handed to
//! outboxes by reference.

use std::cell::OnceCell;

use bytes::Bytes;
use ws_proto::ext::deflate::{compress_once, RSV1};
use ws_proto::{header, opcode};

use crate::pool::NoMemory;

/// Window of a message compressed for many: connections with a smaller one get it as it is.
pub(crate) const WINDOW_BITS: u8 = 15;
/// Effort of compressing for many.
const LEVEL: u8 = 6;

/// One message for many receivers. Dropped by who made it; its frames live in outboxes until sent.
#[derive(Debug)]
pub struct Shared<'a> {
    text: bool,
    payload: &'a [u8],
    plain: OnceCell<Result<Bytes, NoMemory>>,
    packed: OnceCell<Option<Bytes>>,
}

impl<'a> Shared<'a> {
    /// A message; text must be valid UTF-8.
    pub fn new(text: bool, payload: &'a [u8]) -> Shared<'a> {
        Shared { text, payload, plain: OnceCell::new(), packed: OnceCell::new() }
    }

    /// A message that there was no memory to make: who is to get it ends for that.
    pub fn unmade() -> Shared<'static> {
        let plain = OnceCell::from(Err(NoMemory));
        Shared { text: true, payload: &[], plain, packed: OnceCell::from(None) }
    }

    /// The message itself.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of the message itself.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The uncompressed frame.
    pub fn plain(&self) -> Result<&Bytes, NoMemory> {
        self.plain.get_or_init(|| self.frame(0, self.payload)).as_ref().map_err(|err| *err)
    }

    /// The compressed frame, where compressing gains something, and there is memory for it.
    pub fn packed(&self) -> Option<&Bytes> {
        self.packed
            .get_or_init(|| {
                let packed = compress_once(LEVEL, WINDOW_BITS, self.payload)?;
                (packed.len() < self.payload.len()).then(|| self.frame(RSV1, &packed).ok())?
            })
            .as_ref()
    }

    fn frame(&self, rsv: u8, payload: &[u8]) -> Result<Bytes, NoMemory> {
        let op = if self.text { opcode::TEXT } else { opcode::BINARY };
        let head = header::encode(true, rsv, op, payload.len() as u64, None);
        let head = head.as_ref();
        let mut frame = Vec::new();
        frame.try_reserve_exact(head.len() + payload.len()).map_err(|_| NoMemory)?;
        frame.extend_from_slice(head);
        frame.extend_from_slice(payload);
        Ok(frame.into())
    }
}
