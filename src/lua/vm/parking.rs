//! Waiting for what only Lua knows of: a place where light threads wait until another one, or a timer,
//! wakes them. The shims' side is `wait.lua`.

use super::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use super::{native, Native};
use crate::ngx::lua_wait::{self, Waiters};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"can_wait", can_wait),
    native!(c"park", park),
    native!(c"waiters", new),
    native!(c"wake", wake),
];

/// `can_wait()` → whether the caller's light thread may be left where it is. Not in phases that have
/// none, in a finalizer, or in a callback of table.sort.
pub fn can_wait(_args: &Args) -> Outcome {
    Outcome::one(Value::Bool(lua_wait::can_yield()))
}

/// `waiters()` → a place to wait at.
pub fn new(_args: &Args) -> Outcome {
    Outcome::one(Value::Object(Object::Waiters(Waiters::default())))
}

/// `park(waiters, ms)`: until somebody wakes it, or the time is over. A boolean | nil, err where the
/// caller cannot wait.
pub fn park(args: &Args) -> Outcome {
    let (Some(waiters), Some(ms)) = (waiters(args), args.number(2)) else {
        return Outcome::Raise(NOT_OURS.into());
    };
    match args.request() {
        Some(r) => Outcome::parked(waiters.park(r, ms as u64)),
        None => Outcome::nil_err(NO_REQUEST),
    }
}

/// `wake(waiters)`: resumes all who wait.
pub fn wake(args: &Args) -> Outcome {
    match waiters(args) {
        Some(waiters) => waiters.wake_all(),
        None => return Outcome::Raise(NOT_OURS.into()),
    }
    Outcome::none()
}

fn waiters<'l>(args: &Args<'l>) -> Option<&'l Waiters> {
    match args.object(1)? {
        Object::Waiters(waiters) => Some(waiters),
        _ => None,
    }
}
