//! The natives behind `resty.websocket.protocol`, and so `resty.websocket.client`, which do their I/O
//! on ngx_lua's cosockets: frame headers and masking. Each takes the arguments its comment names and
//! returns Lua values; texts are lua-resty-websocket's. No state: what a frame needs between two
//! calls is handed back in.

use ws_proto::header::{self, FrameHeader};
use ws_proto::{close, mask, opcode, Lengths, Masking};

use crate::lua::vm::entry::{Args, Method, Outcome, Value};
use crate::lua::vm::{native, Native};
use crate::session::random;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"build_frame", build_frame),
    native!(c"frame_body", frame_body),
    native!(c"frame_head", frame_head),
    native!(c"frame_len", frame_len),
];

/// Longest payload that is built: lengths are 31-bit numbers, as with lua-resty-websocket.
const MAX_LEN: f64 = 0x7fff_ffff as f64;

/// A longer body is worth a way of its own where a cosocket carries it: most of it lies outside the
/// cosocket's buffer.
pub(super) const LARGE: i64 = 4096;

/// `frame_head(first two bytes, force_masking, max_payload_len)` → number of bytes that are left
/// to read | false, size of the extended length | nil, err.
pub fn frame_head(args: &Args) -> Outcome {
    let Some(first) = first_two(args, 1) else { return short(2) };
    let Some(max) = args.number(3) else { return not_a_number("max_payload_len") };
    let masking = if args.truth(2) { Masking::Required } else { Masking::Optional };
    match FrameHeader::parse(first, 0, masking) {
        Err(err) => Outcome::nil_err(err.to_string()),
        Ok(head) if head.ext_len() == 0 => match rest_len(head, &[], max) {
            Ok(len) => Outcome::one(Value::Int(len)),
            Err(err) => Outcome::nil_err(err),
        },
        Ok(head) => Outcome::two(Value::Bool(false), Value::Int(head.ext_len() as i64)),
    }
}

/// `frame_len(first two bytes, extended length, max_payload_len, sock)` → number of bytes that are
/// left to read, whether by `frame_rest` | nil, err. For the frames of which `frame_head` said
/// false.
pub fn frame_len(args: &Args) -> Outcome {
    let Some(head) = head_again(args, 1) else { return short(2) };
    let Some(max) = args.number(3) else { return not_a_number("max_payload_len") };
    let Some(ext) = args.bytes(2).and_then(|ext| ext.get(..head.ext_len())) else {
        return short(head.ext_len());
    };
    match rest_len(head, ext, max) {
        Ok(len) => Outcome::two(Value::Int(len), Value::Bool(len > LARGE && is_cosocket(args, 4))),
        Err(err) => Outcome::nil_err(err),
    }
}

/// `frame_body(first two bytes, masking key and payload)` → data, typ, err as recv_frame returns
/// them. An unmasked payload is returned as the very string it came in.
pub fn frame_body(args: &Args) -> Outcome {
    let Some(head) = head_again(args, 1) else { return short(2) };
    let Some(body) = args.bytes(2) else { return short(0) };
    let mut unmasked = Vec::new();
    let payload = match (head.masked, body.split_first_chunk()) {
        (false, _) => body,
        (true, Some((key, masked))) => {
            mask::extend(*key, masked, &mut unmasked);
            &unmasked
        }
        (true, None) => return short(4),
    };
    if head.opcode == opcode::CLOSE {
        return close(payload);
    }
    let data = if head.masked { Value::Bytes(unmasked) } else { Value::Arg(2) };
    frame_of(head, data)
}

/// The results of recv_frame for a close frame.
fn close(payload: &[u8]) -> Outcome {
    match close::parse(payload) {
        Ok((code, reason)) => Outcome::three(
            Value::Bytes(reason.to_vec()),
            Value::Str("close"),
            code.map_or(Value::Nil, |code| Value::Int(code.into())),
        ),
        Err(err) => Outcome::three(Value::Nil, Value::Nil, Value::Bytes(err.to_string().into())),
    }
}

/// The results of recv_frame for any other.
pub(super) fn frame_of(head: FrameHeader, data: Value) -> Outcome {
    let typ = match head.opcode {
        opcode::CONTINUATION => "continuation",
        opcode::TEXT => "text",
        opcode::BINARY => "binary",
        opcode::PING => "ping",
        _ => "pong",
    };
    Outcome::three(data, Value::Str(typ), if head.fin { Value::Nil } else { Value::Str("again") })
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

/// How many bytes masking key and payload are, if the length is allowed.
pub(super) fn rest_len(head: FrameHeader, ext: &[u8], max: f64) -> Result<i64, String> {
    let key_len = if head.masked { 4 } else { 0 };
    head.payload_len(ext, Lengths::Lenient)
        .and_then(|len| head.check(len, max as u64).map(|()| len as i64 + key_len))
        .map_err(|err| err.to_string())
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

fn first_two(args: &Args, index: i32) -> Option<[u8; 2]> {
    args.bytes(index)?.first_chunk().copied()
}

/// The head `frame_head` has let pass.
pub(super) fn head_again(args: &Args, index: i32) -> Option<FrameHeader> {
    FrameHeader::parse(first_two(args, index)?, 0, Masking::Optional).ok()
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

/// Whether the value at `index` is a connected cosocket that reads as ngx_lua's do.
fn is_cosocket(args: &Args, index: i32) -> bool {
    args.cosocket(index).is_some()
        && args.has_native_methods(index, &[Method::Receive, Method::ReceiveAny])
}
