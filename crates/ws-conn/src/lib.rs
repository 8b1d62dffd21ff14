//! One WebSocket connection (RFC 6455), without I/O: for every role and every way to use it. Bytes
//! come from an [`Io`], which the owner passes to a call, as it passes a [`Host`] with the clock, the
//! masking keys and the memory that connections share; what comes out of a call is an item, a result,
//! or [`News`] that the owner acts on (something is to be sent, somebody to be woken, it is over).
//!
//! * [`Connection`]: receiving, sending, the close handshake, limits and deadlines;
//! * [`Config`] and [`Style`]: frame by frame (nothing happens by itself), message by message, or data
//!   frames with the protocol kept;
//! * [`FrameReader`]: one frame at a time from a stream that others read too;
//! * [`Outbox`], [`Pool`], [`Shared`]: pieces that other carriers of bytes use too.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
mod connection;
mod dialogue;
mod end;
mod frame_reader;
mod heartbeat;
mod host;
mod inbox;
mod io_error;
mod outbox;
mod pool;
mod rate;
mod receiver;
mod sender;
mod shared;
mod stash;

pub use config::{Config, Style, Words};
pub use connection::{Connection, Passing, View, MAX_FRAGMENTS};
pub use dialogue::{check_frame, News, Phase, Tally};
pub use end::{End, SendError, MAX_REASON, SLOW_CONSUMER};
pub use frame_reader::{FrameReader, FrameRules, Piece};
pub use host::{Counted, Host, Io, NoIo, Recv, Sent, MAX_PARTS};
pub use inbox::Item;
pub use io_error::IoError;
pub use outbox::Outbox;
pub use pool::{Lending, NoMemory, Pool, BURST, READ};
pub use rate::Rate;
pub use receiver::RecvError;
pub use shared::Shared;
pub use ws_proto::Role;
