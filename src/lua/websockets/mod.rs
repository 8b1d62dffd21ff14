//! `require "websockets"`: lua-websockets' (libwebsockets') API.

mod natives;

use super::vm::{module, native, Api, Shown};
use crate::conf::LuaModules;

const CHOSEN: Shown = Shown::If(LuaModules::LuaWebsockets);

pub const API: Api = Api {
    name: c"websockets",
    natives: &[
        native!(c"gone", natives::gone),
        native!(c"goodbye", natives::goodbye),
        native!(c"host", natives::host),
        native!(c"interface", natives::interface),
        native!(c"open", natives::open),
        native!(c"refusal", natives::refusal),
        native!(c"request", natives::request),
        native!(c"settings", natives::settings),
        native!(c"slow", natives::slow),
        native!(c"status", natives::status),
        native!(c"write", natives::write),
    ],
    modules: &[
        module!(c"websockets", c"@websockets.lua", "websockets.lua", CHOSEN),
        module!(
            c"websockets.connection",
            c"@websockets/connection.lua",
            "connection.lua",
            Shown::Never
        ),
        module!(c"websockets.methods", c"@websockets/methods.lua", "methods.lua", Shown::Never),
        module!(c"websockets.reader", c"@websockets/reader.lua", "reader.lua", Shown::Never),
    ],
};
