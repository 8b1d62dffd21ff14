//! What every broker does, and what it asks for.

use bytes::Bytes;

use super::address::Address;
use super::tally::Tally;
use crate::history::{Limits, Position};
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

    /// A topic that has a history at the broker is to be followed: as `want`, and each time that the
    /// broker has acknowledged it `Action::Follows` says so. What comes then is `Action::Stored`.
    fn follow(&mut self, topic: &[u8]);

    /// Hands over a message for a history, to be stored and sent in one step. What became of it is
    /// said by `Action::Kept`, unless its ticket is 0.
    fn keep(&mut self, keep: &Keep<'_>, now: u64);

    /// Asks for what a followed topic's history has after a position, or its newest messages.
    /// `Action::Page` answers, unless the connection ends before: then the topic is acknowledged
    /// anew.
    fn read(&mut self, topic: &[u8], since: Position, most: u32);

    /// Drops a history, at the broker and for everybody. `Action::Kept` answers.
    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64);

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

    /// Whether every topic that is wanted is subscribed.
    fn is_level(&self) -> bool;

    /// Whether nothing waits, and all that left has been answered.
    fn is_idle(&self) -> bool;

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

/// A message for a history.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a> {
    /// Whose history.
    pub topic: &'a [u8],
    /// An encoded [`crate::Envelope`].
    pub message: &'a [u8],
    /// Who uses it again within some minutes stores nothing.
    pub key: Option<&'a [u8]>,
    /// What is kept.
    pub limits: Limits,
    /// By what the driver knows it.
    pub ticket: u64,
}

/// What became of a message for a history.
pub type Outcome = Result<Placed, Unkept>;

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place.
    pub at: Position,
    /// It was there before.
    pub repeated: bool,
}

/// Why a message is not in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// The broker was away for too long: it is surely not there.
    Unavailable,
    /// The broker has not answered: it may be there.
    Timeout,
    /// The broker has refused it.
    Refused,
    /// There was no room for it.
    Full,
}

/// A piece of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its end when it was read. [`Position::NOWHERE`]: there is none.
    pub top: Position,
    /// The offset before the first message.
    pub after: u64,
    /// The messages, with none missing between them.
    pub messages: Vec<Stored>,
    /// There are more after the last one.
    pub more: bool,
}

/// A message of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its offset.
    pub offset: u64,
    /// The offset of the message before it. At some brokers there are gaps between offsets.
    pub before: u64,
    /// When it was stored, in milliseconds since 1970; 0: the broker does not say, so just now.
    pub time: u64,
    /// An [`crate::Envelope`] that `incoming` has found good.
    pub bytes: Bytes,
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
    /// The peer's connection is to go on in TLS; `Broker::connected` says when it is.
    Secure {
        /// Whose.
        peer: Peer,
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
    /// A followed topic's newest message, this machine's own ones too.
    Stored {
        /// Whose.
        topic: Vec<u8>,
        /// In which epoch.
        epoch: u64,
        /// What, and where.
        message: Stored,
    },
    /// The broker has acknowledged that this topic is followed: what comes from now on is told. What
    /// came before is to be read.
    Follows(Vec<u8>),
    /// What `read` asked for; none: it was refused.
    Page {
        /// Whose.
        topic: Vec<u8>,
        /// What.
        page: Option<Page>,
    },
    /// This topic is followed no more, until `Follows` says so again. `State::Down` says it of all.
    Lapsed(Vec<u8>),
    /// A history was dropped by somebody: what comes next follows on this position.
    Dropped {
        /// Whose.
        topic: Vec<u8>,
        /// Where.
        at: Position,
    },
    /// What became of a message for a history.
    Kept {
        /// That of the message.
        ticket: u64,
        /// What.
        outcome: Outcome,
    },
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
    /// A part of it is away, or it cannot do anything now. What is followed at the rest of it is
    /// followed still.
    Impaired {
        /// Why, without secrets.
        why: String,
        /// It is tried again in so many milliseconds.
        again_in: u64,
    },
    /// It is there, and something is wrong with it.
    Faulty {
        /// What, without secrets.
        why: String,
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
