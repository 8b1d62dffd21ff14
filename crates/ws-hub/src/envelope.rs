//! A message between workers as bytes: who it is for, what it is, the payload. The head is made
//! apart from the payload, so that a publisher hands both to the ring without joining them first.
//! Decoding borrows, checks every bound and never panics: the bytes may come from another version
//! of this crate, or from a machine that nobody trusts.
//!
//! Format, little-endian: version, kind, flags, length of the topic (one byte each); the origin's
//! node (4), row (2) and generation (2); close code (2), sequence (8); if flagged a position (epoch
//! 8, offset 8, time 8); if flagged `except` (16); then the topic or the id (16); the rest is the
//! payload, or the reason of a close. Of several topics the head has their number, and each has its
//! length before it.

use std::fmt;

use crate::id::{ConnId, NodeId};
use crate::topic::{check_topic, TopicError};

const VERSION: u8 = 2;
const FIXED: usize = 22;
const BINARY: u8 = 1;
const EXCEPT: u8 = 2;
const POSITION: u8 = 4;
const FAR: u8 = 8;
const PUBLISH: u8 = 0;
const TO_CONNECTION: u8 = 1;
const CLOSE_CONNECTION: u8 = 2;
const DOORBELL: u8 = 3;
const PUBLISH_MANY: u8 = 4;
const CLOSE_TOPIC: u8 = 5;
const LISTENS: u8 = 6;
const WHO_LISTENS: u8 = 7;
const ASK: u8 = 8;
const ANSWER: u8 = 9;
const CHANGES: u8 = 10;
const ERRAND: u8 = 11;
const HANDS_OVER: u8 = 12;
const UNTOLD: u8 = 13;
/// What a close frame has room for beside its code (RFC 6455 5.5).
const MAX_REASON: usize = 123;

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

/// Several topics, as bytes: of each its length and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics<'a> {
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Topics<'a> {
    /// The most topics of one message.
    pub const MOST: usize = u8::MAX as usize;

    /// These topics, which `bytes` are made to hold.
    pub fn new(topics: &[&[u8]], bytes: &'a mut Vec<u8>) -> Result<Self, EnvelopeError> {
        let count = u8::try_from(topics.len()).map_err(|_| EnvelopeError::Topics)?;
        bytes.clear();
        let len = topics.iter().map(|topic| 1 + topic.len()).sum();
        bytes.try_reserve(len).map_err(|_| EnvelopeError::NoMemory)?;
        for topic in topics {
            bytes.push(checked_len(topic)?);
            bytes.extend_from_slice(topic);
        }
        Ok(Self { count, bytes })
    }

    /// Takes so many topics off the beginning.
    fn take(count: u8, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EnvelopeError> {
        let mut rest = bytes;
        for _ in 0..count {
            let (&len, after) = rest.split_first().ok_or(EnvelopeError::Short)?;
            let (topic, after) = after.split_at_checked(len.into()).ok_or(EnvelopeError::Short)?;
            check_topic(topic)?;
            rest = after;
        }
        Ok((Self { count, bytes: &bytes[..bytes.len() - rest.len()] }, rest))
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (topic, after) = after.split_at_checked(len.into())?;
            rest = after;
            Some(topic)
        })
    }
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

