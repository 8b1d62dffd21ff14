//! `require "resty.websocket.listen"`: ports opened from Lua, for the APIs that open ports by
//! themselves.

mod natives;

use super::vm::{module, Api, Shown};

pub const API: Api = Api {
    name: c"listen",
    natives: &[natives::NATIVES],
    modules: &[module!(c"resty.websocket.listen", "listen.lua", Shown::Always)],
};
