//! The natives behind an upstream that answers `websocket.proxy` in HTTP.

use std::cell::RefCell;

use ws_proto::handshake::client::{unfolded, ResponseHead};

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};
use crate::proxy::{is_theirs, Refusal};

/// The natives of this file.
pub const NATIVES: &[Native] =
    &[native!(c"refusal_body", body), native!(c"refusal_feed", feed), native!(c"refusal_new", new)];

/// `refusal_new(head without its empty line)` → refusal, status, { name, value, ... } for the client,
/// whether a body follows | nil, err: it is no answer.
fn new(args: &Args) -> Outcome {
    let text = [args.bytes(1).unwrap_or_default(), b"\r\n\r\n"].concat();
    let Some(head) = ResponseHead::parse(&text).filter(|head| head.status >= 200) else {
        return Outcome::nil_err("failed websocket handshake: bad response");
    };
    let theirs = head.headers.iter().filter(|line| is_theirs(line.0));
    let fields =
        theirs.flat_map(|(name, value)| [name.to_vec(), unfolded(value).trim_ascii().to_vec()]);
    let fields = Value::List(fields.collect());
    let refusal = Refusal::of(&head);
    let due = Value::Bool(refusal.is_due());
    let refusal = Value::Object(Object::Refusal(Box::new(RefCell::new(refusal))));
    Outcome::four(refusal, Value::Int(head.status.into()), fields, due)
}

/// `refusal_feed(refusal, bytes)` → whether more of the body is to be read | nothing: it is none.
fn feed(args: &Args) -> Outcome {
    let (Some(refusal), Some(bytes)) = (refusal(args), args.bytes(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let mut refusal = refusal.borrow_mut();
    match refusal.take(bytes) {
        Some(()) => Outcome::one(Value::Bool(refusal.is_due())),
        None => Outcome::none(),
    }
}

/// `refusal_body(refusal)` → what has come of it. It is asked for once.
fn body(args: &Args) -> Outcome {
    let Some(refusal) = refusal(args) else { return Outcome::Raise(NOT_OURS.into()) };
    Outcome::one(Value::Bytes(refusal.borrow_mut().body()))
}

fn refusal<'l>(args: &Args<'l>) -> Option<&'l RefCell<Refusal>> {
    match args.object(1)? {
        Object::Refusal(refusal) => Some(refusal),
        _ => None,
    }
}
