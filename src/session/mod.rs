//! One connection's whole state above nginx and below Lua: codec, stash, outbox and the light
//! threads that wait. Safe code only; the `ngx` folder carries every pointer.

mod intake;
mod io_error;
mod outbox;
pub mod random;
mod server;
mod stash;
pub mod stats;

pub use intake::RecvError;
pub use io_error::IoError;
pub use server::{Drained, Options, Session, Taken};
