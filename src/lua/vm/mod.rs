//! What every API of src/lua stands on: the door between Lua and Rust, how modules are found and
//! loaded, the VM's memory, the calls by FFI, and what shims share: waiting, tracebacks, the mark of a
//! raw stream, a client's TLS.

mod args;
mod blocks;
pub mod entry;
mod fast;
mod memory;
mod no_request;
mod number;
mod object;
mod parking;
mod preload;
pub mod texts;
mod tls;

pub use memory::install as keep_memory;
pub(super) use preload::{module, native, open_named, Module, Native};
pub use preload::{register, Api, Shown};

pub const API: Api = Api {
    name: c"vm",
    natives: &[
        &[(c"addresses", fast::addresses), (c"pace", memory::raw_pace)],
        parking::NATIVES,
        texts::NATIVES,
        tls::NATIVES,
    ],
    modules: &[
        module!(c"resty.websocket.fast", "fast.lua", Shown::Never),
        module!(c"resty.websocket.wait", "wait.lua", Shown::Never),
        module!(c"resty.websocket.traceback", "traceback.lua", Shown::Never),
        module!(c"resty.websocket.raw_stream", "raw_stream.lua", Shown::Never),
        module!(c"resty.websocket.tls", "tls.lua", Shown::Never),
    ],
};
