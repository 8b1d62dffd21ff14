//! Two connections whose messages go from one to the other: a client's session, and the upstream's on
//! a leg. A side that does not take its messages stops the reading of the other, so that no more
//! waits than both high-water marks. Close codes travel both ways.

mod asked;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ws_conn::{Config, Connection, End, IoError, SendError};

use super::looks::{Looks, Side};
use crate::ngx::clock::now_ms;
use crate::ngx::leg::{Leads, Leg};
use crate::ngx::transport::Transport;
use crate::session::{Driver, Partner, Session, Worker};

/// How long either side may take over its close frame once it was told to close, and over taking what
/// waits before that.
const CLOSE_MS: u64 = 3000;

/// What may end a pair by itself, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a side may take nothing of what waits for it.
    pub stuck: u64,
    /// How long there may be no message from either side.
    pub idle: u64,
}

/// The pair.
///
/// The session holds one count until its request has ended or the pair is done, and the pair one of
/// the session: `Session::finish` and the request's end undo the circle. The upstream's connection is
/// nginx's to close, after `Leg::release`.
pub struct Pair {
    pub(super) client: Rc<Session>,
    leg: Leg,
    upstream: RefCell<Upstream>,
    limits: Limits,
    /// Set where a handler owns the request: it ends it, and may look at every message.
    pub(super) looks: Option<Looks>,
    /// The last look has left something to do: messages, or a side without room for them.
    held: Cell<bool>,
    /// Nobody is there any more who would take what comes.
    forsaken: Cell<bool>,
    done: Cell<bool>,
}

struct Upstream {
    driver: Driver,
    /// It was told how the client has ended, and the client how it has.
    told: bool,
    told_client: bool,
    /// When a message last went either way.
    last: u64,
}

impl Pair {
    /// A pair of `client` and a connection that has just been made; the leg is to be attached.
    pub fn new(client: Rc<Session>, config: &Config, limits: Limits) -> Rc<Pair> {
        let mut driver = Driver::new(config);
        driver.begin();
        Pair::with(client, driver, limits, None)
    }

    /// The same, of a connection that has begun.
    pub(super) fn with(
        client: Rc<Session>,
        mut driver: Driver,
        limits: Limits,
        looks: Option<Looks>,
    ) -> Rc<Pair> {
        driver.conn.hold_close();
        let upstream = Upstream { driver, told: false, told_client: false, last: now_ms() };
        let (leg, upstream) = (Leg::new(), RefCell::new(upstream));
        let (held, forsaken, done) = (Cell::new(true), Cell::new(false), Cell::new(false));
        Rc::new(Pair { client, leg, upstream, limits, looks, held, forsaken, done })
    }

    /// Whether both sides have ended.
    pub(super) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Notes whether the upstream's connection was closed by its owner.
    fn check(&self, driver: &mut Driver) {
        if !self.leg.check() {
            driver.conn.lost(IoError::Closed);
        }
    }

    /// Begins to carry, later in this turn of the event loop: both sides may be over already, and the
    /// request with them, which the caller still uses. `first` came behind the upstream's 101,
    /// `random` spreads heartbeats.
    pub fn begin(self: &Rc<Pair>, first: &[u8], random: u32) {
        {
            let conn = &mut self.upstream.borrow_mut().driver.conn;
            conn.preread(&Worker, first);
            let beat = conn.first_timeout(&Worker, random);
            self.leg.set_timer(self.next_look(beat), false);
        }
        self.client.join(self.clone());
        self.leg.post_flush();
    }

    /// In how many milliseconds something may be due, where something else is `due` by then.
    fn next_look(&self, due: Option<u64>) -> u64 {
        self.limits.stuck.min(self.limits.idle).min(due.unwrap_or(u64::MAX)).max(1)
    }

    /// Carries what there is, as far as there is room for it.
    fn carry(&self, upstream: &mut Upstream) {
        let Upstream { driver, last, .. } = upstream;
        let conn = &mut driver.conn;
        let mut fits = true;
        self.held.set(true);
        if self.forsaken.get() {
            self.client.pass(|_| true);
            conn.pass(&Worker, self.leg.io(), |_| true);
        } else if let Some(looks) = self.looks.as_ref().filter(|looks| looks.at_messages) {
            if self.hands_over(looks, conn) {
                return;
            }
            if conn.may_pass() && looks.wants(Side::Client) {
                self.client.pass(|message| {
                    *last = now_ms();
                    fits &= looks.see_message(Side::Client, message);
                    false
                });
            }
            if self.client.may_pass() && looks.wants(Side::Upstream) {
                conn.pass(&Worker, self.leg.io(), |message| {
                    *last = now_ms();
                    fits &= looks.see_message(Side::Upstream, message);
                    false
                });
            }
        } else {
            // What the other side cannot be sent any more is of no use to anybody.
            let mut goes_on = |sent: Result<bool, SendError>| {
                fits &= sent != Err(SendError::Io(IoError::NoMemory));
                fits && sent.unwrap_or(true)
            };
            if conn.may_pass() {
                self.client.pass(|message| {
                    *last = now_ms();
                    let sent = conn.pass_on(&Worker, self.leg.io(), message);
                    goes_on(sent.map(|_| conn.may_pass()))
                });
            }
            if self.client.may_pass() {
                conn.pass(&Worker, self.leg.io(), |message| {
                    *last = now_ms();
                    goes_on(self.client.pass_on(message))
                });
            }
        }
        if !fits {
            self.give_up(driver);
        }
        driver.react(&self.leg, None);
        let quiet = driver.conn.is_quiet(self.leg.io()) && self.client.is_quiet();
        self.held.set(!quiet);
    }

