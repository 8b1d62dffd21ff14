//! Connections above nginx and below Lua: what `ws-conn` holds, with its place in nginx's events and the
//! light threads that wait. Safe code only; the `ngx` folder carries every pointer.

mod alone;
mod begin;
mod callbacks;
mod carried;
mod driver;
mod events;
mod frames;
mod inbox;
mod messages;
mod offer;
mod options;
mod output;
mod partner;
mod passing;
mod pulled;
pub mod random;
mod served;
mod server;
pub mod stats;
mod stream;
mod timers;
mod waiting;
mod worker;

pub use callbacks::{Callbacks, Event, Runner};
pub use carried::Carried;
pub use driver::Driver;
pub use frames::Missed;
pub use inbox::Want;
pub use messages::{Delivery, NoMessage, Unclosed};
pub use offer::{offer_frame, Offered};
pub use options::{Options, ShutdownClose, SlowConsumer, NEVER};
pub use partner::Partner;
pub use pulled::Past;
pub use server::{Each, Session, Watch};
pub use stream::{Direction, Got, Stream};
pub use worker::{recycle, Worker};

/// What a connection takes of ours, in bytes and at most, beside what it holds while it is used: a new
/// field has a reason. bench/RESULTS.md shows these lines.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Session>() <= 224);
    assert!(size_of::<server::State>() <= 608);
    assert!(size_of::<ws_conn::Connection>() <= 544);
    assert!(size_of::<Carried>() <= 552);
    assert!(size_of::<Stream>() <= 456);
};
