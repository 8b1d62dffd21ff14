//! The natives of a connection whose bytes a socket carries: what came is fed, what is queued is taken,
//! and when something is due is asked. Each API opens its own and takes from it in its own way.

use ws_conn::{End, IoError};

use crate::lua::vm::entry::{Args, Method, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"beat", beat),
    native!(c"close", close),
    native!(c"feed", feed),
    native!(c"has_room", has_room),
    native!(c"is_overdue", is_overdue),
    native!(c"lost", lost),
    native!(c"offer", offer),
    native!(c"output", output),
];

/// `feed(connection, bytes, sock or nil, size or nil)`: what a socket received. With a cosocket, whose
/// receiveany(size) gave the bytes, what it has not read yet is read past it, as far as the next
/// message reaches.
pub fn feed(args: &Args) -> Outcome {
    let (Some(conn), Some(bytes)) = (args.carried(1), args.bytes(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let mut conn = conn.borrow_mut();
    let mut line = conn.feed(bytes);
    let drained = args.number(4).is_some_and(|size| (bytes.len() as f64) < size);
    if line.is_none() && drained && args.has_native_methods(3, &[Method::ReceiveAny]) {
        if let Some(socket) = args.cosocket(3) {
            line = conn.receive(&socket);
        }
    }
    args.log_line(line);
    Outcome::none()
}

/// `offer(connection, sock)`: sends past a cosocket what the kernel takes. Whether something is left for
/// its own send, whether that would not wait, as far as is known, and err where it will fail.
pub fn offer(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut conn = conn.borrow_mut();
    if conn.conn().buffered() == 0 {
        return Outcome::one(Value::Bool(false));
    }
    let Some(socket) = args.cosocket(2).filter(|_| args.has_native_methods(2, &[Method::Send]))
    else {
        return Outcome::two(Value::Bool(true), Value::Bool(false));
    };
    let failed = if socket.may_send() { conn.offer(&socket) } else { None };
    Outcome::three(
        Value::Bool(conn.conn().buffered() > 0),
        Value::Bool(socket.is_writable()),
        failed.map_or(Value::Nil, Value::errno),
    )
}

/// `output(connection)` → bytes to send, or nothing.
pub fn output(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match conn.borrow_mut().output() {
        Some(bytes) => Outcome::one(Value::Bytes(bytes)),
        None => Outcome::none(),
    }
}

/// `has_room(connection, stream or nil, times or nil)` → whether no more waits to be sent than the
/// high-water mark, or so many times it. What the stream that carries the bytes holds waits as well.
pub fn has_room(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let held = args.stream(2).map_or(0, |stream| stream.buffered());
    let times = args.number(3).map_or(1, |times| times as usize);
    let conn = conn.borrow();
    let conn = conn.conn();
    Outcome::one(Value::Bool(conn.buffered() + held <= conn.mark().saturating_mul(times)))
}

/// `beat(connection, unread)` → milliseconds until something may be due (a ping, the end of waiting for a
/// close frame, of lingering) and this is to be asked again, or nothing. `unread`: bytes may have come that
/// were not fed.
pub fn beat(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match conn.borrow_mut().beat(args.truth(2)) {
        Some(ms) if ms <= i32::MAX as u64 => Outcome::one(Value::Int(ms as i64)),
        _ => Outcome::none(),
    }
}

/// `is_overdue(connection)` → whether it was closed, and the peer's close frame did not come in time.
pub fn is_overdue(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut conn = conn.borrow_mut();
    conn.beat(false);
    Outcome::one(Value::Bool(matches!(conn.conn().end(), Some(End::Unanswered))))
}

/// `lost(connection)`: the socket ended or failed.
pub fn lost(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    conn.borrow_mut().lost(IoError::Closed);
    Outcome::none()
}

/// `close(connection, code or nil, reason, ms)` → whether a close frame was queued: one is enough. The
/// peer's is awaited for `ms` milliseconds. A reason too long for a control frame is cut.
pub fn close(args: &Args) -> Outcome {
    let (Some(conn), Some(ms)) = (args.carried(1), args.number(4)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let code = args.number(2).map(|code| code as u16);
    let queued = conn.borrow_mut().close(code, args.bytes(3).unwrap_or_default(), ms as u64);
    Outcome::one(Value::Bool(queued))
}
