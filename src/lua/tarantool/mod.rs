//! `require "websocket"` and its parts: tarantool/websocket's API.

mod natives;

use super::vm::{module, native, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::Tarantool);

pub const API: Api = Api {
    name: c"tarantool",
    natives: &[
        native!(c"accept_key", natives::accept),
        native!(c"close_read", natives::close_read),
        native!(c"frame_decode", natives::decode),
        native!(c"frame_mask", natives::mask_data),
        native!(c"framed_close", natives::close_framed),
        native!(c"framed_feed", natives::feed),
        native!(c"framed_judge", natives::judge),
        native!(c"framed_lost", natives::lost),
        native!(c"framed_new", natives::new),
        native!(c"framed_next", natives::next),
        native!(c"framed_output", natives::output),
        native!(c"framed_ping", natives::ping),
        native!(c"framed_rules", natives::rules),
        native!(c"framed_send", natives::send),
        native!(c"framed_state", natives::state),
        native!(c"http_request", natives::http_request),
        native!(c"http_response", natives::http_response),
        native!(c"http_upgrade", natives::http_upgrade),
        native!(c"utf8_check", natives::utf8),
    ],
    modules: &[
        module!(c"websocket", c"@websocket.lua", "websocket.lua", CHOSEN),
        module!(c"websocket.frame", c"@websocket/frame.lua", "frame.lua", CHOSEN),
        module!(c"websocket.handshake", c"@websocket/handshake.lua", "handshake.lua", CHOSEN),
        module!(c"websocket.opening", c"@websocket/opening.lua", "opening.lua", Shown::Never),
        module!(c"websocket.peer", c"@websocket/peer.lua", "peer.lua", Shown::Never),
        module!(c"websocket.socket", c"@websocket/socket.lua", "socket.lua", Shown::Never),
        module!(c"websocket.ssl", c"@websocket/ssl.lua", "ssl.lua", CHOSEN),
        module!(
            c"websocket.utf8_validator",
            c"@websocket/utf8_validator.lua",
            "utf8_validator.lua",
            CHOSEN
        ),
    ],
};
