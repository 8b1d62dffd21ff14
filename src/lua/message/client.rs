//! The natives by which `resty.websocket`'s client connections are opened, and messages taken from
//! connections whose bytes a socket carries.

use std::cell::RefCell;

use ws_conn::Config;
use ws_proto::handshake::client::Choice;
use ws_proto::opcode;

use super::connection::{ended, extensions, kind};
use crate::conf::{heartbeat, limit, location_of};
use crate::lua::resty::opening;
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::session::{random, Carried};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"client_new", new),
    native!(c"client_open", open),
    native!(c"client_times", times),
    native!(c"is_between", is_between),
    native!(c"new_key", new_key),
    native!(c"opening_request", request),
    native!(c"take_message", take),
];

/// Of output that waits, in bytes.
const HIGH_WATER: usize = 256 * 1024;

/// `opening_request(opening, key, host or nil, protocols or nil, origin or nil, headers or nil,
/// compression)` → bytes of the request | nil, err. The server may choose of what it offers only.
pub fn request(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let config = extensions(r, args.numbers(7).as_deref());
    opening::request_for(args, Choice::Offered(config))
}

/// `client_open(opening, max_message, max_frame, ping_interval, ping_timeout)` → connection, id, subprotocol
/// or nil, extensions or nil. The opening's last answer granted the upgrade.
pub fn open(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let Some(opening) = args.opening(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let grant = opening.borrow().grant().cloned().unwrap_or_default();
    let location = location_of(r);
    let word = |index, default: usize| args.number(index).map_or(default as u64, |n| n as u64);
    let max_message = word(2, location.max_message_size);
    let interval = args.number(4).map_or(location.given_ping_interval(), |n| n as u64);
    let timeout = args.number(5).map_or(location.ping_timeout(), |n| limit(n as u64));
    let conn = Carried::new(&Config {
        max_frame: word(3, max_message as usize),
        heartbeat: heartbeat(interval, timeout),
        extension: grant.extension,
        ..Config::client(max_message, HIGH_WATER)
    });
    Outcome::four(
        Value::Object(Object::Carried(Box::new(RefCell::new(conn)))),
        Value::Bytes(format!("{:032x}", u128::from_be_bytes(random::bytes())).into_bytes()),
        grant.protocol.map_or(Value::Nil, Value::Bytes),
        grant.extensions.map_or(Value::Nil, Value::Bytes),
    )
}

/// `client_times()` → for how many milliseconds the location's directives let receiving and sending wait,
/// where a program says nothing.
pub fn times(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let options = location_of(r).options();
    let ms = |time: Option<u64>| Value::Int(time.unwrap_or(u64::MAX).min(i32::MAX as u64) as i64);
    Outcome::two(ms(options.recv_timeout), ms(options.send_timeout))
}

/// `client_new(max_recv_len)` → connection, for a drop-in client object whose handshake is done.
pub fn new(args: &Args) -> Outcome {
    let max = args.number(1).unwrap_or(0.0) as u64;
    let config = Config::client(max, HIGH_WATER);
    Outcome::one(Value::Object(Object::Carried(Box::new(RefCell::new(Carried::new(&config))))))
}

/// `is_between(connection)` → whether everything received has been taken, to the last byte.
pub fn is_between(args: &Args) -> Outcome {
    match args.carried(1) {
        Some(conn) => Outcome::one(Value::Bool(conn.borrow_mut().is_between())),
        None => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `take_message(connection)` → data, typ | nil, err, code, reason | nothing yet.
pub fn take(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut conn = conn.borrow_mut();
    if let Some(message) = conn.take() {
        let text = message.opcode == opcode::TEXT;
        return Outcome::two(Value::Payload(message.data), Value::Str(kind(text)));
    }
    match conn.conn().end() {
        Some(end) => ended(end),
        None => Outcome::none(),
    }
}

/// `new_key()` → a Sec-WebSocket-Key.
pub fn new_key(_args: &Args) -> Outcome {
    Outcome::one(Value::Bytes(random::handshake_key().into_bytes()))
}
