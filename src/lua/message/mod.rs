//! `require "resty.websocket"`: whole messages, for servers and clients.

mod client;
mod connection;
mod frame_checker;

use super::vm::{module, native, Api, Shown};

pub const API: Api = Api {
    name: c"message",
    natives: &[
        native!(c"buffered", connection::buffered),
        native!(c"check_frame", frame_checker::check_frame),
        native!(c"check_new", frame_checker::check_new),
        native!(c"close", connection::close),
        native!(c"close_fault", connection::close_fault),
        native!(c"close_info", connection::close_info),
        native!(c"control", connection::control),
        native!(c"new_key", client::new_key),
        native!(c"open", connection::open),
        native!(c"opening_request", client::request),
        native!(c"peer_beat", client::beat),
        native!(c"peer_between", client::between),
        native!(c"peer_close", client::close),
        native!(c"peer_feed", client::feed),
        native!(c"peer_linger", client::linger),
        native!(c"peer_lost", client::lost),
        native!(c"peer_new", client::new),
        native!(c"peer_open", client::open),
        native!(c"peer_output", client::output),
        native!(c"peer_take", client::take),
        native!(c"receive", connection::receive),
        native!(c"send", connection::send),
        native!(c"shutdown", connection::shutdown),
        native!(c"state", connection::state),
        native!(c"stream_finish", connection::stream_finish),
        native!(c"stream_open", connection::stream_open),
        native!(c"stream_write", connection::stream_write),
        native!(c"switch", connection::switch),
    ],
    modules: &[
        module!(c"resty.websocket", c"@resty/websocket.lua", "websocket.lua", Shown::Always),
        module!(
            c"resty.websocket.connect",
            c"@resty/websocket/connect.lua",
            "connect.lua",
            Shown::Never
        ),
        module!(
            c"resty.websocket.methods",
            c"@resty/websocket/methods.lua",
            "methods.lua",
            Shown::Never
        ),
        module!(
            c"resty.websocket.options",
            c"@resty/websocket/options.lua",
            "options.lua",
            Shown::Never
        ),
    ],
};
