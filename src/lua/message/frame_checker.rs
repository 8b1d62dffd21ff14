//! The natives behind `websocket.frame_checker()`: the rules of messages, for a handler that reads
//! frame by frame and has to keep them itself. The rules are the codec's.

use std::cell::RefCell;

use ws_proto::{opcode, FrameCheck};

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};
use ws_conn::MAX_FRAGMENTS;

/// The natives of this file.
pub const NATIVES: &[Native] =
    &[native!(c"check_frame", check_frame), native!(c"check_new", check_new)];

/// `check_new(max_message_size)` → the checker of one connection's frames.
pub fn check_new(args: &Args) -> Outcome {
    let max = args.number(1).map_or(u64::MAX, |max| max as u64);
    let check = FrameCheck::new(max, MAX_FRAGMENTS);
    Outcome::one(Value::Object(Object::FrameCheck(Box::new(RefCell::new(check)))))
}

/// `check_frame(checker, data, typ, err)`, with what recv_frame() returned → true | nil, err, code.
pub fn check_frame(args: &Args) -> Outcome {
    let Some(Object::FrameCheck(check)) = args.object(1) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let code = args.number(4).map(|code| code as u16);
    let (Some(data), Some(typ)) = (args.bytes(2), args.bytes(3)) else {
        return Outcome::Raise("bad \"data\" or \"typ\" argument: string expected".into());
    };
    let last = args.bytes(4) != Some(b"again");
    let verdict = match typ {
        b"text" => check.borrow_mut().data(opcode::TEXT, last, data),
        b"binary" => check.borrow_mut().data(opcode::BINARY, last, data),
        b"continuation" => check.borrow_mut().data(opcode::CONTINUATION, last, data),
        b"close" => FrameCheck::close(code, data),
        b"ping" | b"pong" => Ok(()),
        _ => return Outcome::Raise("bad \"typ\" argument: a frame type expected".into()),
    };
    match verdict {
        Ok(()) => Outcome::one(Value::Bool(true)),
        Err(err) => Outcome::three(
            Value::Nil,
            Value::Bytes(err.to_string().into_bytes()),
            Value::Int(err.close_code().into()),
        ),
    }
}
