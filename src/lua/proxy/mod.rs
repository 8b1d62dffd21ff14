//! `websocket.proxy` of `resty.websocket`: a proxy whose messages a handler may look at.

mod asking;
mod natives;
mod refusal;

use super::vm::{module, Api, Shown};

pub const API: Api = Api {
    name: c"proxy",
    natives: &[asking::NATIVES, natives::NATIVES, refusal::NATIVES],
    modules: &[
        module!(c"resty.websocket.leaving", "leaving.lua", Shown::Never),
        module!(c"resty.websocket.refusal", "refusal.lua", Shown::Never),
        module!(c"resty.websocket.relay", "relay.lua", Shown::Never),
    ],
};
