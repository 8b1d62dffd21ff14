//! Connections whose bytes a socket carries: the clients' of all APIs, and those of ports opened from
//! Lua. Their natives, and the one loop that carries the bytes; no API of its own.

mod natives;

use super::vm::{module, Api, Shown};

pub const API: Api = Api {
    name: c"carried",
    natives: &[natives::NATIVES],
    modules: &[module!(c"resty.websocket.carry", "carry.lua", Shown::Never)],
};
