//! The natives behind `resty.websocket.listen`: ports opened from Lua, and their connections as
//! streams with a cosocket's results.

use std::net::{SocketAddr, ToSocketAddrs};

use ws_conn::IoError;

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::listener::{Accept, Listener};
use crate::ngx::lua_wait::Wait;
use crate::ngx::ngx_lua::raise_timers;
use crate::ngx::process::connections;
use crate::ngx::tls::{Tls, TlsOptions, Verify};
use crate::session::{Direction, Got, Stream, Want};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"accept", accept),
    native!(c"address", address),
    native!(c"close", close),
    native!(c"fd", fd),
    native!(c"is_open", is_open),
    native!(c"open", open),
    native!(c"socket_bind", bind),
    native!(c"socket_close", stream_close),
    native!(c"socket_drain", drain),
    native!(c"socket_fd", stream_fd),
    native!(c"socket_name", stream_name),
    native!(c"socket_peer", stream_peer),
    native!(c"socket_readable", readable),
    native!(c"socket_receive", receive),
    native!(c"socket_send", send),
    native!(c"socket_shutdown", shutdown),
    native!(c"socket_state", stream_state),
    native!(c"socket_timeouts", timeouts),
    native!(c"tell_end", tell_end),
    native!(c"waiting", waiting),
];

const NOT_A_STREAM: &str = "bad argument #1 (accepted connection expected)";
const NOT_A_LISTENER: &str = "bad argument #1 (listener expected)";

