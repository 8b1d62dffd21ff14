//! Publish, subscribe and send-by-id: first to the connections of this worker, then by the ring in
//! shared memory to the workers that have subscribers. Called by Lua's natives and by nginx's
//! process hooks; works in every phase, never waits, never calls Lua.

mod bus;
mod error;
mod local;
mod mailbox;
mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ws_hub::envelope::{Kind, Origin, Type};
use ws_hub::{ConnId, Counter, Envelope, Target, TopicHash};

use crate::ngx::{wake, zone};
use crate::session::{random, stats, Session};
use bus::Bus;
pub use bus::{smallest_zone, Worker};
pub use error::Error;
use local::{Local, Member};
pub use mailbox::Mailbox;
pub use watch::{highlights, samples};

thread_local! {
    // One thread per worker. None in the master and in helper processes.
    static HUB: RefCell<Option<Hub>> = const { RefCell::new(None) };
    // Whether `start` was called, which it is once in a process.
    static STARTED: Cell<bool> = const { Cell::new(false) };
    // Members that ended while the hub was at work, which it forgets when it is done.
    static ENDED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// This worker's part of the hub.
///
/// Made in init_process, dropped in exit_process. `local` holds one count of every registered
/// session and gives it back when the session's request ends.
struct Hub {
    local: Local,
    /// None while every row of the zone is taken: this worker then serves its own subscribers.
    bus: Option<Bus>,
}

/// Milliseconds until a worker without a seat tries to get one.
const TRY_EVERY: u64 = 1000;

/// Where a published message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This worker's subscribers.
    Worker,
    /// Every worker's.
    Node,
}

fn with<R>(work: impl FnOnce(&mut Hub) -> Result<R, Error>) -> Result<R, Error> {
    if !STARTED.get() && wake::is_worker() && wake::has_event_loop() {
        // init_worker_by_lua: ngx_lua's turn comes before ours when a worker starts.
        start();
    }
    HUB.with_borrow_mut(|hub| {
        let hub = hub.as_mut().ok_or(Error::NoWorker)?;
        let result = work(hub);
        for handle in ENDED.take() {
            hub.remove(handle);
        }
        result
    })
}

/// Before so many workers are forked: whatever they all share.
pub fn prepare(workers: usize) -> bool {
    bus::prepare(workers)
}

/// In a worker that has just been forked. What is called there again does nothing.
pub fn start() {
    if STARTED.replace(true) {
        return;
    }
    random::forget();
    if zone::memory().is_some() {
        let bus = Bus::join(drain, true);
        if bus.is_none() {
            wake::later(TRY_EVERY, try_to_join);
        }
        HUB.set(Some(Hub { local: Local::default(), bus }));
        drain();
        watch::next(watch);
    }
}

/// In a worker that is about to exit.
pub fn stop() {
    if let Some(bus) = HUB.take().and_then(|hub| hub.bus) {
        bus.leave();
    }
}

/// Registers a session, once, and returns its id.
pub fn register(session: &Rc<Session>) -> Result<ConnId, Error> {
    if let Some(id) = session.id() {
        return Ok(id);
    }
    let (id, handle) = with(|hub| {
        let id = hub.new_id();
        Ok((id, hub.local.add(id, Member::Session(session.clone()))))
    })?;
    session.set_id(id);
    session.on_end(forget, handle);
    Ok(id)
}

