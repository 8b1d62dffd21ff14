//! Opcodes of RFC 6455 5.2, as the bare numbers that stand in the header: the raw-frame API
//! lets its caller send any of them, so they are not an enum.

/// A further fragment of the message under way.
pub const CONTINUATION: u8 = 0x0;
/// A text message, or its first fragment.
pub const TEXT: u8 = 0x1;
/// A binary message, or its first fragment.
pub const BINARY: u8 = 0x2;
/// The close handshake.
pub const CLOSE: u8 = 0x8;
/// A ping, to be answered by a pong with the same payload.
pub const PING: u8 = 0x9;
/// A pong, asked for or not.
pub const PONG: u8 = 0xA;

/// Whether the opcode is that of a control frame (RFC 6455 5.5: its highest bit is set).
#[inline]
pub const fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}
