//! The natives with which `resty.websocket.protocol` passes the cosocket by: what of a large frame is
//! there is read straight into our memory, and what the kernel takes of a frame is sent from there.
//! Everything that waits, fails or ends is left to the cosocket, so each of these may do nothing.
//! What they find is for `codec.rs` to say.

use std::cell::RefCell;

use ws_conn::IoError;
use ws_proto::header::{self, FrameHeader};
use ws_proto::{mask, Masking};

use super::codec::{
    any_opcode, bad_opcode, frame, frame_of, head_again, not_a_number, rest_len, short, LARGE,
};
use super::server::send_rules;
use crate::lua::vm::entry::{Args, Method, Object, Outcome, Value};
use crate::lua::vm::{native, Native};
use crate::ngx::ahead::Wanted;
use crate::ngx::cosocket::Cosocket;
use crate::session::{offer_frame as offered, random, LargeBody, Offered};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"frame_rest", frame_rest),
    native!(c"offer_frame", offer_frame),
    native!(c"read_ahead", read_ahead),
    native!(c"taken_frame", taken_frame),
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

/// `frame_rest(sock, first two bytes, missing, piece, body or nil)` → data, typ, err as `frame_body`
/// returns them once the `missing` bytes of masking key and payload came | false, number of bytes
/// that are missing now, body, err. `piece` is what the cosocket's receiveany() gave, asked for all
/// that is missing; what is there beyond it is read past the cosocket. `body` is to be handed in
/// again; err is why that reading failed, if it did: then receiveany() fails too.
pub fn frame_rest(args: &Args) -> Outcome {
    let Some(head) = head_again(args, 2) else { return short(2) };
    let (Some(missing), Some(piece)) = (args.number(3), args.bytes(4)) else {
        return not_a_number("missing");
    };
    let mut body = match args.body(5) {
        Some(kept) => kept.replace(LargeBody::new(0)),
        None => LargeBody::new(missing as usize),
    };
    let drained = piece.len() < body.missing();
    if body.add(piece).is_err() {
        return Outcome::nil_err("no memory");
    }
    fill(args, head, body, drained)
}

/// `read_ahead(sock, max_payload_len, force_masking)` → whether `taken_frame` must be asked after
/// the cosocket's next receive(2), whatever that returns.
pub fn read_ahead(args: &Args) -> Outcome {
    let (Some(socket), Some(max)) = (args.cosocket(1), args.number(2)) else {
        return Outcome::one(Value::Bool(false));
    };
    let wanted = Wanted { max: max as u64, masked: args.truth(3), measure: large_frame };
    let own = args.has_native_methods(1, &[Method::Receive, Method::ReceiveAny]);
    Outcome::one(Value::Bool(own && socket.read_ahead(wanted)))
}

/// `taken_frame(sock, first two bytes or nil)` → what `frame_rest` returns, if the frame is a large
/// one of which bytes were taken past the cosocket; nothing otherwise.
pub fn taken_frame(args: &Args) -> Outcome {
    let Some(socket) = args.cosocket(1) else { return Outcome::none() };
    let head = head_again(args, 2);
    let whole_or_part = socket.taken(|bytes| {
        let head = head?;
        let (ext, body) = bytes.split_at_mut_checked(head.ext_len())?;
        let size = rest_len(head, ext, f64::MAX).ok()? as usize;
        Some(if body.len() < size {
            let mut part = LargeBody::new(size);
            match part.add(body) {
                Ok(()) => Err((head, part)),
                Err(err) => Ok(Outcome::nil_err(IoError::from(err).to_string())),
            }
        } else if let (true, Some((key, payload))) = (head.masked, body.split_first_chunk_mut()) {
            mask::apply(*key, 0, payload);
            Ok(frame_of(head, Value::View(payload.as_ptr(), payload.len())))
        } else {
            Ok(frame_of(head, Value::View(body.as_ptr(), body.len())))
        })
    });
    match whole_or_part.flatten() {
        Some(Ok(whole)) => whole,
        Some(Err((head, part))) => fill(args, head, part, true),
        None => Outcome::none(),
    }
}

/// The length of the frame that begins with `bytes`, if that is a large one that may be received.
fn large_frame(bytes: &[u8], wanted: Wanted) -> Option<usize> {
    let (first, rest) = bytes.split_first_chunk()?;
    let masking = if wanted.masked { Masking::Required } else { Masking::Optional };
    let head = FrameHeader::parse(*first, 0, masking).ok()?;
    let ext = rest.get(..head.ext_len())?;
    let body = rest_len(head, ext, wanted.max as f64).ok().filter(|len| *len > LARGE)?;
    Some(first.len() + ext.len() + body as usize)
}

/// Reads what is there of a body, unless it is whole, and returns what `frame_rest` does. `drained`
/// says that the cosocket's buffer is empty.
fn fill(args: &Args, head: FrameHeader, mut body: LargeBody, drained: bool) -> Outcome {
    let mut failed = None;
    if drained {
        if let Some(socket) = args.cosocket(1) {
            failed = body.fill(&socket).err();
            if body.missing() == 0 {
                socket.note_end(2 + head.ext_len() + body.size());
            }
        }
    }
    if body.missing() > 0 {
        let missing = Value::Int(body.missing() as i64);
        let failed = failed.map_or(Value::Nil, Value::errno);
        let body = match args.body(5) {
            Some(kept) => {
                kept.replace(body);
                Value::Arg(5)
            }
            None => Value::Object(Object::Body(Box::new(RefCell::new(body)))),
        };
        return Outcome::four(Value::Bool(false), missing, body, failed);
    }
    let mut bytes = body.into_bytes();
    if let (true, Some(key)) = (head.masked, bytes.first_chunk().copied()) {
        // A server that masks is rare enough to move its bytes.
        bytes.drain(..key.len());
        mask::apply(key, 0, &mut bytes);
    }
    frame_of(head, Value::Payload(bytes))
}
