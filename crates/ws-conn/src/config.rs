//! What a connection is opened with.

use ws_proto::ext::Agreed;
use ws_proto::header::FrameHeader;
use ws_proto::{Error, Masking, Role};

use crate::Rate;

/// How items are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every frame as it is, control frames too. Nothing is judged, answered or read ahead.
    Frames,
    /// Whole messages. Pings are answered, rules enforced, the close handshake is done.
    Messages,
    /// Data frames one by one, with the protocol kept as for messages.
    Fragments,
}

/// A close frame's words for a broken rule: of which frame, and its length where that was the fault.
pub type Words = fn(Error, FrameHeader, usize) -> String;

/// What a connection is opened with. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our end.
    pub role: Role,
    /// What it begins as. Messages may become frames and the other way round (`Connection::begin`).
    pub style: Style,
    /// What is expected of the peer's frames.
    pub masking: Masking,
    /// Longest payload of a received frame.
    pub max_frame: u64,
    /// Longest received message.
    pub max_message: u64,
    /// The high-water mark: where more output waits, a sender has to wait.
    pub mark: usize,
    /// Idle time after which a ping is sent, and how long anything may take to come then.
    pub heartbeat: Option<(u64, u64)>,
    /// How often messages may come; frames, whose rules their owner keeps, are not counted.
    pub rate: Option<Rate>,
    /// After so long the connection is closed with 1001.
    pub lifetime: Option<u64>,
    /// The agreed extension.
    pub extension: Option<Agreed>,
    /// Whether what comes between our close frame and the peer's is handed out too.
    pub late: bool,
    /// The code that answers a close frame, where it is not the peer's own.
    pub answer: Option<u16>,
    /// The words of close frames for broken rules, where they are not the error's own.
    pub words: Option<Words>,
}

impl Config {
    /// A client's connection, message by message, of messages of at most `max_message` bytes.
    pub fn client(max_message: u64, mark: usize) -> Config {
        Config {
            role: Role::Client,
            style: Style::Messages,
            masking: Masking::Forbidden,
            max_frame: max_message,
            max_message,
            mark,
            heartbeat: None,
            rate: None,
            lifetime: None,
            extension: None,
            late: false,
            answer: None,
            words: None,
        }
    }
}
