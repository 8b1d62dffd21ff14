//! The Lua side: which `require` names exist, the raw functions behind them, and the shims (small
//! .lua files without protocol logic). The only tree that names mlua.

mod check_natives;
mod codec_natives;
mod cosocket_natives;
mod entry;
mod fast;
mod hub_natives;
mod listen_natives;
mod mailbox_natives;
mod message_natives;
mod natives;
mod peer_natives;
mod preload;
mod tarantool_natives;
mod vm_memory;
mod websockets_natives;

pub use preload::register;
pub use vm_memory::install as keep_memory;
