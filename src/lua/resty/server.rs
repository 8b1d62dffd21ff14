//! The natives behind `resty.websocket.server`: what its shim cannot do in Lua. Each takes the
//! arguments its comment names and returns Lua values; texts are lua-resty-websocket's.

use std::sync::atomic::{AtomicBool, Ordering};

use ws_conn::{IoError, View};
use ws_proto::{close, ext, opcode};

use super::codec::{any_opcode, bad_opcode, recv_text};
use crate::conf::location_of;
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NO_REQUEST};
use crate::lua::vm::texts::MIXED;
use crate::lua::vm::{native, Native};
use crate::ngx::log;
use crate::ngx::lua_wait::{Wait, CANNOT_WAIT};
use crate::ngx::switch::Switched;
use crate::session::Missed;
use crate::upgrade::{self, Error, Rules, Wish};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"close_payload", close_payload),
    native!(c"drain", drain),
    native!(c"is_open", is_open),
    native!(c"open", open),
    native!(c"recv", recv),
    native!(c"send", send),
    native!(c"set_timeouts", set_timeouts),
    native!(c"switch", switch),
];

const NOT_A_SESSION: &str = "bad argument #1 to a websocket function (session expected)";

/// `switch(ready, max_recv_len, timeout or nil)` → step | nil, err. Checks the request's headers and
/// sends the 101 where it may; `ready` says that the shim has seen to what is asked for by a step of
/// 0. See raw_stream.lua.
pub fn switch(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    if !args.truth(1) && !r.may_answer() {
        return Outcome::one(Value::Int(ASK_FIRST));
    }
    let location = location_of(r);
    let timeout = args.number(3).and_then(whole_ms);
    let wish = Wish {
        rules: Rules::Lenient,
        options: location.frame_options(limit(args.number(2)), timeout),
        extensions: &ext::Config::default(),
        registered: false,
        topics: &[],
        alone: None,
    };
    match upgrade::start(r, wish) {
        Ok(started) => {
            note_list(started.protocol.as_deref().unwrap_or_default());
            Outcome::one(Value::Int(step_of(started.switched)))
        }
        // What ngx.flush says to a header that nginx keeps to itself.
        Err(Error::Subrequest) => {
            Outcome::nil_err("failed to flush response header: nothing to flush")
        }
        Err(err) => Outcome::nil_err(err.to_bytes()),
    }
}

/// Tells, once in a worker, that a client was answered with the whole list of its subprotocols.
fn note_list(protocol: &[u8]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if protocol.contains(&b',') && !TOLD.swap(true, Ordering::Relaxed) {
        log::notice(
            "websocket: a list of subprotocols was answered as it came, which most clients refuse; \
             to choose: ngx.req.set_header(\"Sec-WebSocket-Protocol\", name) before server:new()",
        );
    }
}

/// Steps of the opening handshake, for the shims: what ngx_lua has to be asked before anything can
/// be sent; that the 101 has left; that ngx.flush(true) has to see to that.
pub const ASK_FIRST: i64 = 0;
const SENT: i64 = 1;
const WAITING: i64 = 2;

/// The step of a 101.
pub const fn step_of(switched: Switched) -> i64 {
    match switched {
        Switched::Sent => SENT,
        Switched::Waiting => WAITING,
    }
}

/// `open()` → session. The 101 response has left.
pub fn open(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match upgrade::open(r) {
        Some(session) => Outcome::one(Value::Object(Object::Session(session))),
        None => Outcome::nil_err("no memory"),
    }
}

/// `set_timeouts(session, send ms or nil, read ms or nil)`: nil and 0 mean ngx_lua's directives.
pub fn set_timeouts(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_A_SESSION.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let time = |index| args.number(index).and_then(whole_ms);
    session.set_timeouts(r, time(2), time(3));
    Outcome::none()
}

/// `recv(session, again, nil, max_recv_len)` → data, typ, err as recv_frame returns them; or yields: see
/// wait.lua.
pub fn recv(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_A_SESSION.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let max = args.number(4).unwrap_or(0.0);
    let taken = match session.take(r, max, args.truth(2)) {
        Wait::Denied(text) if text == CANNOT_WAIT => {
            return Outcome::three(Value::Nil, Value::Nil, Value::Str(CANNOT_WAIT));
        }
        taken => taken,
    };
    Outcome::waited(taken, |taken| match taken {
        Ok(frame) => frame_values(frame),
        Err(Missed::Failed(err)) => {
            Outcome::three(Value::Nil, Value::Nil, Value::Bytes(recv_text(err).into()))
        }
        // The shim raises it where its caller is.
        Err(Missed::Mixed) => Outcome::three(Value::Nil, Value::Nil, Value::Str(MIXED)),
    })
}

