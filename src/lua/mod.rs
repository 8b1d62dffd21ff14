//! The Lua side: a folder for each API that `require` knows, with its shims (small .lua files without
//! protocol logic) beside the natives (safe Rust bodies behind raw C functions) they call. The only
//! tree that names mlua.

mod carried;
mod hub;
mod listen;
mod message;
mod proxy;
mod resty;
mod tarantool;
mod vm;
mod websockets;

pub use vm::{keep_memory, register};

/// Every API, for `register`.
pub static APIS: &[vm::Api] = &[
    vm::API,
    carried::API,
    resty::API,
    message::API,
    proxy::API,
    hub::API,
    listen::API,
    tarantool::API,
    websockets::API,
];
