//! The natives behind calls that wait for a broker: `publish` with `confirm`, and what needs a history that
//! a broker keeps.

use super::natives::{published, refuse};
use crate::hub::{self, Errand, Error, Pending};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::lua_wait::Wait;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"errand_answer", answer),
    native!(c"errand_fetch", fetch),
    native!(c"errand_forget", forget),
];

/// As an object for Lua.
pub fn object(errand: Errand) -> Value {
    Value::Object(Object::Errand(Box::new(errand)))
}

/// `errand_fetch(topic, most milliseconds or nil)` → errand | nothing: no need | nil, err
fn fetch(args: &Args) -> Outcome {
    let within = |pending: Pending| match args.number(2) {
        Some(ms) => pending.within(ms as u64),
        None => pending,
    };
    match hub::fetch(args.bytes(1).unwrap_or_default()) {
        Ok(None) => Outcome::none(),
        Ok(Some(pending)) => Outcome::one(object(Errand::Fetch(within(pending)))),
        Err(err) => refuse(err),
    }
}

/// `errand_forget(topic)` → errand | nothing: no broker keeps it | nil, err
fn forget(args: &Args) -> Outcome {
    match hub::forget_afar(args.bytes(1).unwrap_or_default()) {
        Ok(None) => Outcome::none(),
        Ok(Some(pending)) => Outcome::one(object(Errand::Forget(pending))),
        Err(err) => refuse(err),
    }
}

/// `errand_answer(errand)` → what the call answers: of `publish` its results, else 1 or 0 | nil, err, whether
/// that is misuse, as to ask where the phase cannot wait; or yields: see wait.lua.
fn answer(args: &Args) -> Outcome {
    let Some(errand) = errand(args) else { return Outcome::Raise(NOT_OURS.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let answer = match errand {
        Errand::Publish(confirm) => confirm.take().map(published),
        // Who reads has nothing to repeat, however it failed.
        Errand::Fetch(pending) => pending.take().map(|fetched| match fetched {
            Ok(_) => Outcome::one(Value::Int(1)),
            Err(_) => refuse(Error::BrokerUnavailable),
        }),
        Errand::Forget(pending) => pending.take().map(|forgotten| match forgotten {
            Ok(placed) => Outcome::one(Value::Int(i64::from(!placed.repeated))),
            Err(why) => refuse(why.into()),
        }),
    };
    answer.unwrap_or_else(|| match errand.pending().park(r) {
        Wait::Ready(never) => match never {},
        Wait::Parked => Outcome::Yield,
        Wait::Denied(text) => {
            Outcome::three(Value::Nil, Value::Bytes(text.into_bytes()), Value::Bool(true))
        }
    })
}

fn errand<'l>(args: &Args<'l>) -> Option<&'l Errand> {
    match args.object(1)? {
        Object::Errand(errand) => Some(errand),
        _ => None,
    }
}
