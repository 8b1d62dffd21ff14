//! Brokers: how what is published here reaches the subscribers of other machines. A broker is a
//! state machine without I/O, clock and random numbers: whoever drives it (one worker of a machine)
//! hands over bytes and the time, and does what [`Broker`]'s `poll` asks for. So it is tested without
//! a server, and no broker can block or end a worker.
//!
//! * [`Broker`] (seam.rs): what every broker does; [`Server`]: which of them an address means;
//! * incoming.rs: what is accepted from a broker, which nobody trusts;
//! * outcome.rs: what became of a message for a history, as bytes;
//! * wanted.rs: topics that are to be subscribed, against those that are;
//! * heard_twice.rs: what comes by two ways while one connection takes another's place;
//! * contact.rs: how it stands with one server, whatever it speaks;
//! * queue.rs, backoff.rs: what waits for a broker that is away, and when it is tried again;
//! * lost.rs: why one is given up;
//! * one folder a broker: nothing outside of it knows its name, but the match arms of [`Server`].
//!
//! Adding one is its folder and an arm in each function of [`Server`].

mod address;
mod backoff;
mod contact;
mod heard_twice;
mod incoming;
mod lost;
pub mod nats;
mod outcome;
mod queue;
mod redis;
mod seam;
mod settings;
mod tally;
mod wanted;

pub use address::{Address, ServerError};
pub use heard_twice::HeardTwice;
pub use outcome::{decode_outcome, encode_outcome};
pub use seam::{
    Action, Broker, Keep, Outcome, Page, Peer, Placed, Refused, State, Stored, To, Unkept,
};
pub use settings::{Driver, Login, Secret, Settings, Sign, Signer, Stream};
pub use tally::{Number, Tally};

/// When the connections of a broker are in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Never,
    /// From the first byte on.
    First,
    /// From when `Action::Secure` says on.
    Later,
}

/// A server, and which broker speaks to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// See `redis`.
    Redis(redis::Server),
    /// See `redis::sentinel`.
    Sentinel(redis::sentinel::Server),
    /// See `redis::cluster`.
    Cluster(redis::cluster::Server),
    /// See `nats`.
    Nats(nats::Server),
}

impl Server {
    /// What an address in a configuration means.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let sentinel = |rest, tls| redis::sentinel::Server::parse(rest, tls).map(Self::Sentinel);
        let cluster = |rest, tls| redis::cluster::Server::parse(rest, tls).map(Self::Cluster);
        let nats = |rest, tls| nats::Server::parse(rest, tls).map(Self::Nats);
        match text.split_once("://") {
            Some(("redis+sentinel", rest)) => sentinel(rest, false),
            Some(("rediss+sentinel", rest)) => sentinel(rest, true),
            Some(("redis+cluster", rest)) => cluster(rest, false),
            Some(("rediss+cluster", rest)) => cluster(rest, true),
            Some(("nats", rest)) => nats(rest, false),
            Some(("tls+nats", rest)) => nats(rest, true),
            _ => redis::Server::parse(text).map(Self::Redis),
        }
    }

    /// A broker that talks to it.
    pub fn open(&self, settings: Settings, driver: Driver) -> Box<dyn Broker> {
        match self {
            Self::Redis(server) => Box::new(redis::Redis::new(server.clone(), settings, driver)),
            Self::Sentinel(server) => {
                Box::new(redis::sentinel::Sentinel::new(server.clone(), settings, driver))
            }
            Self::Cluster(server) => {
                Box::new(redis::cluster::Cluster::new(server.clone(), settings, driver))
            }
            Self::Nats(server) => Box::new(nats::cluster::Cluster::new(server, settings, driver)),
        }
    }

    /// Whether its connections are in TLS.
    pub fn uses_tls(&self) -> bool {
        match self {
            Self::Redis(server) => server.tls,
            Self::Sentinel(server) => server.tls,
            Self::Cluster(server) => server.tls,
            Self::Nats(server) => server.tls,
        }
    }

    /// When they are.
    pub fn tls(&self, settings: &Settings) -> Tls {
        match self {
            _ if !self.uses_tls() => Tls::Never,
            Self::Nats(_) if !settings.tls_first => Tls::Later,
            _ => Tls::First,
        }
    }

    /// What is wrong with these settings for such a server: lines that are another broker's.
    pub fn fault(&self, settings: &Settings) -> Option<&'static str> {
        let is_nats = matches!(self, Self::Nats(_));
        let of_nats = settings.stream.is_some()
            || settings.tls_first
            || !matches!(settings.login, Login::Password);
        match is_nats {
            true if !nats::is_prefix(&settings.prefix) => Some("invalid prefix"),
            false if of_nats => Some("lines that are for a NATS server alone"),
            _ => None,
        }
    }

    /// Whether it can keep histories.
    pub fn keeps(&self, settings: &Settings) -> bool {
        !matches!(self, Self::Nats(_)) || settings.stream.is_some()
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redis(server) => server.address.fmt(f),
            Self::Sentinel(server) => write!(f, "{} of {}", server.master, server.sentinels[0]),
            Self::Cluster(server) => write!(f, "cluster of {}", server.seeds[0]),
            Self::Nats(server) => server.addresses[0].fmt(f),
        }
    }
}
