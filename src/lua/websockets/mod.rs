//! `require "websockets"`: lua-websockets' (libwebsockets') API.

mod natives;

use super::vm::{module, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::LuaWebsockets);

pub const API: Api = Api {
    name: c"websockets",
    natives: &[natives::NATIVES],
    modules: &[
        module!(c"websockets", "websockets.lua", CHOSEN),
        module!(c"websockets.connection", "connection.lua", Shown::Never),
        module!(c"websockets.methods", "methods.lua", Shown::Never),
        module!(c"websockets.reader", "reader.lua", Shown::Never),
        module!(c"websockets.running", "running.lua", Shown::Never),
        module!(c"websockets.service", "service.lua", Shown::Never),
    ],
};
