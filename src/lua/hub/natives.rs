//! The natives behind the hub's part of `resty.websocket`: publish, subscribe, send by id, and what
//! topics remember. They work in every phase; none of them waits.

use ws_hub::counters::TABLE;
use ws_hub::since::Since;
use ws_hub::topic::check_topic;
use ws_hub::ConnId;
use ws_proto::close as close_frame;

use crate::conf::{location_of, Location};
use crate::hub::{self, Errand, Error, Found, History, OnGap, Publish, Receipt, Scope, Wanted};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};
use crate::lua::vm::{native, Native};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"close", close),
    native!(c"close_topic", close_topic),
    native!(c"count", count),
    native!(c"forget", forget),
    native!(c"history", history),
    native!(c"metric", metric),
    native!(c"publish", publish),
    native!(c"register", register),
    native!(c"send", send),
    native!(c"subscribe", subscribe),
    native!(c"take_gap", take_gap),
    native!(c"topics", topics),
    native!(c"unsubscribe", unsubscribe),
];

/// `register(session)` → id | nil, err. For a drop-in object, which has none of its own.
pub fn register(args: &Args) -> Outcome {
    match args.object(1) {
        Some(Object::Session(session)) => match hub::register(session) {
            Ok(id) => Outcome::one(Value::Bytes(id.text().to_vec())),
            Err(err) => refuse(err),
        },
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `subscribe(id, topic, since or nil, json, told of gaps, info or nil)` → cursor or false, recovered, count,
/// reason or nil | nil, err, whether that is misuse
pub fn subscribe(args: &Args) -> Outcome {
    with_id(args, |id| {
        let topic = args.bytes(2).unwrap_or_default();
        let location = args.request().map(location_of);
        let wanted = Wanted {
            since: since(args, 3),
            limit: location.map_or(0, Location::most_resumed),
            most_topics: location.map_or(usize::MAX, Location::most_topics),
            json: args.truth(4),
            on_gap: if args.truth(5) { OnGap::Call } else { OnGap::Close },
            info: args.bytes(6).unwrap_or_default(),
        };
        let state = hub::subscribe(&id, topic, &wanted)?.1;
        let cursor = state.cursor.map_or(Value::Bool(false), |text| Value::Bytes(text.to_vec()));
        let reason = state.reason.map_or(Value::Nil, |reason| Value::Str(reason.name()));
        let count = Value::Int(state.count as i64);
        Ok(Outcome::four(cursor, Value::Bool(state.recovered), count, reason))
    })
}

/// Where messages of before are to begin: a cursor, "last", or how many of the newest.
fn since<'a>(args: &'a Args, index: i32) -> Since<'a> {
    match (args.number(index), args.bytes(index)) {
        (Some(n), _) => Since::Newest(n as usize),
        (None, Some(b"last")) => Since::Newest(1),
        (None, Some(text)) => Since::Cursor(text),
        (None, None) => Since::Now,
    }
}

/// `take_gap(id)` → topic, reason | nothing
pub fn take_gap(args: &Args) -> Outcome {
    match args.bytes(1).map(ConnId::parse) {
        Some(Ok(id)) => match hub::take_gap(&id) {
            Some((topic, reason)) => Outcome::two(Value::Bytes(topic), Value::Str(reason)),
            None => Outcome::none(),
        },
        _ => refuse(Error::BadId),
    }
}

/// `unsubscribe(id, topic or nil)` → how many subscriptions ended | nil, err
pub fn unsubscribe(args: &Args) -> Outcome {
    with_id(args, |id| {
        hub::unsubscribe(&id, args.bytes(2)).map(|n| Outcome::one(Value::Int(n as i64)))
    })
}

/// `topics(id)` → array of topics | nil, err
pub fn topics(args: &Args) -> Outcome {
    with_id(args, |id| {
        let topics = hub::topics(&id)?;
        Ok(Outcome::one(Value::List(topics)))
    })
}

/// `publish(topic or array of them, data, text, except id or nil, scope or nil, key or nil, confirm)`
/// → subscribers, sequence or nil, cursor or nil | an errand that brings them | nil, err, whether that
/// is misuse
pub fn publish(args: &Args) -> Outcome {
    let Some(data) = args.bytes(2) else {
        return Outcome::Raise("bad data (string expected)".into());
    };
    let except = match args.bytes(4).map(ConnId::parse) {
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return refuse(Error::BadId),
        None => None,
    };
    let scope = match args.bytes(5) {
        Some(b"worker") => Some(Scope::Worker),
        Some(b"node") => Some(Scope::Node),
        _ => None,
    };
    let what = Publish { text: args.truth(3), data, except, scope, key: args.bytes(6) };
    let receipt = match args.bytes(1) {
        Some(topic) if args.truth(7) => match hub::publish_confirmed(topic, &what) {
            Ok(Ok(confirm)) => {
                return Outcome::one(Value::Object(Object::Errand(Box::new(Errand::Publish(
                    confirm,
                )))))
            }
            Ok(Err(receipt)) => Ok(receipt),
            Err(err) => Err(err),
        },
        Some(topic) => hub::publish(topic, &what),
        None => {
            let topics = args.strings(1).unwrap_or_default();
            hub::publish_many(&topics.iter().map(Vec::as_slice).collect::<Vec<_>>(), &what)
        }
    };
    published(receipt)
}

