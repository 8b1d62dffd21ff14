//! `require "resty.websocket.server"`, `.client` and `.protocol`: the drop-in for lua-resty-websocket. The
//! client and `protocol` do their I/O on cosockets.

mod codec;
mod cosocket;
pub mod opening;
pub mod server;

use super::vm::{module, native, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::Resty);

pub const API: Api = Api {
    name: c"resty",
    natives: &[
        native!(c"build_frame", codec::build_frame),
        native!(c"close_payload", server::close_payload),
        native!(c"drain", server::drain),
        native!(c"frame_body", codec::frame_body),
        native!(c"frame_head", codec::frame_head),
        native!(c"frame_len", codec::frame_len),
        native!(c"frame_rest", cosocket::frame_rest),
        native!(c"is_open", server::is_open),
        native!(c"offer_frame", cosocket::offer_frame),
        native!(c"open", server::open),
        native!(c"opening_answer", opening::answer),
        native!(c"opening_new", opening::new),
        native!(c"opening_request", opening::request),
        native!(c"read_ahead", cosocket::read_ahead),
        native!(c"recv", server::recv),
        native!(c"send", server::send),
        native!(c"set_timeouts", server::set_timeouts),
        native!(c"switch", server::switch),
        native!(c"taken_frame", cosocket::taken_frame),
    ],
    modules: &[
        module!(c"resty.websocket.client", c"@resty/websocket/client.lua", "client.lua", CHOSEN),
        module!(
            c"resty.websocket.object",
            c"@resty/websocket/object.lua",
            "object.lua",
            Shown::Never
        ),
        module!(
            c"resty.websocket.opening",
            c"@resty/websocket/opening.lua",
            "opening.lua",
            Shown::Never
        ),
        module!(
            c"resty.websocket.protocol",
            c"@resty/websocket/protocol.lua",
            "protocol.lua",
            CHOSEN
        ),
        module!(c"resty.websocket.server", c"@resty/websocket/server.lua", "server.lua", CHOSEN),
    ],
};
