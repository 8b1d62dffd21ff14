//! The natives behind `resty.websocket` and its connection object. The same calls serve a
//! server's session and a client's; those a client alone needs stand in `client.rs`.

use ws_conn::{Connection, End, NoIo, Phase, SendError, MAX_REASON};
use ws_hub::ConnId;
use ws_proto::ext;
use ws_proto::handshake::server::Policy;
use ws_proto::{close, opcode};

use crate::conf::{heartbeat, limit, location_of, Location};
use crate::lua::resty::server::{step_of, ASK_FIRST};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::texts::{BUSY, MIXED};
use crate::lua::vm::{native, Native};
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::session::{random, NoMessage, Options, Unclosed, Worker};
use crate::upgrade::{self, Error, Rules, Wish};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"buffered", buffered),
    native!(c"close", close),
    native!(c"close_fault", close_fault),
    native!(c"close_info", close_info),
    native!(c"control", control),
    native!(c"id", id),
    native!(c"new_id", new_id),
    native!(c"open", open),
    native!(c"receive", receive),
    native!(c"send", send),
    native!(c"shutdown", shutdown),
    native!(c"state", state),
    native!(c"stream_finish", stream_finish),
    native!(c"stream_open", stream_open),
    native!(c"stream_write", stream_write),
    native!(c"switch", switch),
];

/// `switch(ready, dry, protocols, origins, require_origin, compression, max_message, max_frame,
/// recv_timeout, send_timeout, ping_interval, ping_timeout)` → step, subprotocol or nil, extensions
/// header or nil | nil, err, HTTP status. As the drop-in's `switch`, by the RFC; `dry` asks for the
/// checks only. nil stands for the directive.
pub fn switch(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    if !args.truth(1) && !r.may_answer() {
        return Outcome::one(Value::Int(ASK_FIRST));
    }
    let location = location_of(r);
    let (Ok(protocols), Ok(origins)) =
        (args.list(3).unwrap_or(Ok(Vec::new())), args.list(4).transpose())
    else {
        return Outcome::Raise("bad \"protocols\" or \"origins\" option".into());
    };
    let protocols: Vec<&[u8]> = protocols.iter().map(Vec::as_slice).collect();
    let own: Option<Vec<&[u8]>> =
        origins.as_ref().map(|list| list.iter().map(Vec::as_slice).collect());
    let origins = own.or_else(|| location.origins.as_ref()?.patterns());
    let required = location.origins.as_ref().is_some_and(|origins| origins.required);
    let rules = Rules::Strict(Policy {
        protocols: &protocols,
        origins: origins.as_deref(),
        require_origin: args.flag(5).unwrap_or(required),
    });
    if args.truth(2) {
        return match upgrade::check(r, &rules) {
            Ok(()) => Outcome::one(Value::Int(ASK_FIRST)),
            Err(err) => refused(&err),
        };
    }
    let extensions = extensions(r, args.numbers(6).as_deref());
    let wish = Wish {
        rules,
        options: options(args, location),
        extensions: &extensions,
        registered: true,
        topics: &[],
        alone: None,
    };
    match upgrade::start(r, wish) {
        Ok(started) => Outcome::three(
            Value::Int(step_of(started.switched)),
            started.protocol.map_or(Value::Nil, Value::Bytes),
            started.extensions.map_or(Value::Nil, |header| Value::Bytes(header.into_bytes())),
        ),
        Err(err) => refused(&err),
    }
}

fn refused(err: &Error) -> Outcome {
    let status = Value::Int(err.status().into());
    Outcome::three(Value::Nil, Value::Bytes(err.to_bytes()), status)
}

/// What the session is opened with: the location's options, and what accept() was given.
fn options(args: &Args, location: &Location) -> Options {
    let word = |index| args.number(index).map(|n| n as u64);
    let time = |index| word(index).map(limit);
    let mut options = location.options();
    options.max_message = word(7).unwrap_or(options.max_message);
    options.max_frame = word(8).unwrap_or(options.max_message);
    options.recv_timeout = time(9).or(options.recv_timeout);
    options.send_timeout = time(10).or(options.send_timeout);
    let interval = word(11).unwrap_or(location.ping_interval());
    options.heartbeat = heartbeat(interval, time(12).unwrap_or(location.ping_timeout()));
    options
}

