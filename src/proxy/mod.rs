//! The inspecting proxy: a client's session and a connection to an upstream, whose messages go from one
//! to the other natively. `dial` asks the upstream and lets the client in, `pair` carries the messages
//! and what ends either side, `looks` keeps one of each side for a handler, to which `handled` shows
//! it, `hops` says which headers go on, `refusal` what of an answer in HTTP does.

mod dial;
mod handled;
mod hops;
mod looks;
mod pair;
mod refusal;

pub use dial::{ask, Wanted};
pub use handled::{join, Held};
pub use hops::Headers;
pub use looks::{Looks, Side, What};
pub use pair::{Limits, Pair};
pub use refusal::{is_theirs, Refusal};
