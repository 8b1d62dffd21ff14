//! Connections whose messages go to callbacks: who has something to tell, and the light threads
//! (runners) that call. One set for each location, because a runner's resolver, time-outs and log are
//! those of the request that it was started from.
//!
//! Ready connections stand in a queue. A runner takes one, calls, and takes the next, so that many
//! connections share one light thread for as long as no callback waits. One that does takes its runner
//! with it: before each call there is another, idle one, for the others.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use ws_conn::View;

use super::server::Session;
use super::waiting::Sink;
use crate::ngx::clock::now_ms;
use crate::ngx::lending;
use crate::ngx::log;
use crate::ngx::lua_wait::{Semaphore, Wait};
use crate::ngx::posted::Posted;
use crate::ngx::request::Request;
use crate::ngx::timer_request::TimerRequest;

/// Messages of one connection in a row, while others are ready.
const VISIT: u32 = 32;
/// Calls of one runner before the event loop has its turn: a peer that sends faster than it is
/// answered would keep the worker to itself.
const TURN: u32 = 256;
/// Calls after which a runner makes room for a new one: what callbacks leave in its request (memory of
/// light threads, of cosockets) is freed with it.
const LIFE: u32 = 1000;
/// Idle runners that stay.
const SPARE: i32 = 2;
/// A runner that has not begun after so many milliseconds will not: nginx had no connection for it.
const START: u64 = 1000;

thread_local! {
    /// Sets whose queue is looked at once this turn's Lua code has returned.
    static DUE: RefCell<Vec<Weak<Callbacks>>> = RefCell::default();
    static CHECK: Posted = const { Posted::new() };
    /// Sets with runners that let the event loop have its turn.
    static PAUSED: RefCell<Vec<Weak<Callbacks>>> = RefCell::default();
    static NEXT_TURN: Posted = const { Posted::new() };
}

/// What a runner calls for, and for which connection.
#[derive(Debug)]
pub enum Event {
    /// For none: rest.
    Nothing,
    /// It has been opened.
    Open(u32),
    /// A message, to be copied before anything else.
    Message(u32, View),
    /// A message for a callback that looks at it where it lies.
    Raw(u32, View),
    /// Something that was subscribed with a handler for gaps has one.
    Gap(u32),
    /// Output was above the high-water mark, and is below it again.
    Drain(u32),
    /// It has ended. Its number is free when the runner comes back.
    Closed(u32),
}

/// A connection of a set.
struct Slot {
    session: Rc<Session>,
    /// Messages are handed out as they lie.
    raw: bool,
    queued: Cell<bool>,
    /// A runner is calling.
    running: Cell<bool>,
    opened: Cell<bool>,
    has_gap: Cell<bool>,
    /// A callback has failed: nothing is handed out any more but the end.
    failed: Cell<bool>,
    closed: Cell<bool>,
}

impl Slot {
    /// What there is to tell of it, under its number.
    fn event(&self, number: u32) -> Event {
        let session = &self.session;
        if !self.opened.replace(true) {
            return Event::Open(number);
        }
        if self.failed.get() {
            session.drop_messages();
        } else if self.has_gap.take() {
            return Event::Gap(number);
        } else if session.has_drained() {
            return Event::Drain(number);
        } else if let Some(view) = session.next_message() {
            return match self.raw {
                true => Event::Raw(number, view),
                false => Event::Message(number, view),
            };
        }
        match session.is_told() && !self.closed.replace(true) {
            true => Event::Closed(number),
            false => Event::Nothing,
        }
    }
}

/// The connections of one location with callbacks.
///
/// One count in the Lua userdata, one in each runner, one in each session, whose own count lies in its
/// slot until it has ended and been told.
pub struct Callbacks {
    slots: RefCell<Vec<Option<Slot>>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<u32>>,
    /// Where idle runners wait.
    idle: Semaphore,
    /// One of them was woken and has not come yet.
    woken: Cell<bool>,
    /// The queue is looked at once this turn's Lua code has returned.
    due: Cell<bool>,
    /// Where those wait that come back after the event loop's turn, and whether there are any.
    pause: Semaphore,
    paused: Cell<bool>,
    /// When a runner was started that has not begun yet; 0: none.
    starting: Cell<u64>,
}

impl Callbacks {
    /// An empty set. None: no memory.
    pub fn new() -> Option<Rc<Callbacks>> {
        Some(Rc::new(Callbacks {
            slots: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            idle: Semaphore::new()?,
            woken: Cell::new(false),
            due: Cell::new(false),
            pause: Semaphore::new()?,
            paused: Cell::new(false),
            starting: Cell::new(0),
        }))
    }

