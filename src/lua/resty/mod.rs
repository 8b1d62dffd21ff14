//! `require "resty.websocket.server"`, `.client` and `.protocol`: the drop-in for lua-resty-websocket, and
//! `.proxy`, for lua-resty-websocket-proxy. The client and `protocol` do their I/O on cosockets.

mod codec;
mod cosocket;
pub mod opening;
pub mod server;

use super::vm::{module, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::Resty);

pub const API: Api = Api {
    name: c"resty",
    natives: &[codec::NATIVES, cosocket::NATIVES, opening::NATIVES, server::NATIVES],
    modules: &[
        module!(c"resty.websocket.client", "client.lua", CHOSEN),
        module!(c"resty.websocket.object", "object.lua", Shown::Never),
        module!(c"resty.websocket.opening", "opening.lua", Shown::Never),
        module!(c"resty.websocket.protocol", "protocol.lua", CHOSEN),
        module!(c"resty.websocket.proxy", "proxy.lua", CHOSEN),
        module!(c"resty.websocket.server", "server.lua", CHOSEN),
    ],
};
