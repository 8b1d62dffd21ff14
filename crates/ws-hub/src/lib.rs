//! What workers need to push messages to each other's connections: who subscribes what, how a
//! message looks between workers, and the shared memory that carries it. Nothing here knows
//! nginx: the caller gives the memory, the wake-ups, the clock and the random numbers.
//!
//! * [`topic`]: the subscribers of this worker;
//! * [`id`], [`envelope`]: a connection's id, and a message between workers as bytes;
//! * [`presence`]: who subscribes a topic, as workers tell each other; [`roll_call`]: who has yet to answer;
//! * [`zone`]: the shared memory, cut into the parts below;
//! * [`ring`]: the messages, written by every worker and read by every worker;
//! * [`target`]: who a message in it is for;
//! * [`directory`]: which workers exist, what they listen for, and whom a publisher must wake;
//! * [`census`]: how many subscribers a topic has in each worker;
//! * [`counters`]: numbers kept for each worker and summed when they are read;
//! * [`samples`], [`highlights`]: for who looks on: the last minutes of some of them, each worker's
//!   largest topics and slowest readers;
//! * [`broker`]: other machines; [`gateway`]: which worker talks to them;
//! * [`history`]: the messages that topics remember, in shared memory of its own.
//!
//! # Use
//! A worker joins ([`Zone::join`]), makes its [`directory::Interest`] and a [`ring::Reader`], reads
//! once, and wakes [`directory::Directory::others`]. From then on:
//!
//! * publish: [`ring::Ring::publish`], [`directory::Directory::wake`], read up to the own message
//!   ([`ring::Reader::read_before`]), and only then own subscribers ([`ring::Reader::pass`]): so
//!   everybody has the ring's order;
//! * woken: empty the wake-up, [`directory::Directory::begin_drain`], then read until
//!   [`ring::Read::Empty`];
//! * first subscriber of a topic in this worker: [`directory::Interest::add`], drain as above,
//!   and only then [`topic::TopicIndex::subscribe`]. So nothing published before the subscription
//!   reaches the new subscriber, and nothing after it is missed;
//! * whenever a topic's number of subscribers in this worker changes: [`census::Census::set`].

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod broker;
pub mod census;
pub mod counters;
pub mod directory;
pub mod envelope;
pub mod gateway;
pub mod highlights;
pub mod history;
pub mod id;
pub mod json;
pub mod memory;
pub mod presence;
pub mod ring;
pub mod roll_call;
pub mod samples;
pub mod since;
pub mod standing;
pub mod target;
pub mod topic;
pub mod zone;

#[cfg(all(test, loom))]
mod loom_tests;

pub use counters::Counter;
pub use envelope::Envelope;
pub use history::History;
pub use id::{ConnId, IdMap, NodeId};
pub use ring::{Read, Ring};
pub use target::{Target, TopicHash};
pub use topic::TopicIndex;
pub use zone::Zone;
