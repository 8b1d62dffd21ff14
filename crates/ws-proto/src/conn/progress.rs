//! Where in the byte stream a connection is: the frame that is arriving, and what of it comes next.

use crate::header::FrameHeader;
use crate::mask;

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first two bytes of a frame.
    First2,
    /// The 16-bit length.
    Len16,
    /// The 64-bit length.
    Len64,
    /// Masking key and payload.
    Body,
}

/// The frame that is arriving: valid as far as `State` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub head: FrameHeader,
    pub key: [u8; 4],
    pub filled: usize,
    pub missing: usize,
}

impl Frame {
    /// Counts the next payload bytes, and unmasks them.
    pub fn take(&mut self, bytes: &mut [u8]) {
        if self.head.masked {
            mask::apply(self.key, self.filled, bytes);
        }
        self.filled += bytes.len();
        self.missing -= bytes.len();
    }
}

/// What is awaited. A bare number beside `Frame`: to move the frame's parts in and out of an enum
/// nearly doubles what a short frame costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    First2,
    Len,
    Key,
    Body,
    /// Nothing, after a close or an error.
    Over,
}