/// A new subscriber that is no connection.
pub fn open_mailbox() -> Result<Mailbox, Error> {
    with(|hub| {
        let id = hub.new_id();
        let queue = Rc::<mailbox::Queue>::default();
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

/// Subscribes a registered session, or a mailbox. False: it was subscribed already.
pub fn subscribe(id: &ConnId, topic: &[u8]) -> Result<bool, Error> {
    ws_hub::topic::check_topic(topic).map_err(Error::Topic)?;
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        if hub.local.topics.count(topic) == 0 {
            if let Some(bus) = &mut hub.bus {
                bus.listen_to(topic);
            }
            // What was published before belongs to nobody here, see ws-hub.
            hub.drain(true);
        }
        let fresh = hub.local.topics.subscribe(topic, handle);
        if let (true, Some(bus)) = (fresh, &mut hub.bus) {
            let now = hub.local.topics.count(topic);
            bus.counted(topic, now - 1, now);
        }
        hub.note_topics();
        Ok(fresh)
    })
}

/// Ends one subscription, or all. Returns how many there were.
pub fn unsubscribe(id: &ConnId, topic: Option<&[u8]>) -> Result<usize, Error> {
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        let ended = match topic {
            Some(topic) => {
                let ended = hub.local.topics.unsubscribe(topic, handle);
                if let (true, Some(bus)) = (ended, &mut hub.bus) {
                    bus.left(topic, hub.local.topics.count(topic));
                }
                usize::from(ended)
            }
            None => hub.unsubscribe_all(handle),
        };
        hub.note_topics();
        Ok(ended)
    })
}

/// The topics of a registered session.
pub fn topics(id: &ConnId) -> Result<Vec<Vec<u8>>, Error> {
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        Ok(hub.local.topics.topics(handle).map(<[u8]>::to_vec).collect())
    })
}

/// Publishes. Returns the topic's subscribers within the scope and the message's number.
pub fn publish(
    topic: &[u8],
    text: bool,
    data: &[u8],
    except: Option<ConnId>,
    scope: Scope,
) -> Result<(u64, u64), Error> {
    ws_hub::topic::check_topic(topic).map_err(Error::Topic)?;
    if text && std::str::from_utf8(data).is_err() {
        return Err(Error::InvalidUtf8);
    }
    let message = message(Kind::Publish { topic }, text, data, except);
    with(|hub| {
        let seq = match scope {
            Scope::Worker => hub.hand_out(&message)?,
            Scope::Node => hub.put(Target::Topic(TopicHash::of(topic)), &message)?,
        };
        stats::add(Counter::Published, 1);
        let here = hub.local.topics.count(topic) as u64;
        let elsewhere = match (scope, &mut hub.bus) {
            (Scope::Node, Some(bus)) => bus.elsewhere(topic),
            _ => 0,
        };
        Ok((here + elsewhere, seq))
    })
}

/// Sends to one connection, wherever it lives.
pub fn send(id: &ConnId, text: bool, data: &[u8]) -> Result<(), Error> {
    if text && std::str::from_utf8(data).is_err() {
        return Err(Error::InvalidUtf8);
    }
    to_one(id, &message(Kind::ToConnection { id: *id }, text, data, None))
}

/// Closes one connection, wherever it lives.
pub fn close(id: &ConnId, code: u16, reason: &str) -> Result<(), Error> {
    let kind = Kind::CloseConnection { id: *id, code, reason };
    to_one(id, &message(kind, false, &[], None))
}

/// Publishes what a client has sent to each of its topics. A client whose message cannot go there
/// is told so by the end of its connection (RFC 6455 7.4.1).
pub fn publish_from_client(id: &ConnId, topics: &[Vec<u8>], text: bool, data: &[u8]) {
    for topic in topics {
        let told = match publish(topic, text, data, None, Scope::Node) {
            Err(err @ Error::TooLarge) => close(id, 1009, &err.to_string()),
            Err(err @ Error::Overrun) => close(id, 1013, &err.to_string()),
            _ => continue,
        };
        debug_assert!(told.is_ok(), "the client has just sent something");
        return;
    }
}

/// A message that the bus has not signed yet.
fn message<'a>(
    kind: Kind<'a>,
    text: bool,
    payload: &'a [u8],
    except: Option<ConnId>,
) -> Envelope<'a> {
    let typ = if text { Type::Text } else { Type::Binary };
    Envelope { kind, typ, origin: Origin::default(), sequence: 0, stored: None, except, payload }
}

fn to_one(id: &ConnId, message: &Envelope<'_>) -> Result<(), Error> {
    with(|hub| {
        if hub.local.session(id).is_some() {
            return hub.hand_out(message).map(|_| ());
        }
        let bus = hub.bus.as_mut().ok_or(Error::NoRow)?;
        let row = bus.other_owner(id)?;
        bus.put(Target::Row(row), message).map(|_| ())
    })
}