/// What `publish` answers.
pub(super) fn published(receipt: Result<Receipt, Error>) -> Outcome {
    match receipt {
        Ok(receipt) => {
            let subscribers = Value::Int(receipt.subscribers as i64);
            let sequence = receipt.sequence.map_or(Value::Nil, |n| Value::Int(n as i64));
            match receipt.cursor {
                Some(text) => Outcome::three(subscribers, sequence, Value::Bytes(text.to_vec())),
                None => Outcome::two(subscribers, sequence),
            }
        }
        Err(err) => refuse(err),
    }
}

/// `history(topic, since or nil, limit, reverse)` → array (of each message data, type, offset,
/// cursor and time), cursor | nil, err
pub fn history(args: &Args) -> Outcome {
    let topic = args.bytes(1).unwrap_or_default();
    let limit = args.number(3).unwrap_or(0.0) as usize;
    let reverse = args.truth(4);
    match hub::history(topic, &since(args, 2), limit, reverse) {
        Ok(History { mut messages, cursor }) => {
            if reverse {
                messages.reverse();
            }
            let mut list = Vec::with_capacity(5 * messages.len());
            for Found { text, data, offset, time, cursor } in messages {
                let typ = if text { "text" } else { "binary" };
                list.extend([data, typ.into(), offset.to_string().into()]);
                list.extend([cursor.to_vec(), time.to_string().into()]);
            }
            Outcome::two(Value::List(list), Value::Bytes(cursor.to_vec()))
        }
        Err(err) => refuse(err),
    }
}

/// `forget(topic)` → whether there was a history | nil, err
pub fn forget(args: &Args) -> Outcome {
    match hub::forget(args.bytes(1).unwrap_or_default()) {
        Ok(was) => Outcome::one(Value::Bool(was)),
        Err(err) => refuse(err),
    }
}

/// `close_topic(topic, code, reason)` → how many connections | nil, err. The shim has checked code and
/// reason.
pub fn close_topic(args: &Args) -> Outcome {
    let (code, reason) = close_words(args);
    match hub::close_topic(args.bytes(1).unwrap_or_default(), code, reason) {
        Ok(n) => Outcome::one(Value::Int(n as i64)),
        Err(err) => refuse(err),
    }
}

/// Code and reason of a close, which the shim has checked.
fn close_words<'a>(args: &'a Args) -> (u16, &'a str) {
    let code = args.number(2).map_or(1000, |code| code as u16);
    debug_assert!(close_frame::may_send(code));
    let reason = args.bytes(3).and_then(|text| std::str::from_utf8(text).ok());
    (code, reason.unwrap_or_default())
}

/// `send(id, data, text)` → true | nil, err
pub fn send(args: &Args) -> Outcome {
    with_id(args, |id| {
        let data = args.bytes(2).unwrap_or_default();
        hub::send(&id, args.truth(3), data).map(|()| Outcome::one(Value::Bool(true)))
    })
}

/// `close(id, code, reason)` → true | nil, err. The shim has checked code and reason.
pub fn close(args: &Args) -> Outcome {
    with_id(args, |id| {
        let (code, reason) = close_words(args);
        hub::close(&id, code, reason).map(|()| Outcome::one(Value::Bool(true)))
    })
}

/// `count(topic or nil)` → connections of all workers, or subscribers | nil, err
pub fn count(args: &Args) -> Outcome {
    match args.bytes(1) {
        None => Outcome::one(Value::Int(hub::connections() as i64)),
        Some(topic) => match check_topic(topic) {
            Ok(()) => Outcome::one(Value::Int(hub::subscribers(topic) as i64)),
            Err(err) => refuse(Error::Topic(err)),
        },
    }
}

/// `metric(n)` → name, value, label name, label value of the n-th number (from 1) | nothing.
pub fn metric(args: &Args) -> Outcome {
    let n = args.number(1).unwrap_or(0.0) as usize;
    match TABLE.get(n.wrapping_sub(1)) {
        None => Outcome::none(),
        Some(entry) => {
            let (key, label) = entry.label.unzip();
            let text = |text: Option<&'static str>| text.map_or(Value::Nil, Value::Str);
            let value = hub::sum(entry.counter);
            Outcome::four(Value::Str(entry.name), Value::Int(value as i64), text(key), text(label))
        }
    }
}

fn with_id(args: &Args, work: impl FnOnce(ConnId) -> Result<Outcome, Error>) -> Outcome {
    match args.bytes(1).map(ConnId::parse) {
        Some(Ok(id)) => work(id).unwrap_or_else(refuse),
        _ => refuse(Error::BadId),
    }
}

/// The shim raises misuse where the user called it.
pub(super) fn refuse(err: Error) -> Outcome {
    let text = Value::Bytes(err.to_string().into_bytes());
    match err.is_misuse() {
        true => Outcome::three(Value::Nil, text, Value::Bool(true)),
        false => Outcome::two(Value::Nil, text),
    }
}
