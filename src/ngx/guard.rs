//! The door of callbacks from C that run code of ours which may panic: events, cleanups, directives, content
//! handlers, natives. A panic, a bug of ours, must not unwind into C: Rust ends the process there.
//! Callbacks without a door only move pointers and marks, or format a line.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::log;

/// Runs `body`; a panic is logged at alert level and answered with `fallback`.
///
/// `AssertUnwindSafe` is justified because callers then end the one request or connection that they were
/// working for, and because borrows of a session's state end with the panic.
#[inline]
pub fn guarded<R>(what: &str, fallback: R, body: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            report(what, &*payload);
            fallback
        }
    }
}

/// Apart, because it needs a stack frame of 2 KiB, which each guarded call would have otherwise.
#[cold]
#[inline(never)]
fn report(what: &str, payload: &(dyn Any + Send)) {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_string());
    log::alert(&format!("websocket: bug in {what}: {text}"));
}
