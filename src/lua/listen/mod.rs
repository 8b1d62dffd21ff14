//! `require "resty.websocket.listen"`: ports opened from Lua, for the APIs that open ports by
//! themselves.

mod natives;

use super::vm::{module, native, Api, Shown};

pub const API: Api = Api {
    name: c"listen",
    natives: &[
        native!(c"accept", natives::accept),
        native!(c"address", natives::address),
        native!(c"close", natives::close),
        native!(c"fd", natives::fd),
        native!(c"is_open", natives::is_open),
        native!(c"open", natives::open),
        native!(c"socket_bind", natives::bind),
        native!(c"socket_close", natives::stream_close),
        native!(c"socket_drain", natives::drain),
        native!(c"socket_fd", natives::stream_fd),
        native!(c"socket_name", natives::stream_name),
        native!(c"socket_peer", natives::stream_peer),
        native!(c"socket_readable", natives::readable),
        native!(c"socket_receive", natives::receive),
        native!(c"socket_send", natives::send),
        native!(c"socket_shutdown", natives::shutdown),
        native!(c"socket_state", natives::stream_state),
        native!(c"socket_timeouts", natives::timeouts),
        native!(c"tell_end", natives::tell_end),
        native!(c"waiting", natives::waiting),
    ],
    modules: &[module!(
        c"resty.websocket.listen",
        c"@resty/websocket/listen.lua",
        "listen.lua",
        Shown::Always
    )],
};
