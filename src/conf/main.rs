//! What the directives of the whole http block say: the zones, topics' rules, which Lua modules there are.

use std::rc::Rc;

use ws_hub::history::Rule;

use super::arguments::ArgumentError;
use super::location::{Location, UNSET};
use crate::hub::Broker;

/// Directives of the whole http block. In the configuration's pool, and dropped with it.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Main {
    /// `websocket_zone`, bytes.
    pub zone: usize,
    /// `websocket_history_zone`, bytes.
    pub history_zone: usize,
    /// `websocket_topic`, each.
    pub topics: Vec<Rule>,
    /// `websocket_broker`, each.
    pub brokers: Vec<Rc<Broker>>,
    /// `websocket_lua_modules`: a bit for each `LuaModules`.
    pub lua_modules: usize,
    /// What stands in the http block itself, once all has been read; null before. For what runs
    /// outside of any server: init_worker_by_lua and its timers.
    pub top: *const Location,
}

/// A family of Lua modules, named after the library that brought these names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LuaModules {
    /// lua-resty-websocket's three.
    Resty,
    /// tarantool/websocket's `websocket` and what is below it.
    Tarantool,
    /// lua-websockets' `websockets`, the binding of libwebsockets.
    LuaWebsockets,
}

impl LuaModules {
    const ALL: [(&'static [u8], LuaModules); 3] = [
        (b"resty", LuaModules::Resty),
        (b"tarantool", LuaModules::Tarantool),
        (b"lua-websockets", LuaModules::LuaWebsockets),
    ];

    const fn bit(self) -> usize {
        1 << self as usize
    }
}
impl Main {
    /// Nothing given.
    pub fn unset() -> Main {
        Main {
            zone: UNSET,
            history_zone: UNSET,
            topics: Vec::new(),
            brokers: Vec::new(),
            lua_modules: UNSET,
            top: std::ptr::null(),
        }
    }

    /// Whether `require` is to find the modules of this family; all where nothing was given.
    pub fn provides(&self, family: LuaModules) -> bool {
        self.lua_modules & family.bit() != 0
    }

    /// The history zone's size, the default where none was given.
    pub fn history_zone_size(&self) -> usize {
        match self.history_zone {
            UNSET => 16 * 1024 * 1024,
            size => size,
        }
    }

    /// The zone's size, the default where none was given.
    pub fn zone_size(&self) -> usize {
        if self.zone == UNSET {
            8 * 1024 * 1024
        } else {
            self.zone
        }
    }

    /// Reads the arguments of `websocket_lua_modules`.
    pub fn set_lua_modules(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.lua_modules != UNSET {
            return Err(ArgumentError::Duplicate);
        }
        let fault = |what: &str, arg: &[u8]| {
            ArgumentError::Text(format!("{what} value \"{}\"", String::from_utf8_lossy(arg)))
        };
        let mut chosen = 0;
        for arg in args {
            let known = LuaModules::ALL.iter().find(|(name, _)| name == arg);
            chosen |= match known {
                Some((_, family)) if chosen & family.bit() != 0 => {
                    return Err(fault("duplicate", arg));
                }
                Some((_, family)) => family.bit(),
                None if *arg == b"none" && args.len() == 1 => 0,
                None => return Err(fault("invalid", arg)),
            };
        }
        self.lua_modules = chosen;
        Ok(())
    }
}
