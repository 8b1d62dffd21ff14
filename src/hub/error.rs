//! Why a call of the hub did nothing.

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
    /// Above what the zone carries.
    TooLarge,
    /// The zone was overrun while publishing.
    Overrun,
    /// No connection has this id.
    NoConnection,
    /// Not an id at all.
    BadId,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The connection has ended.
    Closed,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::NoWorker => "no worker process",
            Error::NoRow => "more workers than the zone has rows",
            Error::Topic(err) => return err.fmt(f),
            Error::TooLarge => "message too large for the zone",
            Error::Overrun => "zone overrun while publishing",
            Error::NoConnection => "no such connection",
            Error::BadId => "invalid connection id",
            Error::InvalidUtf8 => "invalid utf-8",
            Error::Closed => "closed",
        })
    }
}

impl std::error::Error for Error {}
