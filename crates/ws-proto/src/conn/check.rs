//! The rules of whole messages for an owner who reads frames: what the raw-frame API leaves to
//! its user, ready to be asked. The same `Sequence` that message style runs on.

use super::sequence::Sequence;
use super::{Settings, Style};
use crate::header::{FrameHeader, Masking};
use crate::{close, Error};
use std::str;

/// Checks the frames of one direction of a connection, in their order. After an error it is of no
/// further use.
#[derive(Debug)]
pub struct FrameCheck {
    sequence: Sequence,
    limits: Settings,
}

impl FrameCheck {
    /// For a connection that has received nothing, with the limits on one message.
    pub fn new(max_message: u64, max_fragments: u32) -> FrameCheck {
        let limits = Settings {
            style: Style::Messages,
            masking: Masking::Optional,
            max_frame: u64::MAX,
            max_message,
            max_fragments,
        };
        FrameCheck { sequence: Sequence::default(), limits }
    }

    /// A data frame (`opcode` text, binary or continuation), unmasked: its place in the sequence
    /// (RFC 6455 5.4), the size of the message so far, and the UTF-8 of text (RFC 6455 8.1).
    pub fn data(&mut self, opcode: u8, fin: bool, payload: &[u8]) -> Result<(), Error> {
        let head = FrameHeader { fin, rsv: 0, opcode, masked: false, len7: 0 };
        self.sequence.frame(&head, payload.len() as u64, &self.limits)?;
        self.sequence.bytes(payload)?;
        if fin {
            self.sequence.end()?;
        }
        Ok(())
    }

    /// A close frame's code and reason (RFC 6455 5.5.1, 7.4).
    pub fn close(code: Option<u16>, reason: &[u8]) -> Result<(), Error> {
        if code.is_some_and(|code| !close::may_send(code)) {
            return Err(Error::CloseBadCode);
        }
        str::from_utf8(reason).map(drop).map_err(|_| Error::InvalidUtf8)
    }
}
