//! Brokers: how what is published here reaches the subscribers of other machines. A broker is a
//! state machine without I/O, clock and random numbers: whoever drives it (one worker of a machine)
//! hands over bytes and the time, and does what [`Broker`]'s `poll` asks for. So it is tested without
//! a server, and no broker can block or end a worker.
//!
//! * [`Broker`] (seam.rs): what every broker does; [`Server`]: which of them an address means;
//! * incoming.rs: what is accepted from a broker, which nobody trusts;
//! * outcome.rs: what became of a message for a history, as bytes;
//! * wanted.rs: topics that are to be subscribed, against those that are;
//! * heard_twice.rs: what comes by two ways while one worker takes over from another;
//! * queue.rs, backoff.rs: what waits for a broker that is away, and when it is tried again;
//! * one folder a broker: nothing outside of it knows its name, but the match arms of [`Server`].
//!
//! Adding one is its folder and an arm in each function of [`Server`].

mod address;
mod backoff;
mod heard_twice;
mod incoming;
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
pub use settings::{Driver, Secret, Settings};
pub use tally::{Number, Tally};

/// A server, and which broker speaks to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// See `redis`.
    Redis(redis::Server),
    /// See `redis::sentinel`.
    Sentinel(redis::sentinel::Server),
    /// See `redis::cluster`.
    Cluster(redis::cluster::Server),
}

impl Server {
    /// What an address in a configuration means.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        if let Some((scheme @ ("redis+sentinel" | "rediss+sentinel"), rest)) =
            text.split_once("://")
        {
            let tls = scheme.starts_with("rediss");
            return redis::sentinel::Server::parse(rest, tls).map(Self::Sentinel);
        }
        if let Some((scheme @ ("redis+cluster" | "rediss+cluster"), rest)) = text.split_once("://")
        {
            let tls = scheme.starts_with("rediss");
            return redis::cluster::Server::parse(rest, tls).map(Self::Cluster);
        }
        redis::Server::parse(text).map(Self::Redis)
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
        }
    }

    /// Whether its connections are in TLS.
    pub fn uses_tls(&self) -> bool {
        match self {
            Self::Redis(server) => server.tls,
            Self::Sentinel(server) => server.tls,
            Self::Cluster(server) => server.tls,
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redis(server) => server.address.fmt(f),
            Self::Sentinel(server) => write!(f, "{} of {}", server.master, server.sentinels[0]),
            Self::Cluster(server) => write!(f, "cluster of {}", server.seeds[0]),
        }
    }
}
