//! What is asked of histories, and what they answer.

use std::fmt;

/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 64;
/// How long a key is remembered, in milliseconds.
pub const KEY_MS: u64 = 5 * 60 * 1000;
/// How long a topic's position outlives its last message, in milliseconds.
pub const POSITION_MS: u64 = 24 * 60 * 60 * 1000;

/// A process, as the lock knows it.
#[derive(Clone, Copy)]
pub struct Owner {
    /// Unlike that of any other process that lives; neither 0 nor `u64::MAX`.
    pub id: u64,
    /// Whether the process with this number lives. A wrong no is fatal, a wrong yes only delays.
    pub is_alive: fn(u64) -> bool,
    /// Random numbers that nobody can guess.
    pub random: fn() -> u64,
}

/// Where in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Offsets of other epochs mean nothing.
    pub epoch: u64,
    /// Of the last message, 0 before the first.
    pub offset: u64,
}

impl Position {
    /// Of a topic that is kept elsewhere and empty there, see copy.rs.
    pub const NOWHERE: Position = Position { epoch: 0, offset: 0 };
}

/// What a history keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages, at least 1.
    pub count: u32,
    /// How long, in milliseconds.
    pub ttl: u64,
    /// How many bytes of the zone, 0 for an eighth of it.
    pub bytes: u64,
}

/// A topic that has a history, see `Rules::topic`.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// What is kept.
    pub limits: Limits,
    /// Which rules said so.
    pub generation: u64,
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The message.
    pub data: &'a [u8],
    /// The caller's, for instance its type.
    pub flags: u8,
    /// The idempotency key.
    pub key: Option<&'a [u8]>,
    /// Whether the topic has subscribers: those without go first when the zone is full.
    pub subscribed: bool,
}

/// A message that is in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its own.
    pub position: Position,
    /// It was there before: somebody has used its key.
    pub repeated: bool,
}

/// How full a zone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Topics with a history.
    pub topics: u64,
    /// Bytes in use, and that there are.
    pub bytes: u64,
    /// See `bytes`.
    pub capacity: u64,
    /// Topics that had to make room for others.
    pub evicted: u64,
    /// Topics whose histories were dropped on demand.
    pub forgotten: u64,
    /// Topics whose writers died in the middle.
    pub killed: u64,
}

/// Why something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Less memory than a zone needs.
    TooSmall,
    /// Not a topic's name.
    Topic(crate::topic::TopicError),
    /// Not 1 to [`MAX_KEY`] bytes.
    Key,
    /// More than the topic may keep, or than the zone can.
    TooLarge,
    /// Rules take all the room.
    Full,
    /// More rules than a quarter of the zone holds, or a pattern over 255 bytes.
    Rules,
    /// The rules have changed: `History::refresh`, and ask them again.
    Stale,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSmall => "history zone too small",
            Self::Topic(error) => return error.fmt(f),
            Self::Key => "idempotency key must have 1 to 64 bytes",
            Self::TooLarge => "message too large for the history",
            Self::Full => "history zone full",
            Self::Rules => "too many topics' rules for the history zone",
            Self::Stale => "topic rules have changed",
        })
    }
}

impl std::error::Error for HistoryError {}
