//! The natives behind a client's opening handshake over a cosocket, that of `resty.websocket` as
//! well: one object from the URI to what the server has granted.

use std::cell::RefCell;

use ws_proto::handshake::client::{Choice, Error, Opening, Wishes};

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"opening_answer", answer),
    native!(c"opening_new", new),
    native!(c"opening_request", request),
];

/// `opening_new(uri, target or nil)`, where `target` is a path and query in place of the URI's own →
/// opening, whether TLS is wanted, host (IPv6 in brackets; or unix:PATH), port or nil | nil, err.
pub fn new(args: &Args) -> Outcome {
    let uri = args.bytes(1).unwrap_or_default();
    let opening = match args.bytes(2) {
        Some(target) => Opening::with_target(uri, target),
        None => Opening::new(uri),
    };
    match opening {
        Ok(opening) => {
            let uri = opening.uri();
            let (tls, host, port) = (uri.tls, uri.host.clone(), uri.port.clone());
            Outcome::four(
                Value::Object(Object::Opening(Box::new(RefCell::new(opening)))),
                Value::Bool(tls),
                Value::Bytes(host),
                port.map_or(Value::Nil, Value::Bytes),
            )
        }
        Err(err) => Outcome::nil_err(err.to_bytes()),
    }
}

/// `opening_request(opening, key, host or nil, protocols or nil, origin or nil, headers or nil)` →
/// bytes of the request | nil, err. What the server chooses is the program's business.
pub fn request(args: &Args) -> Outcome {
    request_for(args, Choice::Free)
}

/// The same for a server that may make this choice.
pub fn request_for(args: &Args, choice: Choice) -> Outcome {
    let Some(opening) = args.opening(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let lines = match args.list(6) {
        None => Vec::new(),
        Some(Ok(lines)) => lines,
        Some(Err(index)) => {
            return Outcome::Raise(format!("bad \"headers\" option: no string at index {index}"))
        }
    };
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let wishes = Wishes {
        key: args.bytes(2).unwrap_or_default(),
        host: args.bytes(3),
        protocols: args.bytes(4),
        origin: args.bytes(5),
        headers: &lines,
        choice,
    };
    match opening.borrow_mut().request(wishes) {
        Ok(bytes) => Outcome::one(Value::Bytes(bytes)),
        Err(err) => Outcome::nil_err(err.to_bytes()),
    }
}

/// `opening_answer(opening, head without its empty line)` → whether the upgrade is granted; false:
/// it was an interim response, and the next counts | nil, err, whether it was an HTTP answer with
/// another status than 101.
pub fn answer(args: &Args) -> Outcome {
    let Some(opening) = args.opening(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match opening.borrow_mut().answer(args.bytes(2).unwrap_or_default()) {
        Ok(grant) => Outcome::one(Value::Bool(grant.is_some())),
        Err(err) => {
            let answered = matches!(err, Error::Status(_));
            Outcome::three(Value::Nil, Value::Bytes(err.to_bytes()), Value::Bool(answered))
        }
    }
}
