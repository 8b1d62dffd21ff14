//! The natives by which `resty.websocket.protocol` receives and sends frames over a cosocket. What comes in
//! pieces is put together, and judged, by ws-conn's `FrameReader`. The cosocket is passed by where that
//! pays: what of a large frame is there is read straight into our memory, and what the kernel takes of a
//! frame is sent from there. Everything that waits, fails or ends is left to the cosocket.

use ws_conn::{FrameReader, FrameRules, IoError, Piece, RecvError};
use ws_proto::header;
use ws_proto::{mask, opcode, Masking, Stage};

use super::codec::{
    any_opcode, bad_opcode, close, frame, frame_of, not_a_number, recv_text, short, stage_text,
};
use super::server::send_rules;
use crate::lua::vm::entry::{Args, Method, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};
use crate::ngx::ahead::Wanted;
use crate::ngx::cosocket::Cosocket;
use crate::session::{offer_frame as offered, random, Offered, Past, Worker};

/// A longer body is worth a way of its own where a cosocket carries it: most of it lies outside the
/// cosocket's buffer.
const OWN_WAY: usize = 4096;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"ahead_over", ahead_over),
    native!(c"frame_keep", frame_keep),
    native!(c"frame_missing", frame_missing),
    native!(c"frame_next", frame_next),
    native!(c"frame_reader", frame_reader),
    native!(c"frame_stage", frame_stage),
    native!(c"offer_frame", offer_frame),
    native!(c"read_ahead", read_ahead),
];

/// `offer_frame(sock, fin, opcode, payload, max_payload_len, masking)` → number of bytes, all of
/// which were sent past the cosocket | 0, what is left for sock:send() and how many bytes were
/// sent, err where an error was why | nil, err for a frame that send_frame may not send.
pub fn offer_frame(args: &Args) -> Outcome {
    let Some(op) = any_opcode(args.numeric(3)) else { return bad_opcode() };
    let Some(payload) = args.bytes(4) else {
        return Outcome::Raise("bad \"payload\" argument (string expected)".into());
    };
    let Some(max) = args.number(5) else { return not_a_number("max_payload_len") };
    let (fin, masking) = (args.truth(2), args.truth(6));
    if let Err(text) = send_rules(fin, op, payload.len() as u64, max as u64) {
        return Outcome::nil_err(text);
    }
    let may_send =
        |socket: &Cosocket| socket.may_send() && args.has_native_methods(1, &[Method::Send]);
    let Some(socket) = args.cosocket(1).filter(may_send) else {
        let frame = frame(fin, op, payload.len(), payload, masking);
        return Outcome::three(Value::Int(0), Value::Bytes(frame), Value::Int(0));
    };
    let key = masking.then(random::masking_key);
    let head = header::encode(fin, 0, op, payload.len() as u64, key);
    let Offered { sent, rest, errno } = offered(&socket, head.as_ref(), payload, key);
    if rest.is_empty() {
        return Outcome::one(Value::Int(sent as i64));
    }
    let err = errno.map_or(Value::Nil, Value::errno);
    Outcome::four(Value::Int(0), Value::Bytes(rest), Value::Int(sent as i64), err)
}

/// `read_ahead(sock, max_payload_len, force_masking)` → whether the cosocket's next receive(2) may take a
/// large frame past it: then `frame_next` or `ahead_over` must follow at once.
pub fn read_ahead(args: &Args) -> Outcome {
    let (Some(socket), Some(max)) = (args.cosocket(1), args.number(2)) else {
        return Outcome::one(Value::Bool(false));
    };
    let wanted = Wanted { max: max as u64, masked: args.truth(3), measure: large_frame };
    let own = args.has_native_methods(1, &[Method::Receive, Method::ReceiveAny]);
    Outcome::one(Value::Bool(own && socket.read_ahead(wanted)))
}

/// `ahead_over(sock)`: the read behind `read_ahead` has failed.
pub fn ahead_over(args: &Args) -> Outcome {
    if let Some(socket) = args.cosocket(1) {
        socket.taken(|_| ());
    }
    Outcome::none()
}

/// The length of the frame that begins with `bytes`, if that is a large one that may be received.
fn large_frame(bytes: &[u8], wanted: Wanted) -> Option<usize> {
    let (first, rest) = bytes.split_first_chunk()?;
    let rules = FrameRules { masking: masking(wanted.masked), max: wanted.max };
    let head = rules.head(*first).ok()?;
    let ext = rest.get(..head.ext_len())?;
    let body = rules.body_len(head, ext).ok().filter(|len| *len > OWN_WAY)?;
    Some(first.len() + ext.len() + body)
}

const fn masking(required: bool) -> Masking {
    match required {
        true => Masking::Required,
        false => Masking::Optional,
    }
}

/// `frame_reader()` → reader of frames, one after the other.
pub fn frame_reader(_args: &Args) -> Outcome {
    Outcome::one(Value::Object(Object::FrameReader(Box::default())))
}

/// `frame_keep(reader, bytes or nil)` → whether the reader is within a frame: a time-out has left it there.
pub fn frame_keep(args: &Args) -> Outcome {
    let Some(reader) = args.frame_reader(1) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut reader = reader.borrow_mut();
    match reader.keep(&Worker, args.bytes(2).unwrap_or_default()) {
        Ok(()) => Outcome::one(Value::Bool(reader.has_begun())),
        Err(_) => Outcome::one(Value::Bool(false)),
    }
}

