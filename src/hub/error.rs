//! Why a call of the hub did nothing.

use ws_hub::broker::Unkept;
use ws_hub::envelope::EnvelopeError;
use ws_hub::history::{Gap, HistoryError};
use ws_hub::topic::TopicError;

/// What stops a hub call. The texts are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not in a worker.
    NoWorker,
    /// This worker has no row in the zone.
    NoRow,
    /// The topic's name.
    Topic(TopicError),
    /// The topic's name would not go into JSON.
    TopicUtf8,
    /// Above what the zone carries.
    TooLarge,
    /// The zone was overrun while publishing.
    Overrun,
    /// There is no memory for the message.
    NoMemory,
    /// No connection has this id.
    NoConnection,
    /// Not an id at all.
    BadId,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The connection has ended.
    Closed,
    /// The connection has as many subscriptions as it may have.
    TooManySubscriptions,
    /// The topic has no history.
    NoHistory,
    /// The members of the topic are not told.
    NoPresence,
    /// What a subscriber says of itself is not text.
    InfoUtf8,
    /// Or too much.
    InfoTooLong,
    /// What stops the history.
    History(HistoryError),
    /// What was asked for is not there any more.
    Gap(Gap),
    /// Not a cursor of this topic.
    Cursor,
    /// The broker that keeps the history is away, and has not got the message.
    BrokerUnavailable,
    /// It has not answered: it may have the message.
    BrokerTimeout,
    /// It has refused the message.
    BrokerRefused,
    /// Too much waits for it.
    BrokerFull,
    /// A message that cannot be made.
    Envelope(EnvelopeError),
    /// An idempotency key for a topic without a history.
    KeyOnPlain,
    /// A scope for a topic with a history.
    ScopeOnHistory,
    /// A topic with a history among several.
    KeptAmongMany,
}

impl From<Unkept> for Error {
    fn from(why: Unkept) -> Error {
        match why {
            Unkept::Unavailable => Error::BrokerUnavailable,
            Unkept::Timeout => Error::BrokerTimeout,
            Unkept::Refused => Error::BrokerRefused,
            Unkept::Full => Error::BrokerFull,
        }
    }
}

impl Error {
    /// Whether the message is larger than may ever be.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Error::TooLarge | Error::History(HistoryError::TooLarge))
    }

    /// Whether the caller has done what never works with this topic.
    pub fn is_misuse(&self) -> bool {
        use Error::*;
        matches!(
            self,
            KeyOnPlain | ScopeOnHistory | KeptAmongMany | TopicUtf8 | InfoUtf8 | InfoTooLong
        )
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::NoWorker => "no worker process",
            Error::NoRow => "more workers than the zone has rows",
            Error::Topic(err) => return err.fmt(f),
            Error::TopicUtf8 => "topic is not utf-8, which json needs",
            Error::TooLarge => "message too large for the zone",
            Error::Overrun => "zone overrun while publishing",
            Error::NoMemory => "no memory",
            Error::NoConnection => "no such connection",
            Error::BadId => "invalid connection id",
            Error::InvalidUtf8 => "invalid utf-8",
            Error::Closed => "closed",
            Error::TooManySubscriptions => "too many subscriptions",
            Error::NoHistory => "no history for this topic",
            Error::NoPresence => "no presence for this topic",
            Error::InfoUtf8 => "info is not utf-8",
            Error::InfoTooLong => "info is longer than 1024 bytes",
            Error::History(err) => return err.fmt(f),
            Error::Gap(Gap::Epoch) => "epoch",
            Error::Gap(Gap::Trimmed) => "trimmed",
            Error::Cursor => "cursor",
            Error::BrokerUnavailable => "broker unavailable",
            Error::BrokerTimeout => "broker timeout",
            Error::BrokerRefused => "refused by the broker",
            Error::BrokerFull => "broker queue is full",
            Error::Envelope(err) => return err.fmt(f),
            Error::KeyOnPlain => "an idempotency key needs a topic with a history",
            Error::ScopeOnHistory => "a topic with a history has no other scope",
            Error::KeptAmongMany => "a topic with a history is published to alone",
        })
    }
}

impl std::error::Error for Error {}
