//! The natives behind `websocket.presence` and `websocket.cluster_count`.

use std::cell::RefCell;

use super::natives::refuse;
use crate::hub::{self, Answer, Roll};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::lua_wait::Wait;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"presence_ask", ask),
    native!(c"presence_take", take),
    native!(c"presence_wait", wait),
];

/// `presence_ask(topic, whether only their number is asked for)` → roll | nil, err
pub fn ask(args: &Args) -> Outcome {
    let ask = if args.truth(2) { hub::ask_how_many } else { hub::ask };
    match ask(args.bytes(1).unwrap_or_default()) {
        Ok(roll) => Outcome::one(Value::Object(Object::Roll(Box::new(RefCell::new(roll))))),
        Err(err) => refuse(err),
    }
}

/// `presence_take(roll)` → members (of each its id, the length of its info in two bytes, and that),
/// node | false, how many subscribe, how many machines have answered, how many there are | nothing:
/// more is to come
pub fn take(args: &Args) -> Outcome {
    let Some(roll) = roll(args) else { return Outcome::Raise(NOT_OURS.into()) };
    let mut members = Vec::new();
    let answer = roll.borrow_mut().take(|number, info| {
        members.extend(hex(number));
        members.extend((info.len() as u16).to_be_bytes());
        members.extend(info.as_bytes());
    });
    match answer {
        Answer::Members(node) => {
            let node = Value::Bytes(format!("{:08x}", node.0).into_bytes());
            Outcome::two(Value::Bytes(members), node)
        }
        Answer::Wait => Outcome::none(),
        Answer::Done(all, answered) => {
            let count = |n: usize| Value::Int(n as i64);
            let (told, known) = (count(answered.machines), count(answered.known));
            Outcome::four(Value::Bool(false), Value::Int(all as i64), told, known)
        }
    }
}

/// `presence_wait(roll, whether a piece was taken)`: until there is more, or others have had their
/// turn. A boolean | nil, err where the phase cannot wait.
pub fn wait(args: &Args) -> Outcome {
    let Some(roll) = roll(args) else { return Outcome::Raise(NOT_OURS.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match roll.borrow().park(r, args.truth(2)) {
        Wait::Ready(never) => match never {},
        Wait::Parked => Outcome::Yield,
        Wait::Denied(text) => Outcome::nil_err(text),
    }
}

/// As `{:016x}` has it, at a fifth of its cost: there is one for each member.
fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15])
}

fn roll<'l>(args: &Args<'l>) -> Option<&'l RefCell<Roll>> {
    match args.object(1)? {
        Object::Roll(roll) => Some(roll),
        _ => None,
    }
}
