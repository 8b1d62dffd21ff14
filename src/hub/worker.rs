//! This worker's part of the hub, from its start to its end: its seat on the bus, its members, its
//! timers. `with` is the one way to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ws_hub::history::Rule;
use ws_hub::{ConnId, Counter, Envelope, Target};

use super::bus::{self, Bus};
use super::error::Error;
use super::far::{configure, Far};
use super::history::{self, Histories};
use super::link::Configured;
use super::local::{Local, Member};
use super::mailbox::{Mailbox, Queue};
use super::watch;
use crate::ngx::timer::Timer;
use crate::ngx::{process, zone};
use crate::session::{random, stats, Session, Watch};

thread_local! {
    // One thread per worker. None in the master and in helper processes.
    static HUB: RefCell<Option<Hub>> = const { RefCell::new(None) };
    // Whether `start` was called, which it is once in a process.
    static STARTED: Cell<bool> = const { Cell::new(false) };
    // Members that ended while the hub was at work, which it forgets when it is done.
    static ENDED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static TIDY: Timer = const { Timer::new() };
    static TRY: Timer = const { Timer::new() };
    static GOVERN: Timer = const { Timer::new() };
}

/// This worker's part of the hub.
///
/// Made in init_process, dropped in exit_process. `local` holds one count of every registered
/// session and gives it back when the session's connection ends.
pub(super) struct Hub {
    pub local: Local,
    /// None while every row of the zone is taken: this worker then serves its own subscribers.
    pub bus: Option<Bus>,
    /// The way to other machines.
    pub far: Far,
}

/// Milliseconds until a worker without a seat tries to get one.
const TRY_EVERY: u64 = 1000;
/// Milliseconds from one look after histories and their subscribers to the next.
const TIDY_EVERY: u64 = 1000;
/// Milliseconds from one look after who talks to the brokers to the next.
const GOVERN_EVERY: u64 = 250;

/// What the hub is told of a session.
static WATCH: Watch = Watch { ended: forget, room };

/// Works on this worker's part of the hub.
pub(super) fn with<R>(work: impl FnOnce(&mut Hub) -> Result<R, Error>) -> Result<R, Error> {
    if !STARTED.get() && process::is_worker() && process::has_event_loop() {
        // init_worker_by_lua: ngx_lua's turn comes before ours when a worker starts.
        start();
    }
    HUB.with_borrow_mut(|hub| {
        let hub = hub.as_mut().ok_or(Error::NoWorker)?;
        hub.local.follow_rules();
        let result = work(hub);
        for handle in ENDED.take() {
            hub.remove(handle);
        }
        result
    })
}

/// Before so many workers are forked: whatever they all share, what holds for topics now,
/// and the way to other machines.
pub fn prepare(workers: usize, rules: &[Rule], brokers: Vec<Rc<Configured>>) -> bool {
    let count = brokers.len();
    configure(brokers);
    bus::prepare(workers, count) && history::prepare(rules, count)
}

/// In a worker that has just been forked. What is called there again does nothing.
pub fn start() {
    if STARTED.replace(true) {
        return;
    }
    random::forget();
    if zone::HUB.memory().is_some() {
        let bus = Bus::join(drain, true);
        if bus.is_none() {
            TRY.with(|timer| timer.set(TRY_EVERY, try_to_join));
        }
        let far = Far::new(turn);
        let is_far = far.is_used();
        HUB.set(Some(Hub { local: Local::new(Histories::attach()), bus, far }));
        drain();
        watch::next(look);
        tidy();
        if is_far {
            govern();
        }
    }
}

/// In a worker that is about to exit.
pub fn stop() {
    if let Some(mut hub) = HUB.take() {
        hub.tell_changes();
        drop(hub.far);
        if let Some(mut bus) = hub.bus {
            bus.be_no_gateway();
            bus.leave();
        }
    }
}

/// Registers a session, once, and returns its id. Of one that has ended nobody would tell that.
pub fn register(session: &Rc<Session>) -> Result<ConnId, Error> {
    if let Some(id) = session.id() {
        return Ok(id);
    }
    if session.is_gone() {
        return Err(Error::Closed);
    }
    let (id, handle) = with(|hub| {
        let id = hub.new_id();
        Ok((id, hub.local.add(id, Member::Session(session.clone()))))
    })?;
    session.set_id(id);
    session.watch(&WATCH, handle);
    Ok(id)
}

/// A new subscriber that is no connection.
pub fn open_mailbox() -> Result<Mailbox, Error> {
    with(|hub| {
        let id = hub.new_id();
        let queue = Rc::<Queue>::default();
        let handle = hub.local.add(id, Member::Mailbox(queue.clone()));
        Ok(Mailbox::new(queue, id, handle, forget))
    })
}

/// Ends the subscriptions of a session or a mailbox, and forgets it. A session may end while the
/// hub hands it a message.
fn forget(handle: u32) {
    ENDED.with_borrow_mut(|ended| ended.push(handle));
    if HUB.with(|hub| hub.try_borrow_mut().is_ok()) {
        // The hub is gone before the last requests of a worker that is forced to exit, and before
        // its Lua VM.
        let _ = with(|_| Ok(()));
    }
}

/// A session that asked for it has room for output again.
fn room(handle: u32) {
    let _ = with(|hub| {
        hub.local.fill(handle);
        hub.ask_for_members();
        Ok(())
    });
}

/// Old workers may have ended meanwhile. Whoever subscribed here before is heard of then.
fn try_to_join() {
    let _ = with(|hub| {
        let Some(mut bus) = Bus::join(drain, false) else {
            TRY.with(|timer| timer.set(TRY_EVERY, try_to_join));
            return Ok(());
        };
        for (topic, subscribers) in hub.local.topics.all() {
            bus.listen_to(topic);
            bus.counted(topic, 0, subscribers);
        }
        hub.bus = Some(bus);
        hub.far.ask();
        hub.go_on();
        hub.local.look_at_all();
        hub.note_topics();
        Ok(())
    });
}

