//! A pair whose request a handler owns: it waits for the end, and may look at each message before that
//! goes on.

use std::ops::Deref;
use std::rc::Rc;

use ws_conn::{End, SendError};

use super::looks::{Looks, Seen, Side, What};
use super::pair::{Limits, Pair};
use crate::ngx::cosocket::Cosocket;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::session::{Carried, Partner, Session};

/// The handler's hold of its pair. Once Lua has let go of it nobody takes what comes: the light thread
/// was killed.
pub struct Held(Rc<Pair>);

impl Deref for Held {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.forsake();
    }
}

/// Has messages go between a client and the connection that a cosocket of this handler's has made,
/// and nobody uses meanwhile: somebody waits there for bytes, and its buffer is empty. `looks` says
/// how the handler looks at each. Without a cosocket the upstream's stream has ended.
pub fn join(
    client: &Rc<Session>,
    upstream: &mut Carried,
    socket: Option<&Cosocket<'_>>,
    limits: Limits,
    looks: Looks,
    random: u32,
) -> Held {
    let mut driver = upstream.take_driver();
    if looks.at_pings {
        client.show_pings();
        driver.conn.show_pings();
    }
    let pair = Pair::with(client.clone(), driver, limits, Some(looks));
    if let Some(socket) = socket {
        socket.lend_events(&pair);
    }
    pair.begin(&[], random);
    Held(pair)
}

impl Pair {
    /// What comes next, which may be a view, or parks the light thread that runs in `r`. None: both sides have ended.
    pub fn take(&self, r: Request) -> Wait<Option<Seen>> {
        let Some(looks) = &self.looks else { return Wait::Ready(None) };
        looks.resumed();
        if let Some(seen) = looks.next() {
            return Wait::Ready(Some(seen));
        }
        if !self.is_done() {
            if looks.at_messages {
                if let Some((from, view)) = self.take_view(looks) {
                    return Wait::Ready(Some(Seen { from, what: What::Here(view) }));
                }
            }
            self.tend();
        }
        if let Some(seen) = looks.next() {
            return Wait::Ready(Some(seen));
        }
        if self.is_done() {
            self.release();
            return Wait::Ready(None);
        }
        looks.park(r)
    }

    /// Sends a message to the side across from `from`; `known` says that it is as it came from there.
    pub fn pass_on(
        &self,
        from: Side,
        text: bool,
        data: &[u8],
        known: bool,
    ) -> Result<(), SendError> {
        self.send(from.other(), text, data, known)
    }

    /// Sends a ping to the side across from `from`.
    pub fn ping(&self, from: Side, data: &[u8]) -> Result<(), SendError> {
        self.send_ping(from.other(), data)
    }

    /// Tells the side across from `from` how that has ended.
    pub fn tell(&self, from: Side, code: Option<u16>, reason: &[u8]) {
        self.close(from.other(), code, reason);
    }

    /// Closes both sides.
    pub fn close_both(&self, code: u16, reason: &[u8]) {
        for side in [Side::Client, Side::Upstream] {
            self.close(side, Some(code), reason);
        }
        if let Some(looks) = &self.looks {
            looks.clear();
        }
    }

    /// How client and upstream have ended.
    pub fn ends(&self) -> (Option<End>, Option<End>) {
        (self.client.ended_as(), self.upstream_end())
    }
}
