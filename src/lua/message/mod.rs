//! `require "resty.websocket"`: whole messages, for servers and clients.

mod client;
mod connection;
mod frame_checker;
mod serving;

use super::vm::{module, Api, Shown};

pub const API: Api = Api {
    name: c"message",
    natives: &[client::NATIVES, connection::NATIVES, frame_checker::NATIVES, serving::NATIVES],
    modules: &[
        module!(c"resty.websocket", "websocket.lua", Shown::Always),
        module!(c"resty.websocket.connect", "connect.lua", Shown::Never),
        module!(c"resty.websocket.methods", "methods.lua", Shown::Never),
        module!(c"resty.websocket.raw", "raw.lua", Shown::Never),
        module!(c"resty.websocket.serving", "serving.lua", Shown::Never),
        module!(c"resty.websocket.options", "options.lua", Shown::Never),
    ],
};