/// A sample of the numbers is due.
fn look() {
    let _ = with(|hub| {
        if let Some(bus) = &hub.bus {
            watch::note(&hub.local, bus);
        }
        Ok(())
    });
    watch::next(look);
}

/// What is done now and then for histories and those who read them.
fn tidy() {
    let _ = with(|hub| {
        hub.local.tidy();
        hub.look_at_others();
        hub.go_on();
        Ok(())
    });
    TIDY.with(|timer| timer.set(TIDY_EVERY, tidy));
}

/// Somebody has woken this worker: read what the others have published.
fn drain() {
    let _ = with(|hub| {
        stats::add(Counter::WakeupsReceived, 1);
        hub.drain(false);
        Ok(())
    });
}

/// Who talks to the brokers is looked after.
fn govern() {
    match with(|hub| Ok(hub.govern())) {
        Ok(true) => GOVERN.with(|timer| timer.hold(GOVERN_EVERY, govern)),
        _ => GOVERN.with(|timer| timer.set(GOVERN_EVERY, govern)),
    }
}

/// Something has happened that a broker, or the gateway, may want to know.
fn turn() {
    let _ = with(|hub| {
        hub.turn();
        Ok(())
    });
}

impl Hub {
    /// A message for every worker: into the ring first, and to whom it concerns here in its place
    /// there, so that everybody has all messages in the ring's order. Where more lies before it
    /// than is good for one turn, it waits like the others. Returns its number.
    pub fn put(&mut self, target: Target, message: &Envelope<'_>) -> Result<u64, Error> {
        let Some(bus) = &mut self.bus else {
            self.receive(message);
            return Err(Error::NoRow);
        };
        let seq = bus.put(target, message)?;
        if self.catch_up(seq) && self.pass(seq) {
            self.receive(message);
        }
        Ok(seq)
    }

    /// Passes over an own message, if it is the next one.
    pub fn pass(&mut self, seq: u64) -> bool {
        self.bus.as_mut().is_some_and(|bus| bus.pass(seq))
    }

    pub(super) fn new_id(&self) -> ConnId {
        self.bus.as_ref().map_or_else(bus::seatless_id, Bus::new_id)
    }

    /// Reads what the others have published, all of it or a turn's part.
    pub fn drain(&mut self, all: bool) {
        let Hub { local, bus, far } = self;
        if let Some(bus) = bus {
            bus.drain(all, |message| {
                far.hear(message, local.histories.as_ref());
                local.receive(message)
            });
        }
        self.go_on();
    }

    /// Goes on with answers and histories of which there is more than one turn takes.
    pub fn go_on(&mut self) {
        if self.bus.as_mut().is_some_and(Bus::take_missed) {
            // Doorbells may be among what was missed, and who has come and gone.
            self.local.look_at_all();
            self.local.tell_all_members();
            self.has_missed();
        }
        self.forward();
        self.answer_if_asked();
        self.ask_for_members();
        let more = self.answer_rolls();
        self.send_answers();
        if self.local.go_on() | more {
            if let Some(bus) = &mut self.bus {
                bus.wake_self();
            }
        }
    }

    /// Hands over what lies before message `end`, or a turn's part of it: then it says false.
    pub fn catch_up(&mut self, end: u64) -> bool {
        let Hub { local, bus, far } = self;
        bus.as_mut().is_none_or(|bus| {
            bus.catch_up(end, |message| {
                far.hear(message, local.histories.as_ref());
                local.receive(message)
            })
        })
    }

    /// Hands a message over here, in its place.
    pub fn receive(&mut self, message: &Envelope<'_>) {
        self.far.hear(message, self.local.histories.as_ref());
        self.local.receive(message);
    }

    /// Ends every subscription of a member. Returns how many there were.
    pub fn unsubscribe_all(&mut self, handle: u32) -> usize {
        let topics: Vec<Box<[u8]>> = self.local.topics.topics(handle).map(Box::from).collect();
        topics.iter().filter(|topic| self.unsubscribe(topic, handle)).count()
    }

    /// Ends a subscription. Whether there was one.
    pub fn unsubscribe(&mut self, topic: &[u8], handle: u32) -> bool {
        if self.local.topics.contains(topic, handle) {
            self.local.note_change(topic, handle, false);
        }
        self.local.forget_special(topic, handle);
        let kept = self.local.is_kept(topic);
        if !self.local.topics.unsubscribe(topic, handle) {
            return false;
        }
        let rest = self.local.topics.count(topic);
        if let Some(bus) = &mut self.bus {
            bus.left(topic, rest);
        }
        if kept && rest == 0 && self.elsewhere(topic) == 0 {
            self.local.set_subscribed(topic, false);
        }
        true
    }

    /// A topic's subscribers in other workers.
    pub fn elsewhere(&mut self, topic: &[u8]) -> u64 {
        self.bus.as_mut().map_or(0, |bus| bus.elsewhere(topic))
    }

    /// A topic's subscribers in all workers.
    pub fn subscribers(&mut self, topic: &[u8]) -> u64 {
        self.local.topics.count(topic) as u64 + self.elsewhere(topic)
    }

    fn remove(&mut self, handle: u32) {
        self.unsubscribe_all(handle);
        self.local.remove(handle);
        self.note_topics();
    }

    pub fn note_topics(&self) {
        let totals = self.local.topics.totals();
        stats::set(Counter::Topics, totals.topics as u64);
        stats::set(Counter::Subscriptions, totals.subscriptions as u64);
    }
}
