//! The natives behind `resty.websocket`'s client connections: a cosocket carries the bytes, these
//! say what they mean.

use std::cell::RefCell;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ws_conn::{Config, Role, Style};
use ws_proto::handshake::client::Choice;
use ws_proto::{opcode, Masking};

use super::connection::{ended, extensions, kind};
use crate::conf::{heartbeat, limit, location_of};
use crate::lua::resty::opening;
use crate::lua::vm::entry::{Args, Method, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::cosocket::Cosocket;
use crate::session::{random, Carried};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"new_key", new_key),
    native!(c"opening_request", request),
    native!(c"peer_beat", beat),
    native!(c"peer_between", between),
    native!(c"peer_close", close),
    native!(c"peer_feed", feed),
    native!(c"peer_linger", linger),
    native!(c"peer_lost", lost),
    native!(c"peer_new", new),
    native!(c"peer_open", open),
    native!(c"peer_output", output),
    native!(c"peer_take", take),
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

/// `peer_open(opening, max_message, max_frame, ping_interval, ping_timeout)` → peer, id, subprotocol
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
    let peer = Carried::new(&Config {
        max_frame: word(3, max_message as usize),
        max_message,
        heartbeat: heartbeat(interval, timeout),
        extension: grant.extension,
        ..client()
    });
    Outcome::four(
        Value::Object(Object::Carried(Box::new(RefCell::new(peer)))),
        Value::Bytes(format!("{:032x}", u128::from_be_bytes(random::bytes())).into_bytes()),
        grant.protocol.map_or(Value::Nil, Value::Bytes),
        grant.extensions.map_or(Value::Nil, Value::Bytes),
    )
}

/// `peer_new(max_recv_len)` → peer, for a drop-in client object whose handshake is done.
pub fn new(args: &Args) -> Outcome {
    let max = args.number(1).unwrap_or(0.0) as u64;
    let config = Config { max_frame: max, max_message: max, ..client() };
    Outcome::one(Value::Object(Object::Carried(Box::new(RefCell::new(Carried::new(&config))))))
}

/// What is common to clients.
fn client() -> Config {
    Config {
        role: Role::Client,
        style: Style::Messages,
        masking: Masking::Forbidden,
        max_frame: 0,
        max_message: 0,
        mark: HIGH_WATER,
        heartbeat: None,
        rate: None,
        lifetime: None,
        extension: None,
        late: false,
        answer: None,
        words: None,
    }
}

/// `peer_between(peer)` → whether everything received has been taken, to the last byte.
pub fn between(args: &Args) -> Outcome {
    match args.peer(1) {
        Some(peer) => Outcome::one(Value::Bool(peer.borrow_mut().is_between())),
        None => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `peer_feed(peer, bytes, sock or nil, size or nil)`: what a socket received. With a cosocket, whose
/// receiveany(size) gave the bytes, what it has not read yet is read past it, as far as the next
/// message reaches.
pub fn feed(args: &Args) -> Outcome {
    let (Some(peer), Some(bytes)) = (args.peer(1), args.bytes(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let mut peer = peer.borrow_mut();
    let mut broken = peer.feed(bytes);
    let drained = args.number(4).is_some_and(|size| (bytes.len() as f64) < size);
    if broken.is_none() && drained && args.has_native_methods(3, &[Method::ReceiveAny]) {
        if let Some(socket) = args.cosocket(3) {
            broken = peer.receive(&socket);
        }
    }
    args.log_broken(broken);
    Outcome::none()
}

/// `peer_take(peer)` → data, typ | nil, err, code, reason | nothing yet.
pub fn take(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut peer = peer.borrow_mut();
    if let Some(message) = peer.take() {
        let text = message.opcode == opcode::TEXT;
        return Outcome::two(Value::Payload(message.data), Value::Str(kind(text)));
    }
    match peer.conn().end() {
        Some(end) => ended(end),
        None => Outcome::none(),
    }
}

/// `peer_output(peer, cosocket or nil)` → bytes to send, or nothing; err where they could not be
/// sent past the cosocket, which then cannot send them either.
pub fn output(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut peer = peer.borrow_mut();
    let mut failed = Value::Nil;
    if peer.conn().buffered() > 0 && args.has_native_methods(2, &[Method::Send]) {
        if let Some(socket) = args.cosocket(2).filter(Cosocket::may_send) {
            failed = peer.offer(&socket).map_or(Value::Nil, Value::errno);
        }
    }
    match peer.output() {
        Some(bytes) => Outcome::two(Value::Bytes(bytes), failed),
        None => Outcome::none(),
    }
}

/// `peer_beat(peer)` → milliseconds until something may be due (a ping, the end of waiting for a close
/// frame) and this is to be asked again, or nothing.
pub fn beat(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match peer.borrow_mut().beat() {
        Some(ms) if ms <= i32::MAX as u64 => Outcome::one(Value::Int(ms as i64)),
        _ => Outcome::none(),
    }
}

/// `peer_linger(peer)` → for how many milliseconds what still comes is to be read before the socket is
/// closed, or nothing: RFC 6455 7.1.1.
pub fn linger(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match peer.borrow().linger_ms() {
        Some(ms) => Outcome::one(Value::Int(ms as i64)),
        None => Outcome::none(),
    }
}

/// `peer_lost(peer)`: the cosocket ended.
pub fn lost(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    peer.borrow_mut().lost();
    Outcome::none()
}

/// `peer_close(peer, code or nil, reason, ms or nil)`: queues a close frame, once; the peer's is awaited
/// for `ms` milliseconds, without them for ever.
pub fn close(args: &Args) -> Outcome {
    let Some(peer) = args.peer(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let code = args.number(2).map(|code| code as u16);
    let ms = args.number(4).map_or(u64::MAX, |ms| ms as u64);
    peer.borrow_mut().close(code, args.bytes(3).unwrap_or_default(), ms);
    Outcome::none()
}

/// `new_key()` → a Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455 4.1).
pub fn new_key(_args: &Args) -> Outcome {
    let key = STANDARD.encode(random::bytes::<16>());
    Outcome::one(Value::Bytes(key.into_bytes()))
}
