//! Faults of a peer in frames and messages. Every fault has a text (where lua-resty-websocket
//! has one, exactly that text), the close code to answer with and a short name for counters:
//! one row of the table below. Handshake faults have their own enums in `handshake`.

use std::fmt;

/// A rule of the protocol, or a limit, that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// A reserved bit is set that no negotiated extension owns.
    BadRsv,
    /// Opcode 3 to 7.
    ReservedData,
    /// Opcode 0xB to 0xF.
    ReservedControl,
    /// A client's frame came without a masking key.
    Unmasked,
    /// A server's frame came with a masking key.
    Masked,
    /// A length of 2^31 or more (raw-frame rule), or one the machine cannot address.
    LenTooLarge,
    /// A length that a shorter form could hold.
    LenNotMinimal,
    /// A 64-bit length with its most significant bit set.
    LenTopBit,
    /// A control frame with more than 125 bytes.
    ControlTooLong,
    /// A control frame without FIN.
    ControlFragmented,
    /// A frame above the limit on frames.
    FrameTooLarge,
    /// A close frame whose payload is one byte.
    CloseOneByte,
    /// A close code that must not stand in a frame.
    CloseBadCode,
    /// A continuation frame with no message under way.
    LoneContinuation,
    /// A new message before the fragmented one ended.
    MessageInterleaved,
    /// A message above the limit on messages.
    MessageTooLarge,
    /// A message in more fragments than allowed.
    TooManyFragments,
    /// Messages come faster than the limit on their rate.
    TooManyMessages,
    /// A text message or close reason that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that is not DEFLATE data. No RFC names its close code: 1007, because
    /// the payload is not what the frame says it is.
    BadDeflate,
    /// No fault of the peer: there is no memory for what it sends.
    NoMemory,
}

impl Error {
    /// Text, close code, short name.
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRsv => ("bad RSV1, RSV2, or RSV3 bits", 1002, "rsv"),
            Self::ReservedData => ("reserved non-control frames", 1002, "opcode"),
            Self::ReservedControl => ("reserved control frames", 1002, "opcode"),
            Self::Unmasked => ("frame unmasked", 1002, "masking"),
            Self::Masked => ("frame masked", 1002, "masking"),
            Self::LenTooLarge => ("payload len too large", 1009, "frame_size"),
            Self::LenNotMinimal => ("payload len not in its shortest form", 1002, "length"),
            Self::LenTopBit => ("payload len with its top bit set", 1002, "length"),
            Self::ControlTooLong => ("too long payload for control frame", 1002, "control"),
            Self::ControlFragmented => ("fragmented control frame", 1002, "control"),
            Self::FrameTooLarge => ("exceeding max payload len", 1009, "frame_size"),
            Self::CloseOneByte => {
                ("close frame with a body must carry a 2-byte status code", 1002, "close")
            }
            Self::CloseBadCode => ("bad close code", 1002, "close"),
            Self::LoneContinuation => ("continuation without a message", 1002, "sequence"),
            Self::MessageInterleaved => ("new message inside a fragmented one", 1002, "sequence"),
            Self::MessageTooLarge => ("exceeding max message len", 1009, "message_size"),
            Self::TooManyFragments => ("too many fragments", 1009, "fragments"),
            Self::TooManyMessages => ("too many messages", 1008, "rate"),
            Self::InvalidUtf8 => ("invalid utf-8", 1007, "utf8"),
            Self::BadDeflate => ("bad compressed data", 1007, "compression"),
            Self::NoMemory => ("no memory", 1011, "memory"),
        }
    }

    /// The close code that tells the peer (RFC 6455 7.4.1): 1002, 1007, 1008, 1009 or 1011.
    pub const fn close_code(&self) -> u16 {
        self.row().1
    }

    /// Short name of the broken rule, for logs and counters. Several faults may share one.
    pub const fn rule(&self) -> &'static str {
        self.row().2
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}

impl std::error::Error for Error {}