/// `frame_missing(reader, sock)` → what the reader awaits, as `frame_next` returns it.
pub fn frame_missing(args: &Args) -> Outcome {
    match args.frame_reader(1) {
        Some(reader) => missing(args, 2, &reader.borrow(), None),
        None => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `frame_stage(reader)` → what a read is called that fails now.
pub fn frame_stage(args: &Args) -> Outcome {
    match args.frame_reader(1) {
        Some(reader) => Outcome::one(Value::Str(stage_text(reader.borrow().stage()))),
        None => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `frame_next(reader, piece, max_payload_len, force_masking, sock, any, ahead)` → data, typ, err as
/// recv_frame returns them, and whether the frame was a large one | number of bytes to read next, whether
/// by receiveany(), and err, why reading past the cosocket failed, if it did: then receiveany() fails
/// too. `any`: the piece came by receiveany();
/// what is there beyond it is read past the cosocket. `ahead`: it may have been taken by `read_ahead`.
pub fn frame_next(args: &Args) -> Outcome {
    let (Some(reader), Some(piece)) = (args.frame_reader(1), args.bytes(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    let Some(max) = args.number(3) else { return not_a_number("max_payload_len") };
    let rules = FrameRules { masking: masking(args.truth(4)), max: max as u64 };
    let mut reader = reader.borrow_mut();
    let (wanted, any) = (reader.missing(), args.truth(6));
    if args.truth(7) {
        if let Some(outcome) = taken(args, &mut reader, piece, rules) {
            return outcome;
        }
    }
    if piece.len() >= wanted {
        let step = reader.push(&Worker, piece, rules);
        return told(args, &reader, step, None, any);
    }
    if !any {
        *reader = FrameReader::default();
        return short(wanted);
    }
    if reader.keep(&Worker, piece).is_err() {
        return no_memory(&mut reader);
    }
    fill(args, &mut reader, rules)
}

/// What `frame_next` returns, if the frame is a large one of which bytes were taken past the cosocket.
fn taken(
    args: &Args,
    reader: &mut FrameReader,
    first: &[u8],
    rules: FrameRules,
) -> Option<Outcome> {
    let socket = args.cosocket(5)?;
    let head = first.first_chunk().and_then(|first| rules.head(*first).ok());
    let whole_or_part = socket.taken(|bytes| {
        let head = head?;
        let (ext, body) = bytes.split_at_mut_checked(head.ext_len())?;
        let size = rules.body_len(head, ext).ok()?;
        if body.len() < size {
            reader.begin_body(head, size);
            return Some(Err(reader.keep(&Worker, body)));
        }
        let payload = match body.split_first_chunk_mut() {
            Some((key, payload)) if head.masked => {
                mask::apply(*key, 0, payload);
                payload
            }
            _ => body,
        };
        Some(Ok(frame_of(head, Value::View(payload.as_ptr(), payload.len()), true)))
    });
    match whole_or_part.flatten()? {
        Ok(whole) => Some(whole),
        Err(Ok(())) => Some(fill(args, reader, rules)),
        Err(Err(_)) => Some(no_memory(reader)),
    }
}

/// Reads what is there of a body, the cosocket's buffer being empty.
fn fill(args: &Args, reader: &mut FrameReader, rules: FrameRules) -> Outcome {
    let Some(socket) = args.cosocket(5) else { return missing(args, 5, reader, None) };
    let past = Past::new(&socket);
    if reader.fill(&Worker, &past).is_err() {
        return no_memory(reader);
    }
    socket.done_reading();
    let frame = 2 + reader.head().ext_len() + reader.size();
    let step = reader.finish(rules);
    if !matches!(step, Ok(Piece::More)) {
        socket.note_end(frame);
    }
    told(args, reader, step, past.failed.get().filter(|errno| *errno != 0), true)
}

/// What `frame_next` returns.
fn told(
    args: &Args,
    reader: &FrameReader,
    step: Result<Piece, RecvError>,
    failed: Option<i32>,
    large: bool,
) -> Outcome {
    match step {
        Ok(Piece::More) => missing(args, 5, reader, failed),
        Ok(Piece::Frame(head, payload)) if head.opcode == opcode::CLOSE => close(&payload),
        Ok(Piece::Frame(head, payload)) => frame_of(head, Value::Payload(payload), large),
        Ok(Piece::Itself(head)) if head.opcode == opcode::CLOSE => {
            close(args.bytes(2).unwrap_or_default())
        }
        Ok(Piece::Itself(head)) => frame_of(head, Value::Arg(2), large),
        Err(err) => refused(err),
    }
}

fn missing(args: &Args, sock: i32, reader: &FrameReader, failed: Option<i32>) -> Outcome {
    // A cosocket that reads as ngx_lua's do.
    let any = reader.stage() == Stage::Body
        && reader.size() > OWN_WAY
        && args.cosocket(sock).is_some()
        && args.has_native_methods(sock, &[Method::Receive, Method::ReceiveAny]);
    let missing = Value::Int(reader.missing() as i64);
    match any {
        true => Outcome::three(missing, Value::Bool(true), failed.map_or(Value::Nil, Value::errno)),
        false => Outcome::one(missing),
    }
}

fn refused(err: RecvError) -> Outcome {
    Outcome::three(Value::Nil, Value::Nil, Value::Bytes(recv_text(err).into()))
}

fn no_memory(reader: &mut FrameReader) -> Outcome {
    let stage = std::mem::take(reader).stage();
    refused(RecvError::Io(stage, IoError::NoMemory))
}