impl<'a> Envelope<'a> {
    /// Appends everything before the payload to `out`. A close has no payload of its own: its
    /// reason is part of the head.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let (kind, topic_len, code) = match self.kind {
            Kind::Publish { topic } => (PUBLISH, checked_len(topic)?, 0),
            Kind::ToConnection { .. } => (TO_CONNECTION, 0, 0),
            Kind::CloseConnection { code, reason, .. } => {
                self.check_close(reason)?;
                (CLOSE_CONNECTION, 0, code)
            }
            Kind::Doorbell { topic } if self.payload.is_empty() => {
                (DOORBELL, checked_len(topic)?, 0)
            }
            Kind::Doorbell { .. } => return Err(EnvelopeError::Payload),
            Kind::PublishMany { topics } => (PUBLISH_MANY, topics.count, 0),
            Kind::Listens { topics } if self.payload.is_empty() => (LISTENS, topics.count, 0),
            Kind::WhoListens if self.payload.is_empty() => (WHO_LISTENS, 0, 0),
            Kind::HandsOver if self.payload.is_empty() => (HANDS_OVER, 0, 0),
            Kind::Untold if self.payload.is_empty() => (UNTOLD, 0, 0),
            Kind::Listens { .. } | Kind::WhoListens | Kind::HandsOver | Kind::Untold => {
                return Err(EnvelopeError::Payload);
            }
            Kind::Errand { topic, key, .. } => {
                u8::try_from(key.len()).map_err(|_| EnvelopeError::Topics)?;
                (ERRAND, checked_len(topic)?, 0)
            }
            Kind::CloseTopic { topic, code, reason } => {
                self.check_close(reason)?;
                (CLOSE_TOPIC, checked_len(topic)?, code)
            }
            Kind::Ask { topic, .. } if self.payload.is_empty() => (ASK, checked_len(topic)?, 0),
            Kind::Ask { .. } => return Err(EnvelopeError::Payload),
            Kind::Answer { .. } => (ANSWER, 0, 0),
            Kind::Changes { topic } => (CHANGES, checked_len(topic)?, 0),
        };
        let binary = if self.typ == Type::Binary { BINARY } else { 0 };
        let except = if self.except.is_some() { EXCEPT } else { 0 };
        let position = if self.stored.is_some() { POSITION } else { 0 };
        let far = if self.far { FAR } else { 0 };
        out.extend([VERSION, kind, binary | except | position | far, topic_len]);
        out.extend(self.origin.node.0.to_le_bytes());
        out.extend(self.origin.row.to_le_bytes());
        out.extend(self.origin.generation.to_le_bytes());
        out.extend(code.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        if let Some(Stored { epoch, offset, time }) = self.stored {
            out.extend([epoch, offset, time].map(u64::to_le_bytes).as_flattened());
        }
        if let Some(id) = &self.except {
            out.extend(id.as_bytes());
        }
        match &self.kind {
            Kind::Publish { topic } | Kind::Doorbell { topic } | Kind::Changes { topic } => {
                out.extend(*topic);
            }
            Kind::PublishMany { topics } | Kind::Listens { topics } => out.extend(topics.bytes),
            Kind::WhoListens | Kind::HandsOver | Kind::Untold => {}
            Kind::Errand { topic, errand, key, id } => {
                out.extend([*errand as u8, key.len() as u8]);
                out.extend(*key);
                out.extend(id.as_bytes());
                out.extend(*topic);
            }
            Kind::ToConnection { id } | Kind::Answer { id } => out.extend(id.as_bytes()),
            Kind::Ask { topic, id, most } => {
                out.extend(*topic);
                out.extend(id.as_bytes());
                out.extend(most.to_le_bytes());
            }
            Kind::CloseConnection { id, reason, .. } => {
                out.extend(id.as_bytes());
                out.extend(reason.as_bytes());
            }
            Kind::CloseTopic { topic, reason, .. } => {
                out.extend(*topic);
                out.extend(reason.as_bytes());
            }
        }
        Ok(())
    }

    fn check_close(&self, reason: &str) -> Result<(), EnvelopeError> {
        if reason.len() > MAX_REASON {
            return Err(EnvelopeError::BadReason);
        }
        if !self.payload.is_empty() {
            return Err(EnvelopeError::Payload);
        }
        Ok(())
    }

    /// Appends the whole message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        self.encode_head(out)?;
        out.try_reserve(self.payload.len()).map_err(|_| EnvelopeError::NoMemory)?;
        out.extend(self.payload);
        Ok(())
    }

    /// The message that `bytes` hold.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(EnvelopeError::Short)?;
        let [version, kind, flags, topic_len, n0, n1, n2, n3, r0, r1, g0, g1, c0, c1, sequence @ ..] =
            *fixed;
        if version != VERSION {
            return Err(EnvelopeError::Version);
        }
        if flags & !(BINARY | EXCEPT | POSITION | FAR) != 0 {
            return Err(EnvelopeError::Flags);
        }
        let typ = if flags & BINARY != 0 { Type::Binary } else { Type::Text };
        let code = u16::from_le_bytes([c0, c1]);
        let (stored, rest) = if flags & POSITION != 0 {
            let (epoch, rest) = take_number(rest)?;
            let (offset, rest) = take_number(rest)?;
            let (time, rest) = take_number(rest)?;
            (Some(Stored { epoch, offset, time }), rest)
        } else {
            (None, rest)
        };
        let (except, rest) = if flags & EXCEPT != 0 {
            let (id, rest) = take_id(rest)?;
            (Some(id), rest)
        } else {
            (None, rest)
        };
        let (kind, payload) = match kind {
            PUBLISH => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Publish { topic }, rest)
            }
            TO_CONNECTION => {
                let (id, rest) = take_id(rest)?;
                (Kind::ToConnection { id }, rest)
            }
            CLOSE_CONNECTION => {
                let (id, rest) = take_id(rest)?;
                (Kind::CloseConnection { id, code, reason: reason(rest)? }, &[][..])
            }
            DOORBELL => match take_topic(topic_len, rest)? {
                (topic, []) => (Kind::Doorbell { topic }, &[][..]),
                _ => return Err(EnvelopeError::Payload),
            },
            PUBLISH_MANY => {
                let (topics, rest) = Topics::take(topic_len, rest)?;
                (Kind::PublishMany { topics }, rest)
            }
            LISTENS => match Topics::take(topic_len, rest)? {
                (topics, []) => (Kind::Listens { topics }, &[][..]),
                _ => return Err(EnvelopeError::Payload),
            },
            WHO_LISTENS if rest.is_empty() => (Kind::WhoListens, rest),
            HANDS_OVER if rest.is_empty() => (Kind::HandsOver, rest),
            UNTOLD if rest.is_empty() => (Kind::Untold, rest),
            WHO_LISTENS | HANDS_OVER | UNTOLD => return Err(EnvelopeError::Payload),
            CLOSE_TOPIC => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::CloseTopic { topic, code, reason: reason(rest)? }, &[][..])
            }
            ASK => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                let (id, rest) = take_id(rest)?;
                match rest.split_first_chunk().ok_or(EnvelopeError::Short)? {
                    (most, []) => {
                        let most = u32::from_le_bytes(*most);
                        (Kind::Ask { topic, id, most }, &[][..])
                    }
                    _ => return Err(EnvelopeError::Payload),
                }
            }
            CHANGES => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Changes { topic }, rest)
            }
            ERRAND => {
                let ([errand, key], rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
                let errand = *Errand::ALL.get(usize::from(*errand)).ok_or(EnvelopeError::Kind)?;
                let (key, rest) =
                    rest.split_at_checked((*key).into()).ok_or(EnvelopeError::Short)?;
                let (id, rest) = take_id(rest)?;
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Errand { topic, errand, key, id }, rest)
            }
            ANSWER => {
                let (id, rest) = take_id(rest)?;
                (Kind::Answer { id }, rest)
            }
            _ => return Err(EnvelopeError::Kind),
        };
        let origin = Origin {
            node: NodeId(u32::from_le_bytes([n0, n1, n2, n3])),
            row: u16::from_le_bytes([r0, r1]),
            generation: u16::from_le_bytes([g0, g1]),
        };
        let sequence = u64::from_le_bytes(sequence);
        let far = flags & FAR != 0;
        Ok(Self { kind, typ, origin, sequence, stored, except, far, payload })
    }
}

fn checked_len(topic: &[u8]) -> Result<u8, TopicError> {
    check_topic(topic)?;
    // Topics have 255 bytes at most.
    Ok(topic.len() as u8)
}

fn reason(bytes: &[u8]) -> Result<&str, EnvelopeError> {
    let reason = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::BadReason)?;
    if reason.len() > MAX_REASON {
        return Err(EnvelopeError::BadReason);
    }
    Ok(reason)
}

fn take_topic(len: u8, bytes: &[u8]) -> Result<(&[u8], &[u8]), EnvelopeError> {
    let (topic, rest) = bytes.split_at_checked(len.into()).ok_or(EnvelopeError::Short)?;
    check_topic(topic)?;
    Ok((topic, rest))
}

fn take_number(bytes: &[u8]) -> Result<(u64, &[u8]), EnvelopeError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(EnvelopeError::Short)?;
    Ok((u64::from_le_bytes(*number), rest))
}

fn take_id(bytes: &[u8]) -> Result<(ConnId, &[u8]), EnvelopeError> {
    let (id, rest) = bytes.split_first_chunk().ok_or(EnvelopeError::Short)?;
    Ok((ConnId::from_bytes(*id), rest))
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
