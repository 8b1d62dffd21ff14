//! The WebSocket protocol (RFC 6455, RFC 7692) as state machines: bytes in, events out. Nothing here does
//! I/O, reads a clock or draws random numbers; masking keys and handshake keys come from the
//! caller. Every role and API of the module stands on this one codec; what differs between them
//! is a [`Settings`] value.
//!
//! * [`header`], [`mask`], [`close`], [`utf8`]: the pieces of a frame, usable alone;
//! * [`Conn`]: the receiving side of one connection, frame by frame or message by message;
//! * [`FrameCheck`]: the rules of messages, for who reads frame by frame;
//! * [`ext`]: extensions, negotiated and applied: permessage-deflate (RFC 7692);
//! * [`handshake`]: the opening handshake of both sides.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod close;
mod conn;
mod error;
pub mod ext;
pub mod handshake;
pub mod header;
pub mod mask;
pub mod opcode;
mod role;
pub mod utf8;

pub use conn::{Conn, Event, FrameCheck, Payload, Plain, Settings, Stage, Style};
pub use error::Error;
pub use header::{Lengths, Masking};
pub use role::Role;
