//! What a session is opened with, by the directives of its location and the options of the call that
//! opens it.

use std::rc::Rc;

use ws_conn::{Rate, Style};
use ws_proto::ext::Agreed;

/// What a session is opened with. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it starts as.
    pub style: Style,
    /// Longest payload of a received frame.
    pub max_frame: u64,
    /// Longest received message.
    pub max_message: u64,
    /// How long a read may wait (`NEVER` ends it for no time); None means ngx_lua's directive.
    pub recv_timeout: Option<u64>,
    /// How long a write may wait, likewise.
    pub send_timeout: Option<u64>,
    /// A send that leaves more than this pending waits for the peer.
    pub high_water: usize,
    /// What happens when more than `high_water` would wait for pushed messages.
    pub slow: SlowConsumer,
    /// Idle time after which the module pings, and how long it waits for anything to come.
    /// None: no heartbeat.
    pub heartbeat: Option<(u64, u64)>,
    /// How often messages may come.
    pub rate: Option<Rate>,
    /// How long it may live: so long, and up to so long more, at random.
    pub lifetime: Option<(u64, u64)>,
    /// The agreed compression.
    pub extension: Option<Agreed>,
    /// What the peer is told when the worker quits; None: nothing.
    pub shutdown: Option<Rc<ShutdownClose>>,
    /// Whether the end of the handler closes what is still open: 1000, or 1011 where it failed.
    pub handler_close: bool,
    /// Whether the request is freed once no handler needs it.
    pub detach: bool,
}

/// The goodbye of a worker that has been told to quit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownClose {
    /// Close code.
    pub code: u16,
    /// Reason, UTF-8 of at most 123 bytes.
    pub reason: Vec<u8>,
    /// Milliseconds over which connections are spread, so that not all come back at once.
    pub over: u64,
}

/// What happens to a reader over its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It misses the message.
    Drop,
    /// It is closed with 1013.
    Close,
}

/// A time-out that never passes.
pub const NEVER: u64 = u64::MAX;
