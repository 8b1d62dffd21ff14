//! A message between workers: who it is for, what it is, the payload. As bytes its head is made
//! apart from the payload, so that a publisher hands both to the ring without joining them first.

mod format;
mod topics;

use std::fmt;

use crate::id::{ConnId, NodeId};
use crate::topic::TopicError;

pub use topics::Topics;

/// What the payload is to the receiving connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Valid UTF-8, by the sender's check.
    Text,
    /// Any bytes.
    Binary,
}

/// Who the message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Every subscriber.
    Publish {
        /// What they subscribed.
        topic: &'a [u8],
    },
    /// One connection.
    ToConnection {
        /// Which.
        id: ConnId,
    },
    /// Every subscriber of a topic with a history: there is something new in that, up to the
    /// place in `stored`. There is no payload.
    Doorbell {
        /// What they subscribed.
        topic: &'a [u8],
    },
    /// Every subscriber of some topics, once.
    PublishMany {
        /// What they subscribed.
        topics: Topics<'a>,
    },
    /// Every subscriber, to be closed. There is no payload.
    CloseTopic {
        /// What they subscribed.
        topic: &'a [u8],
        /// The code of the close frame.
        code: u16,
        /// Its reason, UTF-8 of at most 123 bytes.
        reason: &'a str,
    },
    /// The worker that talks to the broker: these topics have subscribers. There is no payload.
    Listens {
        /// Some of them.
        topics: Topics<'a>,
    },
    /// The worker that talks to the brokers: something about a topic's history there.
    Errand {
        /// Whose history.
        topic: &'a [u8],
        /// What is to be done.
        errand: Errand,
        /// The idempotency key of a message, empty for none.
        key: &'a [u8],
        /// Who is answered; [`ConnId::NOBODY`] for none.
        id: ConnId,
    },
    /// Every worker: who talked to the brokers before this talks to them no more, and the next one does
    /// from here on. There is no payload.
    HandsOver,
    /// Every worker: it is to say what it listens for. There is no payload.
    WhoListens,
    /// Every worker, or every machine, to tell who subscribes a topic. There is no payload.
    Ask {
        /// Which topic.
        topic: &'a [u8],
        /// Who asks.
        id: ConnId,
        /// Of more than so many only their number is told.
        most: u32,
    },
    /// Every worker of every machine: who has come and gone on the origin's machine may have gone
    /// untold. There is no payload.
    Untold,
    /// Whoever asked: a piece of an answer, see [`crate::presence`].
    Answer {
        /// Who asked.
        id: ConnId,
    },
    /// Every subscriber that is told of the others: who has come and gone, see [`crate::presence`].
    Changes {
        /// What they subscribed.
        topic: &'a [u8],
    },
    /// One connection, to be closed. There is no payload.
    CloseConnection {
        /// Which.
        id: ConnId,
        /// The code of the close frame; 0 for none.
        code: u16,
        /// Its reason, UTF-8 of at most 123 bytes.
        reason: &'a str,
    },
}

/// What is to be done with a history at a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// This machine's copy is to be brought up to date.
    Fetch,
    /// The message is to be stored.
    Keep,
    /// It is to be dropped.
    Forget,
}

impl Errand {
    const ALL: [Errand; 3] = [Errand::Fetch, Errand::Keep, Errand::Forget];
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Its node.
    pub node: NodeId,
    /// The directory row of its worker there.
    pub row: u16,
    /// That row's generation then.
    pub generation: u16,
}

/// Where a message stands in its topic's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Within which offsets have no gap.
    pub epoch: u64,
    /// One more than that of the message before it.
    pub offset: u64,
    /// When it was stored, in milliseconds since 1970.
    pub time: u64,
}

/// One message between workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Who it is for.
    pub kind: Kind<'a>,
    /// What the payload is.
    pub typ: Type,
    /// The worker it came from.
    pub origin: Origin,
    /// The origin's own count of what it sent, for whoever must recognise a repetition.
    pub sequence: u64,
    /// Its place, if it is stored.
    pub stored: Option<Stored>,
    /// A connection that is not to get it.
    pub except: Option<ConnId>,
    /// It goes to other machines, too.
    pub far: bool,
    /// The message.
    pub payload: &'a [u8],
}

/// Why a message could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The bytes end too early.
    Short,
    /// Another version of the format.
    Version,
    /// A kind this version does not know.
    Kind,
    /// A flag this version does not know.
    Flags,
    /// The topic is none.
    Topic(TopicError),
    /// More topics than a message can have.
    Topics,
    /// The close reason is too long or not UTF-8.
    BadReason,
    /// A payload where there is none.
    Payload,
    /// There is no memory for it.
    NoMemory,
}

impl From<TopicError> for EnvelopeError {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "message between workers is cut off",
            Self::Version => "message between workers has another version",
            Self::Kind => "message between workers has an unknown kind",
            Self::Flags => "message between workers has unknown flags",
            Self::Topic(error) => return error.fmt(f),
            Self::Topics => "too many topics",
            Self::BadReason => "bad close reason",
            Self::Payload => "a message of this kind carries no payload",
            Self::NoMemory => "no memory",
        })
    }
}

impl std::error::Error for EnvelopeError {}
