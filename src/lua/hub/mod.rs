//! The hub: publish, subscribe, send by id. `resty.websocket` shows it, and `websockets` broadcasts
//! by it.

mod errand;
mod mailbox;
mod natives;
mod presence;

use super::vm::{module, Api, Shown};

pub const API: Api = Api {
    name: c"hub",
    natives: &[errand::NATIVES, mailbox::NATIVES, natives::NATIVES, presence::NATIVES],
    modules: &[module!(c"resty.websocket.hub", "hub.lua", Shown::Never)],
};
