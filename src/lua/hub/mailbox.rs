//! The natives behind the hub's mailboxes: for shims whose programs look at what was published
//! before a connection gets it.

use crate::hub::{self, Mailbox};
use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"mailbox_open", open),
    native!(c"mailbox_take", take),
    native!(c"mailbox_wait", wait),
    native!(c"mailbox_wake", wake),
];

/// `mailbox_open()` → mailbox, id | nil, err
pub fn open(_args: &Args) -> Outcome {
    match hub::open_mailbox() {
        Ok(mailbox) => {
            let id = mailbox.id().text().to_vec();
            Outcome::two(Value::Object(Object::Mailbox(mailbox)), Value::Bytes(id))
        }
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// `mailbox_take(mailbox)` → topic, data | nil, messages lost since the last time | nothing
pub fn take(args: &Args) -> Outcome {
    let Some(mailbox) = mailbox(args) else { return Outcome::Raise(NOT_OURS.into()) };
    match mailbox.take() {
        Some((topic, data)) => Outcome::two(Value::Bytes(topic.into_vec()), Value::Bytes(data)),
        None => match mailbox.lost() {
            0 => Outcome::none(),
            lost => Outcome::two(Value::Nil, Value::Int(lost as i64)),
        },
    }
}

/// `mailbox_wait(mailbox, ms)`: until a message comes, somebody wakes it, or the time is over. A
/// boolean | nil, err where the phase cannot wait.
pub fn wait(args: &Args) -> Outcome {
    let Some(mailbox) = mailbox(args) else { return Outcome::Raise(NOT_OURS.into()) };
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    Outcome::parked(mailbox.park(r, args.number(2).unwrap_or(0.0) as u64))
}

/// `mailbox_wake(mailbox)`: resumes who waits.
pub fn wake(args: &Args) -> Outcome {
    match mailbox(args) {
        Some(mailbox) => mailbox.wake(),
        None => return Outcome::Raise(NOT_OURS.into()),
    }
    Outcome::none()
}

fn mailbox<'l>(args: &Args<'l>) -> Option<&'l Mailbox> {
    match args.object(1)? {
        Object::Mailbox(mailbox) => Some(mailbox),
        _ => None,
    }
}