/// What Lua asked for: nothing (the directive decides), an empty array (off), or the six settings,
/// of which a negative one stands for the directive's or the default.
pub(super) fn extensions(r: Request, wish: Option<&[f64]>) -> ext::Config {
    let location = location_of(r);
    match wish {
        None => location.extensions(),
        Some([level, threshold, server_nct, client_nct, server_bits, client_bits]) => {
            let mut config = location.deflate.clone();
            let set = |n: &f64| *n >= 0.0;
            if set(level) {
                config.level = *level as u8;
            }
            if set(threshold) {
                config.threshold = *threshold as usize;
            }
            if set(server_nct) {
                config.server_no_context_takeover = *server_nct > 0.0;
            }
            if set(client_nct) {
                config.client_no_context_takeover = *client_nct > 0.0;
            }
            if set(server_bits) {
                config.server_max_window_bits = *server_bits as u8;
            }
            if set(client_bits) {
                config.client_max_window_bits = *client_bits as u8;
            }
            config.into()
        }
        Some(_) => ext::Config::default(),
    }
}

/// `open(lean)` → session, id, request id | nil, err. The 101 response has left. `lean`: without what
/// `id` and `new_id` make where somebody asks for it.
pub fn open(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let lean = args.truth(1);
    match upgrade::open(r) {
        Some(session) => {
            let id = session.id().filter(|_| !lean).map_or(Value::Nil, text_of);
            let request_id = match r.used_variable(b"request_id") {
                Some(id) => Value::Bytes(id.to_vec()),
                None if lean => Value::Nil,
                None => random_id(),
            };
            Outcome::three(Value::Object(Object::Session(session)), id, request_id)
        }
        None => Outcome::nil_err("no memory"),
    }
}

/// `id(session)` → id | nil
pub fn id(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_OURS.into()) };
    Outcome::one(session.id().map_or(Value::Nil, text_of))
}

/// `new_id()` → what stands for `$request_id` where nothing in the configuration uses that: nobody can
/// compare it, and the bytes are ours.
pub fn new_id(_: &Args) -> Outcome {
    Outcome::one(random_id())
}

fn random_id() -> Value {
    text_of(ConnId::from_bytes(random::bytes()))
}

fn text_of(id: ConnId) -> Value {
    Value::Bytes(id.text().to_vec())
}

/// `receive(session, again, nil, timeout or nil)` → data, typ | nil, err, code, reason; or yields: see
/// wait.lua.
pub fn receive(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let timeout = args.number(4).map(|ms| ms.ceil() as u64);
    Outcome::waited(session.receive(r, timeout, args.truth(2)), |received| match received {
        Ok(view) => {
            let text = view.opcode == opcode::TEXT;
            Outcome::two(Value::View(view.data, view.len), Value::Str(kind(text)))
        }
        Err(NoMessage::Timeout) => Outcome::nil_err("timeout"),
        Err(NoMessage::Busy) => Outcome::nil_err(BUSY),
        Err(NoMessage::Mixed) => Outcome::Raise(MIXED.into()),
        Err(NoMessage::Served) => Outcome::Raise(SERVED.into()),
        Err(NoMessage::Ended(end)) => ended(&end),
    })
}

/// What recv() answers on a connection of websocket.serve().
const SERVED: &str = "recv() on a connection whose messages go to on_message";

pub(super) const fn kind(text: bool) -> &'static str {
    if text {
        "text"
    } else {
        "binary"
    }
}

/// `nil, err, code, reason`
pub(super) fn ended(end: &End) -> Outcome {
    Outcome::four(
        Value::Nil,
        Value::Bytes(end.text().into_bytes()),
        Value::Int(end.code().into()),
        Value::Bytes(end.reason()),
    )
}

/// `send(connection, again, nil, data, text)` → bytes | nil, err; or yields: see wait.lua. Above the
/// high-water mark a server's light thread waits before anything is queued.
pub fn send(args: &Args) -> Outcome {
    let Some(data) = args.bytes(4) else {
        return Outcome::Raise("bad \"data\" argument (string expected)".into());
    };
    let text = args.truth(5);
    match (args.session(1), args.request()) {
        (Some(session), Some(r)) => written(session.send_message(r, text, data, args.truth(2))),
        _ => write(args, |conn| conn.send_message(&Worker, &NoIo, text, data)),
    }
}

/// `control(connection, again, nil, opcode, data)` → as `send`
pub fn control(args: &Args) -> Outcome {
    let (Some(op), data) = (args.number(4), args.bytes(5).unwrap_or_default()) else {
        return Outcome::Raise("bad \"opcode\" argument (number expected)".into());
    };
    write(args, |conn| conn.send_control(&Worker, op as u8, data))
}

/// `stream_open(connection, again, nil, text)` → 0 | nil, err; or yields as `send`
pub fn stream_open(args: &Args) -> Outcome {
    let text = args.truth(4);
    write(args, |conn| conn.open_stream(text).map(|()| 0))
}

