//! What every API of src/lua stands on: the door between Lua and Rust, how modules are found and
//! loaded, the VM's memory, the calls by FFI, and what shims share: waiting, the mark of a raw stream.

pub mod entry;
mod fast;
mod memory;
mod preload;

pub use memory::install as keep_memory;
pub(super) use preload::{module, native};
pub(super) use preload::{open_named, Module};
pub use preload::{register, Api, Shown};

pub const API: Api = Api {
    name: c"vm",
    natives: &[(c"addresses", fast::addresses), (c"pace", memory::raw_pace)],
    modules: &[
        module!(c"resty.websocket.fast", c"@resty/websocket/fast.lua", "fast.lua", Shown::Never),
        module!(c"resty.websocket.wait", c"@resty/websocket/wait.lua", "wait.lua", Shown::Never),
        module!(
            c"resty.websocket.raw_stream",
            c"@resty/websocket/raw_stream.lua",
            "raw_stream.lua",
            Shown::Never
        ),
    ],
};
