//! What every broker does, and what it asks for.

use bytes::Bytes;

use super::address::Address;
use super::tally::Tally;
use crate::id::NodeId;

/// A state machine that reaches other machines through a server.
///
/// Times are milliseconds of a clock that never goes back. After every call of any of these, the
/// driver polls until there is nothing more to do, and calls `timer` when `due` says.
pub trait Broker {
    /// Begins to connect. To be called once.
    fn start(&mut self, now: u64);

    /// A topic has subscribers on this machine now, or has none any more. May be said again.
    fn want(&mut self, topic: &[u8], wanted: bool);

    /// Whether that was said last.
    fn wants(&self, topic: &[u8]) -> bool;

    /// Those topics for which `keep` says no are wanted no more.
    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool);

    /// Hands over an encoded [`crate::Envelope`]. It leaves at once or, while the broker is away,
    /// within the time that messages may wait. Nobody hears whether it arrived.
    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused>;

    /// The connection asked for is there.
    fn connected(&mut self, peer: Peer, now: u64);

    /// Bytes have come.
    fn received(&mut self, peer: Peer, bytes: &[u8], now: u64);

    /// The connection is gone, or was not to be had.
    fn closed(&mut self, peer: Peer, why: &str, now: u64);

    /// The time that `due` said has come.
    fn timer(&mut self, now: u64);

    /// When `timer` is to be called next.
    fn due(&self) -> Option<u64>;

    /// The next thing to be done.
    fn poll(&mut self) -> Option<Action>;

    /// What it has counted; the driver takes totals away.
    fn tally(&mut self) -> &mut Tally;
}

/// One of a broker's connections. A broker that talks to several servers has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(
    /// Its number among them.
    pub u16,
);

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// To every machine that has subscribers of the topic.
    Topic(&'a [u8]),
    /// To one machine.
    Node(NodeId),
    /// To every machine.
    All,
}

/// What the driver is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A connection, instead of the one the peer had.
    Connect {
        /// Whose.
        peer: Peer,
        /// Where to; a name is to be looked up each time.
        to: Address,
    },
    /// The peer's connection is of no use any more. Nothing is heard of it again.
    Close {
        /// Whose.
        peer: Peer,
    },
    /// These bytes are to leave, behind those asked for before.
    Send {
        /// Through whose connection.
        peer: Peer,
        /// What.
        bytes: Vec<u8>,
    },
    /// A message from another machine: an [`crate::Envelope`] that `incoming` has found good.
    Deliver(Bytes),
    /// Another machine lives.
    Heard(NodeId),
    /// How it stands with the broker, for who looks on.
    State(State),
}

/// How it stands with a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Every topic wanted is subscribed.
    Up {
        /// So many are.
        topics: usize,
        /// For so many milliseconds it was not; None the first time.
        away: Option<u64>,
    },
    /// It is away.
    Down {
        /// Why, without secrets.
        why: String,
        /// It is tried again in so many milliseconds.
        again_in: u64,
    },
    /// It does not let this topic be subscribed. The others are.
    Denied {
        /// Which.
        topic: Vec<u8>,
        /// What it said.
        why: String,
    },
}

/// Why a message was not taken. It has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// What waits for the broker fills the queue.
    Full,
    /// Larger than the queue.
    TooLarge,
}