    /// Has callbacks called for a session that has begun. Returns its number, and whether a runner has
    /// to be started for it.
    pub fn add(self: &Rc<Callbacks>, session: &Rc<Session>, raw: bool) -> (u32, bool) {
        let slot = Slot {
            session: session.clone(),
            raw,
            queued: Cell::new(false),
            running: Cell::new(false),
            opened: Cell::new(false),
            has_gap: Cell::new(false),
            failed: Cell::new(false),
            closed: Cell::new(false),
        };
        let number = {
            let mut slots = self.slots.borrow_mut();
            let number = self.free.borrow_mut().pop().unwrap_or(slots.len() as u32);
            if number as usize == slots.len() {
                slots.push(Some(slot));
            } else {
                slots[number as usize] = Some(slot);
            }
            number
        };
        session.serve(self.clone(), number);
        self.ready(number);
        (number, self.lacks_runner())
    }

    /// Whether the caller is to start a runner: none is idle or on its way.
    fn lacks_runner(&self) -> bool {
        if self.woken.get() || self.idle.waiters() > 0 {
            return false;
        }
        let now = now_ms();
        let lacks = self.starting.get() + START <= now;
        if lacks {
            self.starting.set(now);
        }
        lacks
    }

    /// The runner that was to be started was not.
    pub fn not_started(&self) {
        self.starting.set(0);
    }

    /// How many connections there are.
    fn live(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len()
    }

    /// Runs `body` with a connection of this set; None for a number that is free.
    fn with<R>(&self, number: u32, body: impl FnOnce(&Slot) -> R) -> Option<R> {
        self.slots.borrow().get(number as usize)?.as_ref().map(body)
    }

    fn wake(&self) {
        if !self.paused.get() && !self.woken.get() && self.idle.waiters() > 0 {
            self.woken.set(true);
            self.idle.wake_one();
        }
    }

    /// Has the queue looked at when the Lua code that runs now has returned, or waits.
    fn look_later(self: &Rc<Callbacks>) {
        if !self.woken.get() && !self.due.replace(true) {
            DUE.with_borrow_mut(|due| due.push(Rc::downgrade(self)));
            CHECK.with(|check| check.post(check_due));
        }
    }

    /// A callback has returned.
    fn returned(&self, number: u32) {
        let closed = self.with(number, |slot| {
            slot.running.set(false);
            slot.closed.get()
        });
        if closed != Some(true) {
            return;
        }
        // The slot may be the session's last owner: it is dropped when nothing is borrowed.
        let slot = self.slots.borrow_mut()[number as usize].take();
        drop(slot);
        self.free.borrow_mut().push(number);
        if self.live() == 0 {
            self.idle.wake_all();
        }
    }

    /// A runner leaves a connection, which goes back into the queue if there is more to tell; of one
    /// that was `told` there is nothing.
    fn leave(&self, number: u32, told: bool) {
        self.with(number, |slot| {
            slot.session.end_turn();
            if !told && (slot.session.may_have_more() || slot.has_gap.get()) {
                self.enqueue(number, slot);
            }
        });
    }

    fn enqueue(&self, number: u32, slot: &Slot) {
        if !slot.running.get() && !slot.queued.replace(true) {
            self.ready.borrow_mut().push_back(number);
        }
    }

    /// A callback of this connection has failed: it is closed, and nothing more is handed out.
    fn fail(&self, number: u32) {
        self.with(number, |slot| {
            slot.failed.set(true);
            slot.session.end_with(1011, b"");
        });
    }
}

impl Sink for Callbacks {
    fn ready(&self, number: u32) {
        self.with(number, |slot| self.enqueue(number, slot));
        self.wake();
    }

    fn gap(&self, number: u32) {
        self.with(number, |slot| slot.has_gap.set(true));
        self.ready(number);
    }
}

/// A callback waits, it may be, and took its runner with it.
fn check_due() {
    for set in DUE.take() {
        if let Some(set) = set.upgrade() {
            set.due.set(false);
            if !set.ready.borrow().is_empty() {
                set.wake();
            }
        }
    }
}

/// The event loop has had its turn.
fn next_turn() {
    for set in PAUSED.take() {
        if let Some(set) = set.upgrade() {
            set.pause.wake_all();
        }
    }
}