/// `stream_write(connection, again, nil, data)` → as `send`
pub fn stream_write(args: &Args) -> Outcome {
    let Some(data) = args.bytes(4) else {
        return Outcome::Raise("bad \"data\" argument (string expected)".into());
    };
    write(args, |conn| conn.write_stream(&Worker, data))
}

/// `stream_finish(connection, again)` → as `send`
pub fn stream_finish(args: &Args) -> Outcome {
    write(args, |conn| conn.finish_stream(&Worker))
}

fn write(args: &Args, send: impl FnOnce(&mut Connection) -> Result<usize, SendError>) -> Outcome {
    match args.object(1) {
        Some(Object::Session(session)) => match args.request() {
            Some(r) => written(session.write(r, args.truth(2), send)),
            None => Outcome::Raise(NO_REQUEST.into()),
        },
        Some(Object::Carried(conn)) => written(Wait::Ready(conn.borrow_mut().write(send))),
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}

fn written(wait: Wait<Result<usize, SendError>>) -> Outcome {
    Outcome::waited(wait, |sent| match sent {
        Ok(bytes) => Outcome::one(Value::Int(bytes as i64)),
        Err(err) => Outcome::nil_err(err.to_string()),
    })
}

/// `close(session, again, nil, code or nil, reason, timeout)` → 1 | nil, err; or yields: see wait.lua.
pub fn close(args: &Args) -> Outcome {
    let Some(session) = args.session(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let code = args.number(4).map(|code| code as u16);
    let reason = args.bytes(5).unwrap_or_default();
    let timeout = args.number(6).unwrap_or(0.0) as u64;
    Outcome::waited(session.close(r, code, reason, timeout, args.truth(2)), |closed| match closed {
        Ok(()) => Outcome::one(Value::Int(1)),
        Err(Unclosed::Ended) => Outcome::nil_err("closed"),
        Err(Unclosed::Timeout) => Outcome::nil_err("timeout"),
    })
}

/// `close_fault(code, reason)` → what is wrong with them, or nothing.
pub fn close_fault(args: &Args) -> Outcome {
    let code_ok = args.number(1).is_some_and(|code| {
        code.fract() == 0.0 && (0.0..65536.0).contains(&code) && close::may_send(code as u16)
    });
    let reason = args.bytes(2).unwrap_or_default();
    if !code_ok {
        Outcome::one(Value::Str("bad \"code\" argument: not a close code that may be sent"))
    } else if reason.len() > MAX_REASON {
        Outcome::one(Value::Str("bad \"reason\" argument: longer than 123 bytes"))
    } else if std::str::from_utf8(reason).is_err() {
        Outcome::one(Value::Str("bad \"reason\" argument: invalid utf-8"))
    } else {
        Outcome::none()
    }
}

/// `shutdown(connection)`: drops it at once.
pub fn shutdown(args: &Args) -> Outcome {
    match args.object(1) {
        Some(Object::Session(session)) => session.shutdown(),
        Some(Object::Carried(conn)) => conn.borrow_mut().drop_now(),
        _ => return Outcome::Raise(NOT_OURS.into()),
    }
    Outcome::none()
}

/// `close_info(connection)` → code, reason, clean | nothing while it is open.
pub fn close_info(args: &Args) -> Outcome {
    ask(args, |conn| match conn.end() {
        Some(end) => Outcome::three(
            Value::Int(end.code().into()),
            Value::Bytes(end.reason()),
            Value::Bool(matches!(end, End::Closed { .. })),
        ),
        None => Outcome::none(),
    })
}

/// `state(connection)` → "open", "closing", "closed"
pub fn state(args: &Args) -> Outcome {
    let phase = match args.object(1) {
        Some(Object::Session(session)) => session.phase(),
        Some(Object::Carried(conn)) => conn.borrow().conn().phase(),
        _ => return Outcome::Raise(NOT_OURS.into()),
    };
    Outcome::one(Value::Str(match phase {
        Phase::Open => "open",
        Phase::Closing => "closing",
        Phase::Closed => "closed",
    }))
}

/// `buffered(connection)` → bytes queued and not yet taken by the kernel (or the cosocket).
pub fn buffered(args: &Args) -> Outcome {
    ask(args, |conn| Outcome::one(Value::Int(conn.buffered() as i64)))
}

/// Answers what the connection knows, whoever carries its bytes.
fn ask(args: &Args, question: impl FnOnce(&Connection) -> Outcome) -> Outcome {
    match args.object(1) {
        Some(Object::Session(session)) => session.ask(question),
        Some(Object::Carried(conn)) => question(conn.borrow().conn()),
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}