    /// There was no memory for a message: neither side is to miss it without being told.
    fn give_up(&self, driver: &mut Driver) {
        if driver.conn.end().is_none() {
            self.leg.info("websocket connection closed: no memory");
            driver.conn.end_with(&Worker, 1011, b"");
        }
    }

    /// Tells each side how the other has ended. Whether both have.
    fn settle(&self, upstream: &mut Upstream) -> bool {
        let Upstream { driver, told, told_client, .. } = upstream;
        let client_end = self.client.ended_as();
        let first = !*told && !*told_client;
        if let Some(end) = client_end.as_ref().filter(|_| !*told) {
            *told = true;
            let (code, reason) = passed_on(end).unwrap_or((Some(1001), Vec::new()));
            match self.looks.as_ref().filter(|_| first) {
                Some(looks) if looks.at_messages => looks.see_end(Side::Client, code, reason),
                _ => self.close_upstream(driver, code, &reason),
            }
        }
        let first = !*told && !*told_client;
        let conn = &driver.conn;
        let end = conn.end().or(conn.held_close()).filter(|_| !conn.has_items());
        if let Some(end) = end.filter(|_| !*told_client) {
            *told_client = true;
            // Who has closed gets the upstream's answer, or else the echo of RFC 6455 5.5.1.
            let lost = || (Some(1011), b"upstream connection lost".to_vec());
            let echo = || {
                let own = client_end.as_ref().and_then(passed_on);
                own.map(|(code, _)| (code, Vec::new()))
            };
            let (code, reason) = passed_on(end).or_else(echo).unwrap_or_else(lost);
            match self.looks.as_ref().filter(|_| first) {
                Some(looks) if looks.at_messages => looks.see_end(Side::Upstream, code, reason),
                _ => self.client.farewell(code, &reason, CLOSE_MS),
            }
        }
        let gone = conn.write_end().is_some() || conn.buffered() == 0;
        self.client.is_over() && conn.end().is_some() && gone
    }

    fn close_upstream(&self, driver: &mut Driver, code: Option<u16>, reason: &[u8]) {
        if driver.conn.close(&Worker, code, reason, CLOSE_MS) {
            self.leg.set_timer(CLOSE_MS, true);
        }
        driver.react(&self.leg, None);
    }

    /// Closes a side with this code and reason.
    pub(super) fn close(&self, side: Side, code: Option<u16>, reason: &[u8]) {
        let mut upstream = self.upstream.borrow_mut();
        self.check(&mut upstream.driver);
        match side {
            Side::Client => {
                upstream.told_client = true;
                self.client.farewell(code, reason, CLOSE_MS);
            }
            Side::Upstream => {
                upstream.told = true;
                self.close_upstream(&mut upstream.driver, code, reason);
            }
        }
    }

    /// Nobody takes any more what comes. The end of the turn closes both sides: a finalizer, which may
    /// run anywhere, uses no connection.
    pub(super) fn forsake(&self) {
        if !self.forsaken.replace(true) {
            self.held.set(true);
            self.leg.post_flush();
        }
    }

    /// Closes both sides if the handler was killed.
    fn notice_kill(&self) {
        let Some(looks) = &self.looks else { return };
        if self.done.get() || !self.forsaken.get() && !looks.is_forsaken() {
            return;
        }
        self.forsaken.set(true);
        looks.clear();
        for side in [Side::Client, Side::Upstream] {
            self.close(side, Some(1001), b"");
        }
    }

    /// Shows the handler the pings that have come, one of each side at a time.
    fn show_pings(&self, upstream: &mut Upstream) {
        let Some(looks) = self.looks.as_ref().filter(|looks| looks.at_pings) else { return };
        for side in [Side::Client, Side::Upstream] {
            let ping = match side {
                _ if !looks.wants(side) => None,
                Side::Client => self.client.take_ping(),
                Side::Upstream => upstream.driver.conn.take_ping(),
            };
            if let Some(ping) = ping {
                looks.see_ping(side, ping);
            }
        }
    }

