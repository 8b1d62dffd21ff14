//! What the owner of a connection decides: style, rules and limits.

use crate::header::Masking;

/// What a connection's owner wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every frame as it is, by lua-resty-websocket's rules: nothing is joined, no sequence, no
    /// UTF-8 and no close code is checked, any form of length is taken.
    Frames,
    /// Whole messages, by the letter of RFC 6455.
    Messages,
}

/// Rules and limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Frames or messages.
    pub style: Style,
    /// Which incoming frames must be masked.
    pub masking: Masking,
    /// Longest payload of a frame as it comes (compressed or not); in message style, of a data
    /// frame.
    pub max_frame: u64,
    /// Longest message, all fragments together and decompressed. Message style only.
    pub max_message: u64,
    /// Most fragments of a message. Message style only.
    pub max_fragments: u32,
}
