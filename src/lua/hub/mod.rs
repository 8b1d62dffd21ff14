//! The hub: publish, subscribe, send by id. `resty.websocket` shows it, and `websockets` broadcasts
//! by it.

mod mailbox;
mod natives;

use super::vm::{module, native, Api, Shown};

pub const API: Api = Api {
    name: c"hub",
    natives: &[
        native!(c"close", natives::close),
        native!(c"close_topic", natives::close_topic),
        native!(c"count", natives::count),
        native!(c"forget", natives::forget),
        native!(c"history", natives::history),
        native!(c"mailbox_open", mailbox::open),
        native!(c"mailbox_take", mailbox::take),
        native!(c"mailbox_wait", mailbox::wait),
        native!(c"mailbox_wake", mailbox::wake),
        native!(c"metric", natives::metric),
        native!(c"publish", natives::publish),
        native!(c"register", natives::register),
        native!(c"send", natives::send),
        native!(c"subscribe", natives::subscribe),
        native!(c"take_gap", natives::take_gap),
        native!(c"topics", natives::topics),
        native!(c"unsubscribe", natives::unsubscribe),
    ],
    modules: &[module!(
        c"resty.websocket.hub",
        c"@resty/websocket/hub.lua",
        "hub.lua",
        Shown::Never
    )],
};