/// `open(host, port, backlog, handshake_ms, tls, early)` → listener | nil, err. `tls` is nil for
/// plain, or an array of strings: certificates and keys in turn after the count of pairs; then ca,
/// verify, ciphers, protocols...; an empty one stands for none.
pub fn open(args: &Args) -> Outcome {
    let (Some(host), Some(port)) = (args.bytes(1), args.number(2)) else {
        return Outcome::Raise("bad host or port".into());
    };
    let Some(addr) = resolve(&String::from_utf8_lossy(host), port as u16) else {
        return Outcome::nil_err("host not found");
    };
    let tls = match args.list(5) {
        None => None,
        // Never plain instead.
        Some(Err(_)) => return Outcome::Raise("bad tls settings".into()),
        Some(Ok(words)) => match tls_options(&words).map(|options| Tls::new(&options)) {
            Some(Ok(tls)) => Some(tls),
            Some(Err(err)) => return Outcome::nil_err(err.to_string()),
            None => return Outcome::Raise("bad tls settings".into()),
        },
    };
    let backlog = args.number(3).unwrap_or(511.0) as usize;
    let handshake_ms = args.number(4).unwrap_or(10_000.0) as u64;
    match Listener::open(addr, backlog, tls, handshake_ms, args.truth(6)) {
        Ok(listener) => {
            raise_timers(connections());
            Outcome::one(Value::Object(Object::Listener(listener)))
        }
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// The first address of a name. It is asked of the system, which may take its time: meant for
/// addresses and for names in /etc/hosts.
fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    (host, port).to_socket_addrs().ok()?.next()
}

fn tls_options(words: &[Vec<u8>]) -> Option<TlsOptions> {
    let (count, words) = words.split_first()?;
    let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
    let (pairs, words) = words.split_at_checked(2 * count)?;
    let [ca, verify, ciphers, protocols @ ..] = words else { return None };
    let given = |word: &Vec<u8>| (!word.is_empty()).then(|| word.clone());
    Some(TlsOptions {
        pairs: pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        ca: given(ca),
        verify: match verify.as_slice() {
            b"require" => Verify::Required,
            b"optional" => Verify::Optional,
            _ => Verify::No,
        },
        protocols: protocols.to_vec(),
        ciphers: given(ciphers),
    })
}

/// `address(listener)` → host, port, family (4 or 6)
pub fn address(args: &Args) -> Outcome {
    match args.listener(1) {
        Some(listener) => address_values(Some(listener.address())),
        None => Outcome::Raise(NOT_A_LISTENER.into()),
    }
}

/// `fd(listener)` → its descriptor
pub fn fd(args: &Args) -> Outcome {
    match args.listener(1) {
        Some(listener) => Outcome::one(Value::Int(listener.fd().into())),
        None => Outcome::Raise(NOT_A_LISTENER.into()),
    }
}

/// `is_open(listener)` → whether it listens
pub fn is_open(args: &Args) -> Outcome {
    match args.listener(1) {
        Some(listener) => Outcome::one(Value::Bool(listener.is_open())),
        None => Outcome::Raise(NOT_A_LISTENER.into()),
    }
}

/// `close(listener)`: nothing more is accepted.
pub fn close(args: &Args) -> Outcome {
    match args.listener(1) {
        Some(listener) => listener.close(),
        None => return Outcome::Raise(NOT_A_LISTENER.into()),
    }
    Outcome::none()
}

/// `tell_end(listener)`: has `accept` say "owner ended" once, when the caller's request has ended.
pub fn tell_end(args: &Args) -> Outcome {
    let Some(listener) = args.listener(1) else { return Outcome::Raise(NOT_A_LISTENER.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match listener.tell_end_of(r) {
        true => Outcome::one(Value::Int(1)),
        false => Outcome::nil_err("no memory"),
    }
}

/// `accept(listener, again, left)` → stream | nil, err; or yields: see wait.lua.
pub fn accept(args: &Args) -> Outcome {
    let Some(listener) = args.listener(1) else { return Outcome::Raise(NOT_A_LISTENER.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let left = left(args);
    if args.truth(2) && left == Some(0) && !listener.has_waiting() {
        return Outcome::nil_err(IoError::Timeout.to_string());
    }
    Outcome::waited(listener.accept(r, left.unwrap_or(u64::MAX)), |accepted| {
        let socket = match accepted {
            Accept::Connection(socket) => socket,
            Accept::Closed => return Outcome::nil_err(IoError::Closed.to_string()),
            Accept::OwnerEnded => return Outcome::nil_err("owner ended"),
        };
        Outcome::one(Value::Object(Object::Stream(Stream::new(socket))))
    })
}

/// `waiting(listener, again, left)` → 1 where a connection waits, or the port is closed | nil, err;
/// or yields like `accept`.
pub fn waiting(args: &Args) -> Outcome {
    let Some(listener) = args.listener(1) else { return Outcome::Raise(NOT_A_LISTENER.into()) };
    if listener.has_waiting() || !listener.is_open() {
        return Outcome::one(Value::Int(1));
    }
    let left = left(args);
    if args.truth(2) && left == Some(0) {
        return Outcome::nil_err(IoError::Timeout.to_string());
    }
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    Outcome::waited(listener.park(r, left.unwrap_or(u64::MAX)), |never| match never {})
}

/// `socket_bind(stream)`: it is closed, at the latest, when the request of the caller ends.
pub fn bind(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let served = stream.clone();
    if !r.at_end(Box::new(move || served.close(false))) {
        return Outcome::nil_err("no memory");
    }
    stream.socket().keep_promise();
    Outcome::one(Value::Int(1))
}

/// `socket_receive(stream, again, left, want, n)` → data | nil, err, partial; or yields like
/// `accept`. `want`: "any", "exactly", "line", "all". Without `left` the stream's time-out holds.
pub fn receive(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let n = args.number(5).unwrap_or(0.0) as usize;
    let want = match args.bytes(4) {
        Some(b"any") => Want::Any(n),
        Some(b"exactly") => Want::Exactly(n),
        Some(b"line") => Want::Line,
        _ => Want::All,
    };
    Outcome::waited(stream.receive(r, want, args.truth(2), left(args)), |got| match got {
        Got::Data(data) => Outcome::one(Value::Bytes(data)),
        Got::Failed(err, partial) => Outcome::three(
            Value::Nil,
            Value::Bytes(err.to_string().into_bytes()),
            Value::Bytes(partial),
        ),
        Got::LineTooLong => Outcome::nil_err("line too long"),
    })
}

/// `socket_readable(stream, again, left)` → 1 | nil, err; or yields like `accept`.
pub fn readable(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    awaited(stream.readable(r, left(args)))
}

/// `socket_send(stream, data)` → bytes, over | nil, err. `data` is a string or an array of them;
/// `over` asks the shim to call `socket_drain`.
pub fn send(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let list;
    let parts: Vec<&[u8]> = match args.bytes(2) {
        Some(data) => vec![data],
        None => match args.list(2) {
            Some(Ok(strings)) => {
                list = strings;
                list.iter().map(Vec::as_slice).collect()
            }
            _ => return Outcome::Raise("bad data (string or array of strings expected)".into()),
        },
    };
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    match stream.send(&parts) {
        Ok(over) => Outcome::two(Value::Int(bytes as i64), Value::Bool(over)),
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// `socket_drain(stream, again, left, mark or nil)` → 1 once at most `mark` bytes (nil: the
/// high-water mark) wait to be sent | nil, err; or yields like `accept`.
pub fn drain(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let mark = args.number(4).map(|n| n as usize);
    awaited(stream.drained(r, mark, args.truth(2), left(args)))
}

/// `socket_timeouts(stream, send, receive)` in milliseconds; nil leaves one as it is.
pub fn timeouts(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    stream.set_timeouts(args.number(2).map(|ms| ms as u64), args.number(3).map(|ms| ms as u64));
    Outcome::none()
}

/// `socket_shutdown(stream, side)`: "receive", "send" or "both" → 1 | nil, err
pub fn shutdown(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    if !stream.is_open() {
        return Outcome::nil_err(IoError::Closed.to_string());
    }
    stream.shut_down(match args.bytes(2) {
        Some(b"receive") => Direction::Read,
        Some(b"send") => Direction::Write,
        _ => Direction::Both,
    });
    Outcome::one(Value::Int(1))
}

/// `socket_close(stream, now)` → 1 | nil, err
pub fn stream_close(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    if !stream.is_open() {
        return Outcome::nil_err(IoError::Closed.to_string());
    }
    stream.close(args.truth(2));
    Outcome::one(Value::Int(1))
}

/// `socket_state(stream)` → whether it is open, bytes received, bytes sent, bytes waiting
pub fn stream_state(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let (received, sent) = stream.moved();
    Outcome::four(
        Value::Bool(stream.is_open()),
        Value::Int(received as i64),
        Value::Int(sent as i64),
        Value::Int(stream.buffered() as i64),
    )
}

/// `socket_peer(stream)` → host, port, family (4 or 6)
pub fn stream_peer(args: &Args) -> Outcome {
    match args.stream(1) {
        Some(stream) => address_values(stream.socket().peer()),
        None => Outcome::Raise(NOT_A_STREAM.into()),
    }
}

/// `socket_name(stream)` → host, port, family (4 or 6) of this side | nil once it is closed
pub fn stream_name(args: &Args) -> Outcome {
    match args.stream(1) {
        Some(stream) => address_values(stream.socket().name()),
        None => Outcome::Raise(NOT_A_STREAM.into()),
    }
}

/// `socket_fd(stream)` → descriptor, number of the connection in nginx's log, whether it is TLS
pub fn stream_fd(args: &Args) -> Outcome {
    let Some(stream) = args.stream(1) else { return Outcome::Raise(NOT_A_STREAM.into()) };
    let socket = stream.socket();
    Outcome::three(
        Value::Int(socket.fd().into()),
        Value::Int(socket.number() as i64),
        Value::Bool(socket.is_tls()),
    )
}

fn address_values(addr: Option<SocketAddr>) -> Outcome {
    match addr {
        Some(addr) => Outcome::three(
            Value::Bytes(addr.ip().to_string().into_bytes()),
            Value::Int(addr.port().into()),
            Value::Int(if addr.is_ipv4() { 4 } else { 6 }),
        ),
        None => Outcome::one(Value::Nil),
    }
}

fn awaited(wait: Wait<Result<(), IoError>>) -> Outcome {
    Outcome::waited(wait, |done| match done {
        Ok(()) => Outcome::one(Value::Int(1)),
        Err(err) => Outcome::nil_err(err.to_string()),
    })
}

/// What is left of the caller's own time, in milliseconds.
fn left(args: &Args) -> Option<u64> {
    args.number(3).map(|ms| ms.max(0.0).ceil() as u64)
}
