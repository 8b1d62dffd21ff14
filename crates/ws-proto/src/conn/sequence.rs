//! Which data frame may follow which (RFC 6455 5.4), the limits on a whole message, and the
//! UTF-8 of text across its fragments. Message style only; control frames never come here.

use super::Settings;
use crate::header::FrameHeader;
use crate::utf8::{Invalid, Validator};
use crate::{opcode, Error};

impl From<Invalid> for Error {
    fn from(_: Invalid) -> Self {
        Error::InvalidUtf8
    }
}

/// The message under way.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Data frames so far; none: no message is under way.
    frames: u32,
    /// Announced payload bytes so far.
    size: u64,
    text: bool,
    /// The message has, or will have, more than one frame.
    fragmented: bool,
    /// An extension stands between payload and message.
    coded: bool,
    utf8: Validator,
}

impl Sequence {
    /// The header of a data frame came.
    pub fn frame(&mut self, head: &FrameHeader, len: u64, limits: &Settings) -> Result<(), Error> {
        match (head.opcode, self.frames) {
            (opcode::CONTINUATION, 0) => return Err(Error::LoneContinuation),
            (opcode::CONTINUATION, _) => {}
            (_, 0) => {
                self.text = head.opcode == opcode::TEXT;
                self.fragmented = !head.fin;
                self.coded = head.rsv != 0;
            }
            _ => return Err(Error::MessageInterleaved),
        }
        if self.frames >= limits.max_fragments {
            return Err(Error::TooManyFragments);
        }
        self.frames += 1;
        self.size = self.size.saturating_add(len);
        // What comes out of an extension is counted when it comes out.
        if self.size > limits.max_message && !self.coded {
            return Err(Error::MessageTooLarge);
        }
        Ok(())
    }

    /// Whether a message has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.frames > 0
    }

    /// Whether the payloads of several frames are to be joined.
    pub fn is_fragmented(&self) -> bool {
        self.fragmented
    }

    /// Whether the payloads go through the extension.
    pub fn is_coded(&self) -> bool {
        self.coded
    }

    /// Bytes of the message came, unmasked and decoded.
    pub fn bytes(&mut self, fresh: &[u8]) -> Result<(), Error> {
        if self.text {
            self.utf8.push(fresh)?;
        }
        Ok(())
    }

    /// The last frame is whole. Returns whether the message was text.
    pub fn end(&mut self) -> Result<bool, Error> {
        let message = std::mem::take(self);
        message.utf8.finish()?;
        Ok(message.text)
    }
}
