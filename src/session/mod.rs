//! One connection's whole state above nginx and below Lua: codec, stash, outbox and the light
//! threads that wait. Safe code only; the `ngx` folder carries every pointer.

pub mod dialogue;
mod framed;
mod frames;
mod heartbeat;
mod inbox;
mod intake;
mod io_error;
mod large_body;
mod messages;
mod offer;
mod outbox;
mod outgoing;
mod peer;
pub mod random;
mod scratch;
mod server;
mod stash;
pub mod stats;
mod stream;

pub use framed::{check_frame, frame_check, Fault, Framed, Over};
pub use frames::{Sending, Taken};
pub use heartbeat::NEVER;
pub use inbox::Want;
pub use intake::RecvError;
pub use io_error::IoError;
pub use large_body::LargeBody;
pub use messages::{broken_rule, Each, Phase, Received};
pub use offer::{offer_frame, Offered};
pub use outbox::Outbox;
pub use outgoing::{Delivery, Outgoing, SlowConsumer};
pub use peer::{Peer, PeerOptions};
pub use scratch::recycle;
pub use server::{Closing, Drained, Options, Session, ShutdownClose, Watch, MAX_FRAGMENTS};
pub use stream::{Await, Got, Side, Stream};
