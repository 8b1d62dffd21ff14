//! The natives behind `websocket.serve()`: the set of connections that a location's callbacks serve,
//! and the light threads that call them. What they call for next comes by `next_event` (fast.rs).

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::ngx_lua::raise_timers;
use crate::ngx::process::connections;
use crate::session::{Callbacks, Runner};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"callback_failed", callback_failed),
    native!(c"location_key", location_key),
    native!(c"runner_lost", runner_lost),
    native!(c"runner_new", runner_new),
    native!(c"runner_rest", runner_rest),
    native!(c"serve", serve),
    native!(c"serving_new", serving_new),
];

const NOT_A_SET: &str = "bad argument #1 (set of callbacks expected)";
const NOT_A_RUNNER: &str = "bad argument #1 (runner expected)";

/// `location_key()` → a number for the location of the current request, as its timers see it.
pub fn location_key(args: &Args) -> Outcome {
    match args.request() {
        Some(r) => Outcome::one(Value::Int(r.location_key())),
        None => Outcome::Raise(NO_REQUEST.into()),
    }
}

/// `serving_new()` → set | nil, err. Each callback that waits takes a timer of ngx_lua's.
pub fn serving_new(_: &Args) -> Outcome {
    match Callbacks::new() {
        Some(set) => {
            raise_timers(connections());
            Outcome::one(Value::Object(Object::Callbacks(set)))
        }
        None => Outcome::nil_err("no memory"),
    }
}

/// `serve(set, session, raw)` → number, whether a runner has to be started
pub fn serve(args: &Args) -> Outcome {
    let Some(set) = args.callbacks(1) else { return Outcome::Raise(NOT_A_SET.into()) };
    match args.object(2) {
        Some(Object::Session(session)) => {
            let (number, starts) = set.add(session, args.truth(3));
            Outcome::two(Value::Int(number.into()), Value::Bool(starts))
        }
        _ => Outcome::Raise(NOT_OURS.into()),
    }
}

/// `runner_lost(set)`: the runner that was asked for could not be started.
pub fn runner_lost(args: &Args) -> Outcome {
    match args.callbacks(1) {
        Some(set) => set.not_started(),
        None => return Outcome::Raise(NOT_A_SET.into()),
    }
    Outcome::none()
}

/// `runner_new(set)` → runner, in the request that runs now | nil, err
pub fn runner_new(args: &Args) -> Outcome {
    let Some(set) = args.callbacks(1) else { return Outcome::Raise(NOT_A_SET.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match Runner::new(set, r) {
        Some(runner) => Outcome::one(Value::Object(Object::Runner(runner))),
        None => Outcome::nil_err("no memory"),
    }
}

/// `runner_rest(runner, again)` → 0 once there may be something to call for | nothing: it is to end; or
/// yields: see wait.lua.
pub fn runner_rest(args: &Args) -> Outcome {
    let Some(runner) = args.runner(1) else { return Outcome::Raise(NOT_A_RUNNER.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    Outcome::waited(runner.rest(r, args.truth(2)), |goes_on| match goes_on {
        true => Outcome::one(Value::Int(0)),
        false => Outcome::none(),
    })
}

/// `callback_failed(runner)`: the callback that runs has raised an error.
pub fn callback_failed(args: &Args) -> Outcome {
    match args.runner(1) {
        Some(runner) => runner.failed(),
        None => return Outcome::Raise(NOT_A_RUNNER.into()),
    }
    Outcome::none()
}