fn frame_values(frame: View) -> Outcome {
    let data = Value::View(frame.data, frame.len);
    let again = if frame.fin { Value::Nil } else { Value::Str("again") };
    match frame.opcode {
        opcode::CONTINUATION => Outcome::three(data, Value::Str("continuation"), again),
        opcode::TEXT => Outcome::three(data, Value::Str("text"), again),
        opcode::BINARY => Outcome::three(data, Value::Str("binary"), again),
        opcode::CLOSE => {
            let code = frame.code.map_or(Value::Nil, |code| Value::Int(code.into()));
            Outcome::three(data, Value::Str("close"), code)
        }
        opcode::PING => Outcome::three(data, Value::Str("ping"), Value::Nil),
        _ => Outcome::three(data, Value::Str("pong"), Value::Nil),
    }
}

/// `send(session, fin, opcode, payload, max_send_len, masked)` → bytes, over | nil, err. `over`
/// asks the shim to call `drain`.
pub fn send(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_A_SESSION.into()) };
    let Some(payload) = args.bytes(4) else {
        return Outcome::Raise("bad payload (string expected)".into());
    };
    let Some(op) = any_opcode(args.numeric(3)) else { return bad_opcode() };
    let (fin, len) = (args.truth(2), payload.len() as u64);
    if let Err(text) = send_rules(fin, op, len, limit(args.number(5))) {
        return Outcome::nil_err(text);
    }
    match session.send(fin, op, payload, args.truth(6)) {
        Some(Ok(sent)) => Outcome::two(Value::Int(sent.bytes as i64), Value::Bool(sent.over)),
        Some(Err(err)) => Outcome::nil_err(format!("failed to send frame: {err}")),
        None => Outcome::nil_err(IoError::Closed.to_string()),
    }
}

/// `drain(session, again)` → 1 once output is below the high-water mark | nil, err; or yields:
/// see wait.lua.
pub fn drain(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_A_SESSION.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    Outcome::waited(session.drained(r, args.truth(2)), |drained| match drained {
        Ok(()) => Outcome::one(Value::Int(1)),
        Err(err) => Outcome::nil_err(format!("failed to send frame: {err}")),
    })
}

/// `close_payload(code, reason)` → payload of a close frame | nil, err.
pub fn close_payload(args: &Args) -> Outcome {
    // The rule of lua-resty-websocket: a number up to 0x7fff, rounded as its bit library does.
    match args.number(1) {
        Some(code) if code <= f64::from(0x7fff) => {
            let code = code.round_ties_even() as i64 as u16;
            let reason = match args.bytes(2) {
                None if args.truth(2) => {
                    return Outcome::Raise("bad \"msg\" argument (string expected)".into())
                }
                reason => reason.unwrap_or_default(),
            };
            Outcome::one(Value::Bytes(close::encode(Some(code), reason)))
        }
        _ => Outcome::nil_err("bad status code"),
    }
}

/// `is_open(session)` → whether its own request is alive.
pub fn is_open(args: &Args) -> Outcome {
    match args.session(1) {
        Some(session) => Outcome::one(Value::Bool(session.is_open())),
        None => Outcome::Raise(NOT_A_SESSION.into()),
    }
}

/// What may not be sent, in lua-resty-websocket's order.
pub fn send_rules(fin: bool, op: u8, len: u64, max: u64) -> Result<(), &'static str> {
    if len > max {
        return Err("payload too big");
    }
    if opcode::is_control(op) {
        if len > 125 {
            return Err("too much payload for control frame");
        }
        if !fin {
            return Err("fragmented control frame");
        }
    }
    if len >= 1 << 31 {
        return Err("failed to build frame: payload too big");
    }
    Ok(())
}

/// A time-out given from Lua, cut to whole milliseconds as ngx_lua does; None for nothing left.
fn whole_ms(number: f64) -> Option<u64> {
    Some(number as u64).filter(|ms| *ms > 0)
}

/// A length limit given from Lua: nothing and negative numbers allow nothing.
fn limit(number: Option<f64>) -> u64 {
    number.unwrap_or(0.0) as u64
}
