//! Texts that natives answer, and shims too or compare with: said once. And a peer's, for the log.

use super::entry::{Args, Outcome, Value};
use super::preload::{native, Native};
use crate::ngx::log;
use crate::ngx::lua_wait::CANNOT_WAIT;

/// The natives of this file.
pub const NATIVES: &[Native] = &[native!(c"texts", texts), native!(c"escaped", escaped)];

/// To a call of the other style inside a message.
pub const MIXED: &str =
    "frame calls and message calls may not be mixed while a message is half read";
/// Where another light thread reads: ngx_lua's words.
pub const BUSY: &str = "socket busy reading";

/// `texts()` → MIXED, CANNOT_WAIT, BUSY
fn texts(_args: &Args) -> Outcome {
    Outcome::three(Value::Str(MIXED), Value::Str(CANNOT_WAIT), Value::Str(BUSY))
}

/// `escaped(text)` → the same, fit for a line of the log.
fn escaped(args: &Args) -> Outcome {
    let text = args.bytes(1).unwrap_or_default();
    Outcome::one(Value::Bytes(log::escaped(text).into_owned()))
}
