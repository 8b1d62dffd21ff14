//! The natives behind `websocket` (tarantool's) and its parts: conversations in single frames with
//! that system's texts, its opening handshake, and frames, close payloads and UTF-8 by themselves.

use std::cell::RefCell;

use ws_conn::{check_frame, Config, End, Role, Style};
use ws_proto::handshake::accept_key;
use ws_proto::handshake::client::ResponseHead;
use ws_proto::handshake::head::{HeadError, RequestHead};
use ws_proto::handshake::server::{check_lenient, ClientHandshake};
use ws_proto::header::FrameHeader;
use ws_proto::{close, mask, opcode, Error, FrameCheck, Lengths, Masking};

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};
use crate::session::Carried;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"accept_key", accept),
    native!(c"close_payload", close_payload),
    native!(c"close_read", close_read),
    native!(c"frame_decode", decode),
    native!(c"frame_mask", mask_data),
    native!(c"framed_judge", judge),
    native!(c"framed_new", new),
    native!(c"framed_next", next),
    native!(c"framed_ping", ping),
    native!(c"framed_rules", rules),
    native!(c"framed_send", send),
    native!(c"framed_state", state),
    native!(c"http_request", http_request),
    native!(c"http_response", http_response),
    native!(c"http_upgrade", http_upgrade),
    native!(c"utf8_check", utf8),
];

/// Of output that waits, in bytes: above it a pong has to wait.
const HIGH_WATER: usize = 64 * 1024;

/// `framed_new(is_client, max_frame)` → connection
pub fn new(args: &Args) -> Outcome {
    let role = if args.truth(1) { Role::Client } else { Role::Server };
    let masking = if role == Role::Server { Masking::Required } else { Masking::Forbidden };
    let Some(max) = args.number(2) else { return Outcome::Raise("no limit of frames".into()) };
    let max = max as u64;
    let conn = Carried::new(&Config {
        role,
        style: Style::Fragments,
        masking,
        max_frame: max,
        max_message: max,
        mark: HIGH_WATER,
        heartbeat: None,
        rate: None,
        lifetime: None,
        extension: None,
        late: false,
        answer: Some(1000),
        words: Some(words),
    });
    Outcome::one(Value::Object(Object::Carried(Box::new(RefCell::new(conn)))))
}

/// `framed_next(connection)` → opcode, fin, data | "closed" (by a close frame), "broken", "limit"
/// or "lost" once nothing more comes | nothing yet
pub fn next(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut conn = conn.borrow_mut();
    if let Some(frame) = conn.take() {
        return Outcome::three(
            Value::Int(frame.opcode.into()),
            Value::Bool(frame.fin),
            Value::Bytes(frame.data),
        );
    }
    match conn.conn().end() {
        None => Outcome::none(),
        Some(End::Closed { .. }) => Outcome::one(Value::Str("closed")),
        Some(End::Broken(Error::FrameTooLarge)) => Outcome::one(Value::Str("limit")),
        Some(End::Broken(_)) => Outcome::one(Value::Str("broken")),
        Some(_) => Outcome::one(Value::Str("lost")),
    }
}