    /// Where the handler waits, it is woken to take by itself what has come, without a copy between;
    /// should it be gone when its turn comes, the flush at the end of this one carries.
    fn hands_over(&self, looks: &Looks, conn: &Connection) -> bool {
        if !looks.is_awaited() || !self.leg.is_attached() {
            return false;
        }
        let up = conn.may_pass() && self.client.may_hand_over();
        let down = conn.may_hand_over() && conn.has_bytes(self.leg.io()) && self.client.may_pass();
        if up || down {
            looks.wake();
            self.leg.post_flush();
        }
        up || down
    }

    /// Does what is due.
    fn look(&self, upstream: &mut Upstream) {
        let now = now_ms();
        if self.client.stuck_for().is_some_and(|ms| ms >= self.limits.stuck) {
            self.leg.info("websocket client took nothing in time");
            self.client.shutdown();
        }
        if upstream.driver.conn.buffered() > 0 {
            // As `stuck_for`.
            upstream.driver.flush(&self.leg, None);
        }
        let conn = &mut upstream.driver.conn;
        let waits = conn.buffered() > 0 && conn.end().is_none();
        if waits && now.saturating_sub(conn.last_out()) >= self.limits.stuck {
            self.leg.info("websocket upstream took nothing in time");
            conn.drop_now();
        }
        let quiet = now.saturating_sub(upstream.last);
        let idle_left = self.limits.idle.checked_sub(quiet).filter(|left| *left > 0);
        if idle_left.is_none() {
            self.client.end_with(1001, b"idle");
        }
        let unread = conn.has_bytes(self.leg.io());
        let beat = conn.handle_timeout(&Worker, unread);
        let next = self.next_look(idle_left.into_iter().chain(beat).min());
        self.leg.set_timer(next, conn.is_closing());
        upstream.driver.react(&self.leg, None);
    }
}

/// Code and reason of a close frame that somebody has sent, and that the other side is to see.
fn passed_on(end: &End) -> Option<(Option<u16>, Vec<u8>)> {
    match end {
        End::Closed { code: 1005, .. } => Some((None, Vec::new())),
        End::Closed { code, reason } | End::Ended { code, reason } => {
            Some((Some(*code), reason.clone()))
        }
        _ => None,
    }
}

impl Pair {
    /// Lets go of the upstream's connection.
    pub(super) fn release(&self) {
        self.leg.release();
    }
}

impl Partner for Pair {
    fn tend(&self) {
        self.notice_kill();
        let done = {
            let mut upstream = self.upstream.borrow_mut();
            self.check(&mut upstream.driver);
            self.carry(&mut upstream);
            self.show_pings(&mut upstream);
            self.settle(&mut upstream)
        };
        if !done || self.done.replace(true) {
            return;
        }
        match &self.looks {
            Some(_) if self.forsaken.get() => self.leg.give_back(),
            Some(looks) => looks.wake(),
            None => {
                self.leg.release();
                self.client.finish();
            }
        }
    }

    fn flushed(&self, quiet: bool) {
        if !quiet {
            self.held.set(true);
        }
        // A handler that was woken takes what has come before the end of the turn.
        if self.held.get() && !self.leg.has_posted_flush() {
            self.tend();
        }
    }

    fn ended(&self) {
        // We may be the ones who end the request.
        self.done.set(true);
        if let Ok(mut upstream) = self.upstream.try_borrow_mut() {
            self.check(&mut upstream.driver);
            let conn = &mut upstream.driver.conn;
            conn.close(&Worker, Some(1001), b"", 0);
            conn.flush(&Worker, self.leg.io());
            conn.end_turn(&Worker);
            conn.lost(IoError::Closed);
        }
        self.leg.release();
        if let Some(looks) = &self.looks {
            looks.wake();
        }
    }
}

impl Leads for Pair {
    fn leg(&self) -> &Leg {
        &self.leg
    }

    fn readable(&self) {
        if self.leg.must_drop() {
            self.upstream.borrow_mut().driver.conn.lost(IoError::Closed);
        }
        self.tend();
    }

    fn flush(&self) {
        let quiet = {
            let driver = &mut self.upstream.borrow_mut().driver;
            self.check(driver);
            let was_quiet = driver.conn.is_quiet(self.leg.io());
            driver.turn(&self.leg, None, false);
            was_quiet && driver.conn.is_quiet(self.leg.io())
        };
        self.flushed(quiet);
    }

    fn timer(&self) {
        if self.leg.check() {
            self.look(&mut self.upstream.borrow_mut());
        }
        self.tend();
    }
}
