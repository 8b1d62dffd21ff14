//! Connections above nginx and below Lua: what `ws-conn` holds, with its place in nginx's events and the
//! light threads that wait. Safe code only; the `ngx` folder carries every pointer.

mod carried;
mod frames;
mod inbox;
mod io;
mod large_body;
mod messages;
mod offer;
pub mod random;
mod server;
pub mod stats;
mod stream;
mod worker;

pub use carried::Carried;
pub use frames::Missed;
pub use inbox::Want;
pub use large_body::LargeBody;
pub use messages::{Delivery, Each, NoMessage, Unclosed};
pub use offer::{offer_frame, Offered};
pub use server::{broken_rule, Options, Session, ShutdownClose, SlowConsumer, Watch, NEVER};
pub use stream::{Got, Side, Stream};
pub use worker::{recycle, Worker};
