//! The natives behind `websockets`: the request heads of its ports, frames by libwebsockets' write
//! types, and what a context wants to know of the machine.

use std::cell::RefCell;

use ws_conn::{Config, End, IoError, Role, Style, SLOW_CONSUMER};
use ws_proto::handshake::head::{HeadError, RequestHead};
use ws_proto::handshake::server::{check_strict, Policy};
use ws_proto::{opcode, Masking};

use crate::conf::{heartbeat, location_of};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::host;
use crate::session::{stats, Carried, SlowConsumer};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"forward", forward),
    native!(c"gone", gone),
    native!(c"goodbye", goodbye),
    native!(c"host", host),
    native!(c"interface", interface),
    native!(c"open", open),
    native!(c"refusal", refusal),
    native!(c"request", request),
    native!(c"settings", settings),
    native!(c"status", status),
    native!(c"write", write),
];

/// libwebsockets' write types: a number, and flags to be added.
const WRITE_NO_FIN: u32 = 0x40;
const WRITE_CLIENT_IGNORE_XOR_MASK: u32 = 0x80;
/// The longest payload of a control frame (RFC 6455 5.5).
const MAX_CONTROL: usize = 125;

/// `settings()` → `websocket_max_message_size`, `websocket_send_buffer`, whether a slow
/// consumer is closed: of where the caller runs.
pub fn settings(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let location = location_of(r);
    Outcome::three(
        Value::Int(location.max_message_size as i64),
        Value::Int(location.send_buffer as i64),
        Value::Bool(location.slow() == SlowConsumer::Close),
    )
}

/// `goodbye()` → code, reason of `websocket_shutdown_close` | nothing where it is off
pub fn goodbye(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match location_of(r).goodbye() {
        Some(bye) => Outcome::two(Value::Int(bye.code.into()), Value::Bytes(bye.reason.clone())),
        None => Outcome::none(),
    }
}

/// `request(bytes, protocols, http)` → nothing while the head is not whole;
/// `"websocket"`, response, subprotocol, length of the head; where `http` is true, `"http"`,
/// target or nil for another method than GET, nil, length; `"refused"`, response.
pub fn request(args: &Args) -> Outcome {
    let (Some(bytes), Some(protocols)) = (args.bytes(1), args.strings(2)) else {
        return Outcome::Raise("bad bytes or protocols (string and array expected)".into());
    };
    let head = match RequestHead::parse(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Outcome::none(),
        Err(fault) => return refuse(fault.status(), &fault.to_string()),
    };
    let length = Value::Int(head.len as i64);
    let request = head.request();
    if !request.asks_upgrade() {
        if !args.truth(3) {
            return refuse(426, "this port speaks WebSocket only");
        }
        if climbs(head.target) {
            return refuse(HeadError::Malformed.status(), "request target outside the root");
        }
        let target = (head.method == b"GET").then(|| Value::Bytes(head.target.to_vec()));
        return Outcome::four(Value::Str("http"), target.unwrap_or(Value::Nil), Value::Nil, length);
    }
    let upgrade = match check_strict(&request, &Policy::default()) {
        Ok(upgrade) => upgrade,
        Err(refusal) => {
            stats::add(stats::Counter::refused(refusal.rule()), 1);
            return refuse(refusal.status(), &refusal.to_string());
        }
    };
    let known = |offer: &&[u8]| protocols.iter().any(|name| name == offer);
    let Some(protocol) = request.offered_protocols().find(known) else {
        stats::add(stats::Counter::refused("protocol"), 1);
        return refuse(400, "no such subprotocol");
    };
    let response = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Sec-WebSocket-Accept: ".as_slice(),
        &upgrade.accept,
        b"\r\nSec-WebSocket-Protocol: ",
        protocol,
        b"\r\n\r\n",
    ]
    .concat();
    let protocol = Value::Bytes(protocol.to_vec());
    Outcome::four(Value::Str("websocket"), Value::Bytes(response), protocol, length)
}

/// `refusal(status, text)` → `"refused"`, response
pub fn refusal(args: &Args) -> Outcome {
    let text = args.bytes(2).unwrap_or_default();
    refuse(args.number(1).unwrap_or(400.0) as u16, &String::from_utf8_lossy(text))
}

fn refuse(status: u16, text: &str) -> Outcome {
    let (phrase, more) = match status {
        408 => ("Request Timeout", ""),
        426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        431 => ("Request Header Fields Too Large", ""),
        _ => ("Bad Request", ""),
    };
    let response = format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         {more}Connection: close\r\n\r\n{text}\n",
        text.len() + 1
    );
    Outcome::two(Value::Str("refused"), Value::Bytes(response.into_bytes()))
}