/// A light thread that calls callbacks.
///
/// One count in the Lua userdata, one in the cleanup of its request.
pub struct Runner {
    set: Rc<Callbacks>,
    request: TimerRequest,
    /// The connection that it calls for.
    serving: Cell<Option<u32>>,
    /// It waits where idle runners do.
    resting: Cell<bool>,
    /// Calls for that one in a row, in this turn, and in all.
    calls: Cell<(u32, u32, u32)>,
}

impl Runner {
    /// A runner of `set`, in its own request. None: no memory.
    pub fn new(set: &Rc<Callbacks>, r: Request) -> Option<Rc<Runner>> {
        set.starting.set(0);
        let runner = Rc::new(Runner {
            set: set.clone(),
            request: TimerRequest::new(r)?,
            serving: Cell::new(None),
            resting: Cell::new(false),
            calls: Cell::new((0, 0, 0)),
        });
        let bound = runner.clone();
        r.at_end(Box::new(move || bound.end())).then_some(runner)
    }

    /// Its request has ended: in the middle of a callback, if that has called ngx.exit.
    fn end(&self) {
        self.request.end();
        lending::over();
        if let Some(number) = self.serving.take() {
            log::notice("websocket callback ended by ngx.exit, its connection is closed");
            self.set.fail(number);
            self.set.returned(number);
            self.set.leave(number, false);
        }
        // It may have been the one that was woken, or that let the event loop have its turn.
        self.set.woken.set(false);
        self.set.paused.set(false);
        self.set.wake();
    }

    /// What to call for next; the call before has returned. And whether another runner has to be
    /// started before, because this one may have to wait.
    pub fn next(&self) -> (Event, bool) {
        let set = &self.set;
        if self.resting.take() {
            set.woken.set(false);
        }
        set.paused.set(false);
        let (mut visit, mut turn, all) = self.calls.get();
        let mut event = Event::Nothing;
        if let Some(number) = self.serving.get() {
            let stays = visit < VISIT && turn < TURN;
            if stays {
                event = set.with(number, |slot| slot.event(number)).unwrap_or(Event::Nothing);
            }
            if matches!(event, Event::Nothing) {
                self.serving.set(None);
                set.returned(number);
                set.leave(number, stays);
            }
        }
        while matches!(event, Event::Nothing) {
            if turn >= TURN && !set.ready.borrow().is_empty() {
                self.calls.set((0, 0, all));
                set.paused.set(true);
                return (Event::Nothing, false);
            }
            let Some(number) = set.ready.borrow_mut().pop_front() else {
                self.calls.set((0, 0, all));
                return (Event::Nothing, false);
            };
            set.with(number, |slot| {
                slot.queued.set(false);
                slot.session.is_spoken_of(&self.request);
            });
            visit = 0;
            event = self.look_at(number);
        }
        (visit, turn) = (visit + 1, turn + 1);
        self.calls.set((visit, turn, all + 1));
        if !set.ready.borrow().is_empty() {
            set.look_later();
        }
        (event, set.lacks_runner())
    }

    /// What there is to tell of a connection, which is then served by this runner.
    fn look_at(&self, number: u32) -> Event {
        let event = self.set.with(number, |slot| {
            slot.running.set(true);
            let event = slot.event(number);
            if matches!(event, Event::Nothing) {
                slot.running.set(false);
                slot.session.end_turn();
            } else {
                self.serving.set(Some(number));
            }
            event
        });
        event.unwrap_or(Event::Nothing)
    }

    /// The callback that runs has raised an error.
    pub fn failed(&self) {
        if let Some(number) = self.serving.get() {
            self.set.fail(number);
        }
    }

    /// Whether `ngx.ctx` has been used by a callback of this runner.
    pub fn has_ctx(&self) -> bool {
        self.request.has_ctx()
    }

    /// Waits until there is something to call for: true; or false, and this runner is to end.
    pub fn rest(&self, r: Request, again: bool) -> Wait<bool> {
        let set = &self.set;
        if self.resting.take() {
            set.woken.set(false);
        }
        if !again && set.paused.get() {
            PAUSED.with_borrow_mut(|paused| paused.push(Rc::downgrade(set)));
            NEXT_TURN.with(|next| next.post_next(next_turn));
            return set.pause.park(r, u64::MAX);
        }
        if !set.ready.borrow().is_empty() {
            return Wait::Ready(true);
        }
        let others = set.idle.waiters();
        let worn = self.calls.get().2 >= LIFE && others > 0;
        if set.live() == 0 || others >= SPARE || worn {
            return Wait::Ready(false);
        }
        self.resting.set(true);
        set.idle.park(r, u64::MAX)
    }
}