/// Connections of all workers.
pub fn connections() -> u64 {
    bus::connections()
}

/// Subscribers of a topic in all workers.
pub fn subscribers(topic: &[u8]) -> u64 {
    with(|hub| {
        let here = hub.local.topics.count(topic) as u64;
        let Some(bus) = &mut hub.bus else { return Ok(here) };
        bus.free_dead();
        Ok(here + bus.elsewhere(topic))
    })
    .unwrap_or(0)
}

/// The name (with its label), and the sum over all workers, of every number kept.
pub fn metrics() -> Vec<(&'static ws_hub::counters::Entry, u64)> {
    bus::sums()
}

/// The workers that live now, old generations that still drain included.
pub fn workers() -> Vec<Worker> {
    bus::workers()
}

/// Old workers may have ended meanwhile. Whoever subscribed here before is heard of then.
fn try_to_join() {
    let _ = with(|hub| {
        let Some(mut bus) = Bus::join(drain, false) else {
            wake::later(TRY_EVERY, try_to_join);
            return Ok(());
        };
        for (topic, subscribers) in hub.local.topics.all() {
            bus.listen_to(topic);
            bus.counted(topic, 0, subscribers);
        }
        hub.bus = Some(bus);
        hub.note_topics();
        Ok(())
    });
}

/// A sample of the numbers is due.
fn watch() {
    let _ = with(|hub| {
        if let Some(bus) = &hub.bus {
            watch::note(&hub.local, bus);
        }
        Ok(())
    });
    watch::next(watch);
}

/// Somebody has woken this worker: read what the others have published.
fn drain() {
    let _ = with(|hub| {
        stats::add(Counter::WakeupsReceived, 1);
        hub.drain(false);
        Ok(())
    });
}

impl Hub {
    fn new_id(&self) -> ConnId {
        self.bus.as_ref().map_or_else(bus::seatless_id, Bus::new_id)
    }

    fn drain(&mut self, all: bool) {
        let Hub { local, bus, .. } = self;
        if let Some(bus) = bus {
            bus.drain(all, |message| local.receive(message));
        }
    }

    /// A message for every worker: into the ring first, and to whom it concerns here in its place
    /// there, so that everybody has all messages in the ring's order. Where more lies before it
    /// than is good for one turn, it waits like the others. Returns its number.
    fn put(&mut self, target: Target, message: &Envelope<'_>) -> Result<u64, Error> {
        let Hub { local, bus, .. } = self;
        let Some(bus) = bus else {
            local.receive(message);
            return Err(Error::NoRow);
        };
        let seq = bus.put(target, message)?;
        if bus.catch_up(seq, |message| local.receive(message)) && bus.pass(seq) {
            local.receive(message);
        }
        Ok(seq)
    }

    /// A message for this worker alone, after all that has been published. Returns the number of
    /// what comes next.
    fn hand_out(&mut self, message: &Envelope<'_>) -> Result<u64, Error> {
        let Hub { local, bus, .. } = self;
        if let Some(bus) = bus {
            let end = bus.end();
            if !bus.catch_up(end, |message| local.receive(message)) {
                if message.payload.len() <= bus.max_payload() {
                    return bus.put(Target::Row(bus.row()), message);
                }
                bus.drain(true, |message| local.receive(message));
            }
        }
        local.receive(message);
        Ok(bus.as_ref().map_or(0, Bus::end))
    }

    fn unsubscribe_all(&mut self, handle: u32) -> usize {
        let Hub { local, bus, .. } = self;
        local.topics.unsubscribe_all(handle, |topic, rest| {
            if let Some(bus) = bus {
                bus.left(topic, rest);
            }
        })
    }

    fn remove(&mut self, handle: u32) {
        self.unsubscribe_all(handle);
        self.local.remove(handle);
        self.note_topics();
    }

    fn note_topics(&self) {
        let totals = self.local.topics.totals();
        stats::set(Counter::Topics, totals.topics as u64);
        stats::set(Counter::Subscriptions, totals.subscriptions as u64);
    }
}
