//! What waits for a handler that looks at a pair's messages, and the handler that waits for it. One message
//! of each side waits at a time, so what a slow handler holds is bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use ws_conn::{Passing, View};

use crate::ngx::lua_wait::{Wait, Waiters};
use crate::ngx::request::Request;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who has asked us.
    Client,
    /// Whom we have asked.
    Upstream,
}

impl Side {
    /// The one across.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Upstream,
            Side::Upstream => Side::Client,
        }
    }
}

/// What the handler is shown.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whose it is.
    pub from: Side,
    /// What came.
    pub what: What,
}

/// What came of a side.
#[derive(Clone, Debug)]
pub enum What {
    /// A message: whether it is text, and its bytes.
    Message(bool, Vec<u8>),
    /// A ping, which has been answered.
    Ping(Vec<u8>),
    /// A message that lies where it was read: to be copied before any connection is used again.
    Here(View),
    /// It has ended, before the other; the other side is to be told this.
    Ended(Option<u16>, Vec<u8>),
}

/// The handler's part of a pair.
pub struct Looks {
    /// Whether it looks at messages, or waits for the end alone.
    pub at_messages: bool,
    /// Whether it looks at pings.
    pub at_pings: bool,
    seen: RefCell<VecDeque<Seen>>,
    waiter: Waiters,
    /// The handler waits, and has not been woken.
    parked: Cell<bool>,
    /// Whose turn it is.
    turn: Cell<Side>,
}

impl Looks {
    /// Nothing is to be seen yet.
    pub fn new(at_messages: bool, at_pings: bool) -> Looks {
        Looks {
            at_messages,
            at_pings,
            seen: RefCell::default(),
            waiter: Waiters::default(),
            parked: Cell::new(false),
            turn: Cell::new(Side::Client),
        }
    }

    /// Whether a message of this side may come: none of it waits.
    pub fn wants(&self, side: Side) -> bool {
        self.seen.borrow().iter().all(|seen| seen.from != side)
    }

    /// Keeps something for the handler.
    fn see(&self, from: Side, what: What) {
        self.seen.borrow_mut().push_back(Seen { from, what });
        self.wake();
    }

    /// A message has come. False: there is no memory for it.
    pub fn see_message(&self, from: Side, message: Passing<'_>) -> bool {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(message.data.len()).is_err() {
            return false;
        }
        copy.extend_from_slice(message.data);
        self.see(from, What::Message(message.text, copy));
        true
    }

    /// Whether the handler waits, and nothing is to be seen yet.
    pub fn is_awaited(&self) -> bool {
        self.waiter.waiters() > 0 && self.seen.borrow().is_empty()
    }

    /// Which side's message is looked for first: that whose was not the last.
    pub fn next_side(&self) -> Side {
        self.turn.get()
    }

    /// A message of this side has been taken.
    pub fn note_side(&self, side: Side) {
        self.turn.set(side.other());
    }

    /// A ping has come.
    pub fn see_ping(&self, from: Side, data: Vec<u8>) {
        self.see(from, What::Ping(data));
    }

    /// A side has ended.
    pub fn see_end(&self, from: Side, code: Option<u16>, reason: Vec<u8>) {
        self.see(from, What::Ended(code, reason));
    }

    /// Wakes the handler.
    pub fn wake(&self) {
        if self.waiter.waiters() > 0 {
            self.parked.set(false);
            self.waiter.wake_all();
        }
    }

    /// The light thread that waited has been woken, or its time is over.
    pub fn resumed(&self) {
        self.parked.set(false);
    }

    /// Whether the light thread that waited has been killed.
    pub fn is_forsaken(&self) -> bool {
        self.parked.get() && self.waiter.waiters() == 0
    }

    /// What the handler is to see next.
    pub fn next(&self) -> Option<Seen> {
        self.seen.borrow_mut().pop_front()
    }

    /// What waits is not looked at any more.
    pub fn clear(&self) {
        self.seen.borrow_mut().clear();
    }

    /// Parks the light thread that runs in `r` until something is to be seen.
    pub fn park<T>(&self, r: Request) -> Wait<T> {
        let parked = self.waiter.park(r, i32::MAX as u64);
        self.parked.set(matches!(parked, Wait::Parked));
        parked
    }
}
