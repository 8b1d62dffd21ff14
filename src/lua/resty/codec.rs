//! What frames are in Lua, for `resty.websocket.protocol` and so `resty.websocket.client`, which do their
//! I/O on ngx_lua's cosockets: the results of recv_frame, and a frame's bytes. Texts are
//! lua-resty-websocket's.

use ws_conn::{IoError, RecvError};
use ws_proto::header::{self, FrameHeader};
use ws_proto::{close, mask, opcode, Stage};

use crate::lua::vm::entry::{Args, Outcome, Value};
use crate::lua::vm::{native, Native};
use crate::session::random;

/// The natives of this file.
pub const NATIVES: &[Native] = &[native!(c"build_frame", build_frame)];

/// Longest payload that is built: lengths are 31-bit numbers, as with lua-resty-websocket.
const MAX_LEN: f64 = 0x7fff_ffff as f64;

/// The results of recv_frame for a close frame.
pub(super) fn close(payload: &[u8]) -> Outcome {
    match close::parse(payload) {
        Ok((code, reason)) => Outcome::three(
            Value::Bytes(reason.to_vec()),
            Value::Str("close"),
            code.map_or(Value::Nil, |code| Value::Int(code.into())),
        ),
        Err(err) => Outcome::three(Value::Nil, Value::Nil, Value::Bytes(err.to_string().into())),
    }
}

/// The results of recv_frame for any other, and whether it was a large one.
pub(super) fn frame_of(head: FrameHeader, data: Value, large: bool) -> Outcome {
    let typ = match head.opcode {
        opcode::CONTINUATION => "continuation",
        opcode::TEXT => "text",
        opcode::BINARY => "binary",
        opcode::PING => "ping",
        _ => "pong",
    };
    let again = if head.fin { Value::Nil } else { Value::Str("again") };
    Outcome::four(data, Value::Str(typ), again, Value::Bool(large))
}

/// Why nothing was received, as recv_frame says it.
pub(super) fn recv_text(err: RecvError) -> String {
    match err {
        RecvError::Ended => IoError::Closed.to_string(),
        RecvError::Protocol(err) => err.to_string(),
        RecvError::Io(stage, err) => format!("{}: {err}", stage_text(stage)),
    }
}

/// What a read is called that fails.
pub(super) const fn stage_text(stage: Stage) -> &'static str {
    match stage {
        Stage::First2 => "failed to receive the first 2 bytes",
        Stage::Len16 => "failed to receive the 2 byte payload length",
        Stage::Len64 => "failed to receive the 8 byte payload length",
        Stage::Body => "failed to read masking-len and payload",
    }
}

/// `build_frame(fin, opcode, payload_len, payload, masking)` → frame | nil, err. The length is
/// the caller's word: only a masked payload must have it.
pub fn build_frame(args: &Args) -> Outcome {
    let Some(op) = any_opcode(args.numeric(2)) else { return bad_opcode() };
    let len = match args.number(3) {
        Some(len) if len > MAX_LEN => return Outcome::nil_err("payload too big"),
        Some(len) if len >= 0.0 => len as usize,
        _ => return not_a_number("payload_len"),
    };
    let Some(payload) = args.bytes(4).or_else(|| (!args.truth(4)).then_some(&[])) else {
        return Outcome::Raise("bad \"payload\" argument (string expected)".into());
    };
    let masking = args.truth(5);
    let payload = match payload.get(..len) {
        Some(payload) if masking => payload,
        None if masking => {
            return Outcome::Raise("bad \"payload\" argument (shorter than payload_len)".into())
        }
        _ => payload,
    };
    Outcome::one(Value::Bytes(frame(args.truth(1), op, len, payload, masking)))
}

/// One frame, masked with a key of the operating system's random source.
pub(super) fn frame(fin: bool, op: u8, len: usize, payload: &[u8], masking: bool) -> Vec<u8> {
    let key = masking.then(random::masking_key);
    let head = header::encode(fin, 0, op, len as u64, key);
    let mut out = Vec::with_capacity(head.as_ref().len() + payload.len());
    out.extend_from_slice(head.as_ref());
    match key {
        Some(key) => mask::extend(key, payload, &mut out),
        None => out.extend_from_slice(payload),
    }
    out
}

/// Whatever fits the first byte of a frame, rounded as LuaJIT's bit library does.
pub(super) fn any_opcode(number: Option<f64>) -> Option<u8> {
    let number = number?.round_ties_even();
    (0.0..=255.0).contains(&number).then_some(number as u8)
}

pub(super) fn bad_opcode() -> Outcome {
    Outcome::Raise("bad \"opcode\" argument (number from 0 to 255 expected)".into())
}

pub(super) fn not_a_number(name: &str) -> Outcome {
    Outcome::Raise(format!("bad \"{name}\" argument (number expected)"))
}

/// The socket broke its word: `receive(n)` returned fewer bytes.
pub(super) fn short(wanted: usize) -> Outcome {
    Outcome::Raise(format!("the socket returned less than the {wanted} bytes asked for"))
}