/// `framed_send(connection, fin, opcode, data)` → bytes on the wire | nothing after a close frame
pub fn send(args: &Args) -> Outcome {
    let (Some(conn), Some(op)) = (args.carried(1), args.number(3)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let data = args.bytes(4).unwrap_or_default();
    match conn.borrow_mut().send_frame(args.truth(2), op as u8, data) {
        Ok(bytes) => Outcome::one(Value::Int(bytes as i64)),
        Err(_) => Outcome::none(),
    }
}

/// `framed_ping(connection)`: queues a ping.
pub fn ping(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    conn.borrow_mut().ping();
    Outcome::none()
}

/// `framed_state(connection)` → pongs so far, whether frames wait that must be taken first,
/// whether it is over, whether a close frame was sent
pub fn state(args: &Args) -> Outcome {
    let Some(conn) = args.carried(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let conn = conn.borrow();
    let conn = conn.conn();
    Outcome::four(
        Value::Int(conn.pongs() as i64),
        Value::Bool(conn.is_full() && !conn.is_ending()),
        Value::Bool(conn.is_ending()),
        Value::Bool(conn.is_closing()),
    )
}

/// tarantool's words for a fault, which are also the close frame's reason.
fn words(error: Error, head: FrameHeader, len: usize) -> String {
    match error {
        Error::ReservedData | Error::ReservedControl => format!("opcode invalid: {}", head.opcode),
        Error::ControlTooLong => format!("control frame length greater than 125: {len}"),
        Error::BadRsv => format!("frame rsv invalid: {}", head.rsv),
        Error::ControlFragmented => "fragmented control frame not allloed".into(),
        Error::MessageInterleaved => "fragmented frame should be continuation".into(),
        Error::LoneContinuation => "continuation frame without head frame".into(),
        Error::InvalidUtf8 if head.opcode == opcode::CLOSE => {
            "utf8 data in close frame invalid".into()
        }
        Error::InvalidUtf8 => "utf8 data invalid".into(),
        Error::CloseOneByte => "invalid close frame".into(),
        Error::CloseBadCode => "close code invalid".into(),
        Error::FrameTooLarge => "Payload size limit reached".into(),
        Error::LenTooLarge => "Invalid payload frame size".into(),
        other => other.to_string(),
    }
}

/// `framed_rules()` → a judge of frames that Lua code reads by itself
pub fn rules(_args: &Args) -> Outcome {
    // Sizes are the reader's business.
    let check = FrameCheck::new(u64::MAX, u32::MAX);
    Outcome::one(Value::Object(Object::FrameCheck(Box::new(RefCell::new(check)))))
}

/// `framed_judge(judge, opcode, fin, rsv, data)` → nothing where the frame may come now | code,
/// text. In tarantool's order: what stands in the head first.
pub fn judge(args: &Args) -> Outcome {
    let Some(Object::FrameCheck(check)) = args.object(1) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let data = args.bytes(5).unwrap_or_default();
    let head = FrameHeader {
        opcode: args.number(2).unwrap_or(0.0) as u8,
        fin: args.truth(3),
        rsv: args.number(4).unwrap_or(0.0) as u8,
        ..FrameHeader::default()
    };
    match judged(&mut check.borrow_mut(), head, data) {
        Ok(()) => Outcome::none(),
        Err(error) => {
            let code = Value::Int(error.close_code().into());
            Outcome::two(code, Value::Bytes(words(error, head, data.len()).into_bytes()))
        }
    }
}

fn judged(check: &mut FrameCheck, head: FrameHeader, data: &[u8]) -> Result<(), Error> {
    let control = opcode::is_control(head.opcode);
    match head.opcode {
        0x3..=0x7 => Err(Error::ReservedData),
        0xB.. => Err(Error::ReservedControl),
        _ if control && data.len() > 125 => Err(Error::ControlTooLong),
        _ if head.rsv != 0 => Err(Error::BadRsv),
        _ if control && !head.fin => Err(Error::ControlFragmented),
        _ => check_frame(check, head.fin, head.opcode, data),
    }
}

/// `http_request(bytes)` → nothing while the head is not whole | { method, uri, version, name,
/// value, ... }, length of the head | false, "too large" or "malformed"
pub fn http_request(args: &Args) -> Outcome {
    let bytes = args.bytes(1).unwrap_or_default();
    match RequestHead::parse(bytes) {
        Ok(None) => Outcome::none(),
        Ok(Some(head)) => {
            let version = if head.http11 { b"HTTP/1.1" } else { b"HTTP/1.0" };
            let list = [head.method, head.target, version].map(<[u8]>::to_vec);
            Outcome::two(fields(list.to_vec(), &head.headers), Value::Int(head.len as i64))
        }
        Err(HeadError::TooLarge) => Outcome::two(Value::Bool(false), Value::Str("too large")),
        Err(HeadError::Malformed) => Outcome::two(Value::Bool(false), Value::Str("malformed")),
    }
}

/// `http_response(bytes, key)` → nothing while the final response's head is not whole | { version, code,
/// reason, name, value, ... }, where it ends, whether it grants the upgrade that was asked for with this
/// key | false
pub fn http_response(args: &Args) -> Outcome {
    match ResponseHead::read(args.bytes(1).unwrap_or_default()) {
        Ok(None) => Outcome::none(),
        Ok(Some((head, end))) => {
            let version = if head.http11 { "HTTP/1.1" } else { "HTTP/1.0" };
            let status = head.status.to_string();
            let list = [version.as_bytes(), status.as_bytes(), head.reason].map(<[u8]>::to_vec);
            let accept = accept_key(args.bytes(2).unwrap_or_default());
            let mut headers = head.headers.iter();
            // Of several lines the last one counts, as in the table that the program gets.
            let last = headers.rfind(|line| line.0.eq_ignore_ascii_case(b"sec-websocket-accept"));
            let granted = last.is_some_and(|line| line.1.trim_ascii() == accept);
            let list = fields(list.to_vec(), &head.headers);
            let granted = Value::Bool(head.status == 101 && granted);
            Outcome::three(list, Value::Int(end as i64), granted)
        }
        Err(_) => Outcome::one(Value::Bool(false)),
    }
}

fn fields(mut list: Vec<Vec<u8>>, headers: &[(&[u8], &[u8])]) -> Value {
    for (name, value) in headers {
        list.push(name.to_ascii_lowercase());
        list.push(value.trim_ascii().to_vec());
    }
    Value::List(list)
}

/// `http_upgrade(upgrade, connection, key, version)` → Sec-WebSocket-Accept | nothing where these
/// header values do not ask for an upgrade
pub fn http_upgrade(args: &Args) -> Outcome {
    let names = ["upgrade", "connection", "sec-websocket-key", "sec-websocket-version"];
    let headers: Vec<(&[u8], &[u8])> = names
        .iter()
        .enumerate()
        .filter_map(|(i, name)| Some((name.as_bytes(), args.bytes(i as i32 + 1)?)))
        .collect();
    // Method and version are not looked at: these rules are lua-resty-websocket's as well.
    let request = ClientHandshake { method: b"GET", http11: true, host: true, headers: &headers };
    match check_lenient(&request) {
        Ok(upgrade) => Outcome::one(Value::Bytes(upgrade.accept.to_vec())),
        Err(_) => Outcome::none(),
    }
}

/// `accept_key(key)` → Sec-WebSocket-Accept
pub fn accept(args: &Args) -> Outcome {
    match args.bytes(1) {
        Some(key) => Outcome::one(Value::Bytes(accept_key(key).to_vec())),
        None => Outcome::Raise("bad \"key\" argument (string expected)".into()),
    }
}

/// `frame_decode(bytes)` → how many bytes a frame has at least, where there are fewer | data,
/// opcode, fin, rsv | nil, err. Judges the length only.
pub fn decode(args: &Args) -> Outcome {
    let bytes = args.bytes(1).unwrap_or_default();
    let Some((first, rest)) = bytes.split_first_chunk() else { return Outcome::one(Value::Int(2)) };
    let head = FrameHeader::read(*first);
    let Some((ext, rest)) = rest.split_at_checked(head.ext_len()) else {
        return Outcome::one(Value::Int(2 + head.ext_len() as i64));
    };
    let Ok(len) = head.payload_len(ext, Lengths::Lenient) else { return bad_length() };
    if head.ext_len() == 8 && len < 65535 {
        return bad_length();
    }
    let key_len = if head.masked { 4 } else { 0 };
    let missing = (len as usize + key_len).saturating_sub(rest.len());
    if missing > 0 {
        return Outcome::one(Value::Int((bytes.len() + missing) as i64));
    }
    let payload = &rest[key_len..key_len + len as usize];
    let mut data = Vec::new();
    if data.try_reserve_exact(payload.len()).is_err() {
        return Outcome::nil_err("no memory");
    }
    data.extend_from_slice(payload);
    if let (true, Some(key)) = (head.masked, rest.first_chunk()) {
        mask::apply(*key, 0, &mut data);
    }
    Outcome::four(
        Value::Bytes(data),
        Value::Int(head.opcode.into()),
        Value::Bool(head.fin),
        Value::Int(head.rsv.into()),
    )
}

fn bad_length() -> Outcome {
    Outcome::nil_err("Invalid payload frame size")
}

/// `frame_mask(data, key of four bytes)` → data masked, or unmasked
pub fn mask_data(args: &Args) -> Outcome {
    let (Some(data), Some(key)) = (args.bytes(1), args.bytes(2).and_then(<[u8]>::first_chunk))
    else {
        return Outcome::Raise("bad data or mask".into());
    };
    let mut out = Vec::new();
    mask::extend(*key, data, &mut out);
    Outcome::one(Value::Bytes(out))
}

/// `close_payload(code, reason or nil)` → a close frame's payload
pub fn close_payload(args: &Args) -> Outcome {
    let code = args.number(1).map(|code| code as u16);
    let Some(reason) = args.bytes(2).or_else(|| (!args.truth(2)).then_some(&[])) else {
        return Outcome::Raise("bad argument #2 to 'encode_close' (string expected)".into());
    };
    Outcome::one(Value::Bytes(close::encode(code, reason)))
}

/// `close_read(payload)` → code, reason | nil, nil
pub fn close_read(args: &Args) -> Outcome {
    match close::parse(args.bytes(1).unwrap_or_default()) {
        Ok((Some(code), reason)) => {
            let reason = match reason.is_empty() {
                true => Value::Nil,
                false => Value::Bytes(reason.to_vec()),
            };
            Outcome::two(Value::Int(code.into()), reason)
        }
        _ => Outcome::two(Value::Nil, Value::Nil),
    }
}

/// `utf8_check(text)` → true | false, index of the first byte that is wrong
pub fn utf8(args: &Args) -> Outcome {
    let Some(text) = args.bytes(1) else {
        return Outcome::Raise("bad argument #1 (string expected)".into());
    };
    match std::str::from_utf8(text) {
        Ok(_) => Outcome::one(Value::Bool(true)),
        Err(err) => Outcome::two(Value::Bool(false), Value::Int(err.valid_up_to() as i64 + 1)),
    }
}
