//! `websocket_topic`: what topics remember and tell. The rules are the http block's; they go into
//! shared memory when the configuration has been loaded, so that all generations follow them.

use std::rc::Rc;

use ws_hub::history::{Limits, Rule};
use ws_hub::topic::MAX_TOPIC;

use super::arguments::ArgumentError;
use super::main::Main;
use super::time::{number, parse_time};
use crate::hub::{Broker, Reach, JOIN_LEAVE, PRESENCE};

/// The longest history.
const MAX_COUNT: u32 = 100_000;
/// How long messages are kept where nothing is said.
const TTL_MS: u64 = 300_000;

impl Main {
    /// Reads the arguments of `websocket_topic`.
    pub fn set_topic(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        let [pattern, options @ ..] = args else {
            return Err(ArgumentError::Text("no arguments".to_string()));
        };
        if pattern.is_empty() || pattern.len() > MAX_TOPIC {
            return Err(ArgumentError::of("invalid topic", pattern));
        }
        if self.topics.iter().any(|rule| *rule.pattern == **pattern) {
            return Err(ArgumentError::of("duplicate topic", pattern));
        }
        let (mut count, mut ttl, mut bytes, mut flags) = (None, None, None, 0);
        let mut reach = Reach::First;
        let mut given: Vec<&[u8]> = Vec::new();
        for option in options {
            let invalid = || ArgumentError::parameter(option);
            let (name, value) = match option.iter().position(|&c| c == b'=') {
                Some(at) => (&option[..at], Some(&option[at + 1..])),
                None => (*option, None),
            };
            if given.contains(&name) {
                return Err(ArgumentError::of("duplicate parameter", option));
            }
            given.push(name);
            match (name, value) {
                (b"history", Some(value)) => {
                    let n = number(value).filter(|n| (1..=MAX_COUNT.into()).contains(n));
                    count = Some(n.ok_or_else(invalid)? as u32);
                }
                (b"ttl", Some(value)) => {
                    ttl = Some(parse_time(value).filter(|&ms| ms > 0).ok_or_else(invalid)?);
                }
                (b"bytes", Some(value)) => {
                    bytes = Some(parse_size(value).filter(|&n| n > 0).ok_or_else(invalid)?);
                }
                (b"presence", None) => flags |= PRESENCE,
                (b"join_leave", None) => flags |= JOIN_LEAVE,
                (b"broker", Some(b"off")) => reach = Reach::Here,
                (b"broker", Some(name)) => {
                    let unknown = || ArgumentError::of("unknown broker", name);
                    reach = Reach::Broker(self.broker(name).ok_or_else(unknown)?);
                }
                _ => return Err(invalid()),
            }
        }
        if count.is_none() && (ttl.is_some() || bytes.is_some()) {
            return Err(ArgumentError::Text("\"ttl\" and \"bytes\" need \"history\"".to_string()));
        }
        if flags & (JOIN_LEAVE | PRESENCE) == JOIN_LEAVE {
            return Err(ArgumentError::Text("\"join_leave\" needs \"presence\"".to_string()));
        }
        let limits = count.map(|count| Limits {
            count,
            ttl: ttl.unwrap_or(TTL_MS),
            bytes: bytes.unwrap_or(0),
        });
        if bytes.is_some() && reach != Reach::Here && !self.brokers.is_empty() {
            let why = "\"bytes\" with a broker, which trims by number and age";
            return Err(ArgumentError::Text(why.to_string()));
        }
        if let (Some(broker), true) = (self.broker_at(reach), limits.is_some()) {
            if !broker.server.keeps(&broker.settings) {
                return Err(ArgumentError::Text(no_history(&broker.name)));
            }
        }
        flags |= reach.flags();
        self.topics.push(Rule { pattern: (*pattern).into(), limits, flags });
        Ok(())
    }

    fn broker_at(&self, reach: Reach) -> Option<&Broker> {
        let n = match reach {
            Reach::First => 0,
            Reach::Broker(n) => n,
            Reach::Here => return None,
        };
        self.brokers.get(n).map(|broker| &**broker)
    }

    /// The brokers, each with what it has to keep.
    pub(super) fn brokers_with_limits(&self) -> Vec<Rc<Broker>> {
        let mut brokers: Vec<Broker> =
            self.brokers.iter().map(|broker| (**broker).clone()).collect();
        for rule in &self.topics {
            let n = match (Reach::of(rule.flags), rule.limits) {
                (Reach::First, Some(_)) => 0,
                (Reach::Broker(n), Some(_)) => n,
                _ => continue,
            };
            let stream = brokers.get_mut(n).and_then(|broker| broker.settings.stream.as_mut());
            if let (Some(stream), Some(limits)) = (stream, rule.limits) {
                stream.count = stream.count.max(limits.count);
                stream.ttl = stream.ttl.max(limits.ttl);
            }
        }
        brokers.into_iter().map(Rc::new).collect()
    }

    /// Whether the first broker keeps no histories, though topics before it have some.
    pub(super) fn lacks_history(&self, broker: &Broker) -> bool {
        let is_first = self.brokers.is_empty();
        let is_kept = |rule: &Rule| rule.limits.is_some() && Reach::of(rule.flags) == Reach::First;
        is_first && !broker.server.keeps(&broker.settings) && self.topics.iter().any(is_kept)
    }

    fn broker(&self, name: &[u8]) -> Option<usize> {
        self.brokers.iter().position(|broker| broker.name.as_bytes() == name)
    }
}

/// What is wrong with a history at a broker that keeps none.
pub(super) fn no_history(broker: &str) -> String {
    format!("\"history\" by broker \"{broker}\", a NATS server without \"jetstream\"")
}

/// nginx's size (`512`, `64k`, `1m`), in bytes.
pub(super) fn parse_size(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text.split_last()? {
        (b'k' | b'K', digits) => (digits, 1 << 10),
        (b'm' | b'M', digits) => (digits, 1 << 20),
        _ => (text, 1),
    };
    number(digits)?.checked_mul(unit)
}