/// Whether a path has a `..` in it: programs put file names together from it. Clients resolve those
/// before they ask.
fn climbs(target: &[u8]) -> bool {
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    path.split(|&b| matches!(b, b'/' | b'\\')).any(|segment| segment == b"..")
}

/// `open(max_message, unmasked)` → connection, right after the handshake; `unmasked`: frames
/// without a masking key are taken as well.
pub fn open(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let location = location_of(r);
    let max = args.number(1).unwrap_or(0.0) as u64;
    let conn = Carried::new(&Config {
        role: Role::Server,
        style: Style::Messages,
        masking: if args.truth(2) { Masking::Optional } else { Masking::Required },
        max_frame: max,
        max_message: max,
        mark: location.send_buffer,
        heartbeat: heartbeat(location.given_ping_interval(), location.ping_timeout()),
        rate: None,
        lifetime: None,
        extension: None,
        late: true,
        answer: None,
        words: None,
    });
    Outcome::one(Value::Object(Object::Carried(Box::new(RefCell::new(conn)))))
}

/// `status(connection)` → a message waits, no more room for messages, nothing more will come
pub fn status(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let conn = conn.borrow();
    let conn = conn.conn();
    Outcome::three(
        Value::Bool(conn.has_items()),
        Value::Bool(conn.is_full()),
        Value::Bool(conn.is_ending()),
    )
}

/// `forward(connection, stream, data, type, close)`: as `write`, of what goes to many. Of a slow consumer
/// false, and with `close` the code and reason it is closed with.
pub fn forward(args: &Args) -> Outcome {
    let (Some(conn), Some(stream), Some(data)) = (args.carried(1), args.stream(2), args.bytes(3))
    else {
        return Outcome::Raise(NOT_OURS.into());
    };
    if !conn.borrow().conn().is_slow_for(data.len(), stream.buffered()) {
        return queue(conn, data, args.number(4));
    }
    if !args.truth(5) {
        stats::add(stats::Counter::SlowDropped, 1);
        return Outcome::one(Value::Bool(false));
    }
    stats::add(stats::Counter::SlowClosed, 1);
    let (code, reason) = SLOW_CONSUMER;
    Outcome::three(Value::Bool(false), Value::Int(code.into()), Value::Str(reason))
}

/// `write(connection, data, type)` → bytes queued | nothing where the type is unknown, a
/// control frame too long, or the connection closing.
pub fn write(args: &Args) -> Outcome {
    match (args.carried(1), args.bytes(2)) {
        (Some(conn), Some(data)) => queue(conn, data, args.number(3)),
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}

fn queue(conn: &RefCell<Carried>, data: &[u8], typ: Option<f64>) -> Outcome {
    let typ = typ.filter(|typ| *typ >= 0.0).map_or(u32::MAX, |typ| typ as u32);
    let op = match typ & !(WRITE_NO_FIN | WRITE_CLIENT_IGNORE_XOR_MASK) {
        0 => opcode::TEXT,
        1 => opcode::BINARY,
        2 => opcode::CONTINUATION,
        4 => opcode::CLOSE,
        5 => opcode::PING,
        6 => opcode::PONG,
        _ => return Outcome::none(),
    };
    let control = opcode::is_control(op);
    if control && data.len() > MAX_CONTROL {
        return Outcome::none();
    }
    let fin = control || typ & WRITE_NO_FIN == 0;
    match conn.borrow_mut().send_frame(fin, op, data) {
        Ok(bytes) => Outcome::one(Value::Int(bytes as i64)),
        Err(_) => Outcome::none(),
    }
}

/// `gone(connection)` → whether it ended by an error. To be called once, when a connection's
/// end has been noticed.
pub fn gone(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut conn = conn.borrow_mut();
    // What ends without an end known has lost its peer.
    conn.lost(IoError::Closed);
    Outcome::one(Value::Bool(conn.conn().end().is_some_and(End::is_failure)))
}

/// `host()` → this machine's name
pub fn host(_args: &Args) -> Outcome {
    Outcome::one(Value::Bytes(host::name()))
}

/// `interface(name)` → the address of a network interface, IPv4 first | nothing
pub fn interface(args: &Args) -> Outcome {
    match args.bytes(1).and_then(host::interface) {
        Some(address) => Outcome::one(Value::Bytes(address.to_string().into_bytes())),
        None => Outcome::none(),
    }
}
