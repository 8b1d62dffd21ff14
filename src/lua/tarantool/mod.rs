//! `require "websocket"` and its parts: tarantool/websocket's API.

mod natives;

use super::vm::{module, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::Tarantool);

pub const API: Api = Api {
    name: c"tarantool",
    natives: &[natives::NATIVES],
    modules: &[
        module!(c"websocket", "websocket.lua", CHOSEN),
        module!(c"websocket.frame", "frame.lua", CHOSEN),
        module!(c"websocket.handshake", "handshake.lua", CHOSEN),
        module!(c"websocket.listening", "listening.lua", Shown::Never),
        module!(c"websocket.opening", "opening.lua", Shown::Never),
        module!(c"websocket.peer", "peer.lua", Shown::Never),
        module!(c"websocket.socket", "socket.lua", Shown::Never),
        module!(c"websocket.ssl", "ssl.lua", CHOSEN),
        module!(c"websocket.utf8_validator", "utf8_validator.lua", CHOSEN),
    ],
};
