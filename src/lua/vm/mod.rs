//! What every API of src/lua stands on: the door between Lua and Rust, how modules are found and
//! loaded, the VM's memory, the calls by FFI, and what shims share: waiting, the mark of a raw stream,
//! a client's TLS.

pub mod entry;
mod fast;
mod memory;
mod no_request;
mod number;
mod preload;
mod tls;

pub use memory::install as keep_memory;
pub(super) use preload::{module, native};
pub(super) use preload::{open_named, Module};
pub use preload::{register, Api, Shown};

pub const API: Api = Api {
    name: c"vm",
    natives: &[
        (c"addresses", fast::addresses),
        native!(c"certificate_is_for", tls::certificate_is_for),
        native!(c"is_address", tls::is_address),
        (c"pace", memory::raw_pace),
    ],
    modules: &[
        module!(c"resty.websocket.fast", c"@resty/websocket/fast.lua", "fast.lua", Shown::Never),
        module!(c"resty.websocket.wait", c"@resty/websocket/wait.lua", "wait.lua", Shown::Never),
        module!(
            c"resty.websocket.raw_stream",
            c"@resty/websocket/raw_stream.lua",
            "raw_stream.lua",
            Shown::Never
        ),
        module!(c"resty.websocket.tls", c"@resty/websocket/tls.lua", "tls.lua", Shown::Never),
    ],
};
