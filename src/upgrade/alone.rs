//! An upgrade without Lua, for content handlers: where the 101 has to wait, nginx's events go on
//! with it. The connection then lives by itself; what the content handler returns keeps it.

use super::{open, start, Error, Wish};
use crate::ngx::request::Request;
use crate::ngx::respond::GoOn;
use crate::ngx::switch::{once_sent, Switched};

/// Upgrades a request whose body has been read. Returns what the content handler returns.
pub fn run(r: Request, wish: Wish<'_>) -> isize {
    match start(r, wish) {
        Ok(started) if started.switched == Switched::Sent => Begin::go_on(r),
        Ok(_) => once_sent::<Begin>(r),
        Err(err) => refused(r, &err),
    }
}

/// Says in the log why there is no upgrade. Returns the status.
pub fn refused(r: Request, err: &Error) -> isize {
    r.info(&format!("websocket upgrade refused: {err}"));
    err.status() as isize
}

/// What comes after the 101.
struct Begin;

impl GoOn for Begin {
    const WHAT: &'static str = "websocket upgrade";

    fn go_on(r: Request) -> isize {
        open(r).map_or(500, |_| r.hold())
    }
}
