//! The natives behind the hub's part of `resty.websocket`: publish, subscribe, send by id. They work
//! in every phase; none of them waits.

use ws_hub::topic::check_topic;
use ws_hub::ConnId;
use ws_proto::close as close_frame;

use crate::hub::{self, Error, Scope};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS};

/// `register(session)` → id | nil, err. For a drop-in object, which has none of its own.
pub fn register(args: &Args) -> Outcome {
    match args.object(1) {
        Some(Object::Session(session)) => match hub::register(session) {
            Ok(id) => Outcome::one(Value::Bytes(id.to_string().into_bytes())),
            Err(err) => refuse(err),
        },
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `subscribe(id, topic)` → true when new, false when it was subscribed | nil, err
pub fn subscribe(args: &Args) -> Outcome {
    with_id(args, |id| {
        let topic = args.bytes(2).unwrap_or_default();
        hub::subscribe(&id, topic).map(|fresh| Outcome::one(Value::Bool(fresh)))
    })
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

/// `publish(topic, data, text, except id or nil, worker only)` → subscribers, sequence | nil, err
pub fn publish(args: &Args) -> Outcome {
    let (Some(topic), Some(data)) = (args.bytes(1), args.bytes(2)) else {
        return Outcome::Raise("bad topic or data (string expected)".into());
    };
    let except = match args.bytes(4).map(ConnId::parse) {
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return refuse(Error::BadId),
        None => None,
    };
    let scope = if args.truth(5) { Scope::Worker } else { Scope::Node };
    match hub::publish(topic, args.truth(3), data, except, scope) {
        Ok((subscribers, seq)) => {
            Outcome::two(Value::Int(subscribers as i64), Value::Int(seq as i64))
        }
        Err(err) => refuse(err),
    }
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
        let code = args.number(2).map_or(1000, |code| code as u16);
        debug_assert!(close_frame::may_send(code));
        let reason = args.bytes(3).and_then(|text| std::str::from_utf8(text).ok());
        hub::close(&id, code, reason.unwrap_or_default()).map(|()| Outcome::one(Value::Bool(true)))
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
    match hub::metrics().get(n.wrapping_sub(1)) {
        None => Outcome::none(),
        Some((entry, value)) => {
            let (key, label) = entry.label.unzip();
            let text = |text: Option<&'static str>| text.map_or(Value::Nil, Value::Str);
            Outcome::four(Value::Str(entry.name), Value::Int(*value as i64), text(key), text(label))
        }
    }
}

fn with_id(args: &Args, work: impl FnOnce(ConnId) -> Result<Outcome, Error>) -> Outcome {
    match args.bytes(1).map(ConnId::parse) {
        Some(Ok(id)) => work(id).unwrap_or_else(refuse),
        _ => refuse(Error::BadId),
    }
}

fn refuse(err: Error) -> Outcome {
    Outcome::nil_err(err.to_string())
}
