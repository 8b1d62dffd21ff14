//! The natives behind `websocket.proxy` once there are both sides: a pair whose messages are shown.

use ws_proto::opcode;

use crate::conf::{limit, location_of};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::lua_wait::Wait;
use crate::proxy::{self, Limits, Looks, Side, What};
use crate::session::random;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"close_both", close_both),
    native!(c"ends", ends),
    native!(c"hold_reading", hold_reading),
    native!(c"join", join),
    native!(c"ping", ping),
    native!(c"put", put),
    native!(c"take", take),
    native!(c"tell", tell),
];

/// `hold_reading(cosocket)`: until `join` it gives out what it holds, and then waits.
pub fn hold_reading(args: &Args) -> Outcome {
    if let Some(socket) = args.cosocket(1) {
        socket.hold_reading();
    }
    Outcome::none()
}

/// `join(session, connection, cosocket or nil, looks, send_timeout or nil, idle_timeout or nil, at_pings)` →
/// pair. A light thread waits in the cosocket's receiveany(); without one the stream has ended.
pub fn join(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let (Some(client), Some(upstream)) = (args.shared_session(1), args.carried(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let socket = args.cosocket(3);
    let stuck = args.number(5).map_or(location_of(r).send_timeout as u64, |ms| ms as u64);
    let idle = args.number(6).map_or(0, |ms| ms as u64);
    let limits = Limits { stuck: limit(stuck), idle: limit(idle) };
    let random = u32::from_le_bytes(random::bytes());
    let upstream = &mut upstream.borrow_mut();
    let looks = Looks::new(args.truth(4), args.truth(7));
    let pair = proxy::join(client, upstream, socket.as_ref(), limits, looks, random);
    Outcome::one(Value::Object(Object::Pair(pair)))
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Upstream => "upstream",
    }
}

/// The side that the argument at `index` names.
fn side(args: &Args, index: std::ffi::c_int) -> Side {
    match args.bytes(index) {
        Some(b"client") => Side::Client,
        _ => Side::Upstream,
    }
}

/// `take(pair, again)` → from, data, typ (a message's, or "ping") | from, reason, "close", code | nothing when both have ended; or
/// yields: see wait.lua.
pub fn take(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let Some(pair) = args.pair(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let seen = match pair.take(r) {
        Wait::Ready(Some(seen)) => seen,
        Wait::Ready(None) => return Outcome::none(),
        Wait::Parked => return Outcome::Yield,
        Wait::Denied(text) => return Outcome::denied(text),
    };
    let from = Value::Str(name(seen.from));
    let typ = |text| Value::Str(if text { "text" } else { "binary" });
    match seen.what {
        What::Message(text, data) => Outcome::three(from, Value::Payload(data), typ(text)),
        What::Ping(data) => Outcome::three(from, Value::Bytes(data), Value::Str("ping")),
        What::Here(view) => {
            Outcome::three(from, Value::View(view.data, view.len), typ(view.opcode == opcode::TEXT))
        }
        What::Ended(code, reason) => {
            let code = code.map_or(Value::Nil, |code| Value::Int(code.into()));
            Outcome::four(from, Value::Bytes(reason), Value::Str("close"), code)
        }
    }
}

/// `put(pair, from, data, is_text, known)` → true | nil, err: sends a message to the side across from `from`;
/// `known` says that it is as it came from there.
pub fn put(args: &Args) -> Outcome {
    let (Some(pair), Some(data)) = (args.pair(1), args.bytes(3)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    match pair.pass_on(side(args, 2), args.truth(4), data, args.truth(5)) {
        Ok(()) => Outcome::one(Value::Bool(true)),
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// `ping(pair, from, data)` → true | nil, err: sends a ping to the side across from `from`.
pub fn ping(args: &Args) -> Outcome {
    let (Some(pair), Some(data)) = (args.pair(1), args.bytes(3)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    match pair.ping(side(args, 2), data) {
        Ok(()) => Outcome::one(Value::Bool(true)),
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// `tell(pair, from, code or nil, reason)`: tells the side across from `from` how that has ended.
pub fn tell(args: &Args) -> Outcome {
    let Some(pair) = args.pair(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let code = args.number(3).map(|code| code as u16);
    pair.tell(side(args, 2), code, args.bytes(4).unwrap_or_default());
    Outcome::none()
}

/// `close_both(pair, code, reason)`.
pub fn close_both(args: &Args) -> Outcome {
    let Some(pair) = args.pair(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let code = args.number(2).map_or(1000, |code| code as u16);
    pair.close_both(code, args.bytes(3).unwrap_or_default());
    Outcome::none()
}

/// `ends(pair)` → the client's code and reason, the upstream's code and reason.
pub fn ends(args: &Args) -> Outcome {
    let Some(pair) = args.pair(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let (client, upstream) = pair.ends();
    let code = |end: &Option<ws_conn::End>| {
        end.as_ref().map_or(Value::Nil, |end| Value::Int(end.code().into()))
    };
    let reason = |end: &Option<ws_conn::End>| {
        end.as_ref().map_or(Value::Nil, |end| Value::Bytes(end.reason()))
    };
    Outcome::four(code(&client), reason(&client), code(&upstream), reason(&upstream))
}
