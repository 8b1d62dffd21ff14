//! Publish, subscribe and send-by-id, between the connections of all workers; what topics remember;
//! numbers. Called by Lua's natives, by content handlers and by nginx's process hooks; never calls
//! Lua.
//!
//! * worker.rs: this worker's part, from its start to its end, and who is known to it;
//! * publish.rs, subscribe.rs: the calls; bus.rs: the way to the other workers; local.rs: the fan-out;
//! * history.rs, follow.rs, resume.rs: what topics remember, and whoever has not had it yet;
//! * far.rs, govern.rs, reach.rs: what every worker knows of other machines, and how far a topic goes;
//! * gateway.rs, link.rs, copies.rs: the worker that talks to brokers; handover.rs: and the next one;
//! * pending.rs, errand.rs: who waits for it;
//! * presence.rs, members.rs: who is there, for who asks and for subscribers in JSON format;
//!   relay.rs: and for other machines; questions.rs: what of that is under way;
//! * mailbox.rs: a subscriber that is no connection; numbers.rs, watch.rs: what who looks on is shown.

mod bus;
mod copies;
mod errand;
mod error;
mod far;
mod follow;
mod gateway;
mod govern;
mod handover;
mod history;
mod link;
mod local;
mod mailbox;
mod members;
mod numbers;
mod pending;
mod presence;
mod publish;
mod questions;
mod reach;
mod relay;
mod resume;
mod subscribe;
mod watch;
mod worker;

pub use bus::smallest_zone;
pub use errand::Errand;
pub use error::Error;
pub use far::MOST_BROKERS;
pub use history::smallest_zone as smallest_history_zone;
pub use link::Configured as Broker;
pub use local::OnGap;
pub use mailbox::Mailbox;
pub use numbers::{brokers, connections, sum, workers, Reached};
pub use pending::{fetch, forget_afar, Pending};
pub use presence::{ask, ask_how_many, Answer, Roll};
pub use publish::{
    close, close_topic, publish, publish_confirmed, publish_from_client, publish_many, send,
    Publish, Receipt, Scope,
};
pub use reach::{Reach, JOIN_LEAVE, PRESENCE};
pub use resume::Wanted;
pub use subscribe::{
    check_info, forget, history, subscribe, subscribers, take_gap, topics, unsubscribe, Found,
    History,
};
pub use watch::{highlights, samples};
pub use worker::{open_mailbox, prepare, register, start, stop};
