//! Directives, their defaults and how they are merged; variables; content handlers without Lua.

mod answers;
mod arguments;
mod broker;
mod commands;
mod fetch;
mod handlers;
mod limits;
mod location;
mod lookup;
mod main;
mod proxied;
mod proxy;
mod push;
mod start_checks;
mod status;
mod subscribe;
mod time;
mod topics;
mod variables;

pub use commands::{
    create_loc_conf, create_main_conf, merge_loc_conf, provides, request_zone, topic_rules,
    COMMANDS,
};
pub use location::Location;
pub use lookup::location_of;
pub use main::LuaModules;
pub use start_checks::{check_bit_fields, check_ngx_lua, check_running};
pub use time::{heartbeat, limit};
pub use variables::register as register_variables;
