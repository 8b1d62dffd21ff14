//! Publish, subscribe and send-by-id: first to the connections of this worker, then by the ring in
//! shared memory to the workers that have subscribers. Called by Lua's natives and by nginx's
//! process hooks; works in every phase, never waits, never calls Lua.

mod bus;
mod local;
mod mailbox;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ws_hub::topic::TopicError;
use ws_hub::{ConnId, Counter};

use crate::ngx::{wake, zone};
use crate::session::{random, stats, Outgoing, Session};
pub use bus::smallest_zone;
use bus::Bus;
use local::{Local, Target};
pub use mailbox::Mailbox;

thread_local! {
    // One thread per worker. None in the master and in helper processes.
    static HUB: RefCell<Option<Hub>> = const { RefCell::new(None) };
    // Whether `start` was called, which it is once in a process.
    static STARTED: Cell<bool> = const { Cell::new(false) };
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

/// What stops a hub call. The texts are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not in a worker.
    NoWorker,
    /// This worker has no row in the zone.
    NoRow,
    /// The topic's name.
    Topic(TopicError),
    /// Above what the zone carries.
    TooLarge,
    /// The zone was overrun while publishing.
    Overrun,
    /// No connection has this id.
    NoConnection,
    /// Not an id at all.
    BadId,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The connection has ended.
    Closed,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::NoWorker => "no worker process",
            Error::NoRow => "more workers than the zone has rows",
            Error::Topic(err) => return err.fmt(f),
            Error::TooLarge => "message too large for the zone",
            Error::Overrun => "zone overrun while publishing",
            Error::NoConnection => "no such connection",
            Error::BadId => "invalid connection id",
            Error::InvalidUtf8 => "invalid utf-8",
            Error::Closed => "closed",
        })
    }
}

impl std::error::Error for Error {}

fn with<R>(work: impl FnOnce(&mut Hub) -> Result<R, Error>) -> Result<R, Error> {
    if !STARTED.get() && wake::is_worker() && wake::has_event_loop() {
        // init_worker_by_lua: ngx_lua's turn comes before ours when a worker starts.
        start();
    }
    HUB.with_borrow_mut(|hub| {
        let hub = hub.as_mut().ok_or(Error::NoWorker)?;
        work(hub)
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
        Ok((id, hub.local.add(id, Target::Session(session.clone()))))
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
        let handle = hub.local.add(id, Target::Mailbox(queue.clone()));
        Ok(Mailbox::new(queue, id, handle))
    })
}

/// Ends the subscriptions of a session or a mailbox, and forgets it.
fn forget(handle: u32) {
    // The hub is gone before the last requests of a worker that is forced to exit, and before its
    // Lua VM.
    let _ = with(|hub| {
        hub.remove(handle);
        Ok(())
    });
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

/// Publishes. Returns the subscribers reached in this worker and the message's number.
pub fn publish(
    topic: &[u8],
    text: bool,
    data: &[u8],
    except: Option<ConnId>,
    scope: Scope,
) -> Result<(usize, u64), Error> {
    ws_hub::topic::check_topic(topic).map_err(Error::Topic)?;
    if text && std::str::from_utf8(data).is_err() {
        return Err(Error::InvalidUtf8);
    }
    with(|hub| {
        let most = hub.bus.as_ref().map_or(usize::MAX, Bus::max_message);
        if scope == Scope::Node && data.len().saturating_add(512) > most {
            stats::add(Counter::PublishFailed, 1);
            return Err(Error::TooLarge);
        }
        let reached = hub.local.fan_out(topic, &Outgoing::new(text, data), except);
        stats::add(Counter::Published, 1);
        let seq = match (scope, &mut hub.bus) {
            (Scope::Worker, bus) => bus.as_ref().map_or(0, Bus::end),
            (Scope::Node, Some(bus)) => bus.publish(topic, text, data, except)?,
            (Scope::Node, None) => return Err(Error::NoRow),
        };
        hub.keep_up();
        Ok((reached, seq))
    })
}

/// Sends to one connection, wherever it lives.
pub fn send(id: &ConnId, text: bool, data: &[u8]) -> Result<(), Error> {
    if text && std::str::from_utf8(data).is_err() {
        return Err(Error::InvalidUtf8);
    }
    with(|hub| match hub.local.session(id) {
        Some(session) => {
            bus::delivered(session.deliver(&Outgoing::new(text, data)));
            Ok(())
        }
        None => {
            hub.bus.as_mut().ok_or(Error::NoRow)?.send(id, text, data)?;
            hub.keep_up();
            Ok(())
        }
    })
}

/// Closes one connection, wherever it lives.
pub fn close(id: &ConnId, code: u16, reason: &str) -> Result<(), Error> {
    with(|hub| match hub.local.session(id) {
        Some(session) => {
            session.end_with(code, reason.as_bytes());
            Ok(())
        }
        None => {
            hub.bus.as_mut().ok_or(Error::NoRow)?.close(id, code, reason)?;
            hub.keep_up();
            Ok(())
        }
    })
}

/// Connections of all workers.
pub fn connections() -> u64 {
    bus::connections()
}

/// Subscribers of a topic in all workers.
pub fn subscribers(topic: &[u8]) -> u64 {
    with(|hub| Ok(hub.local.topics.count(topic) as u64 + hub.elsewhere(topic))).unwrap_or(0)
}

/// Subscribers of a topic in the other workers.
pub fn elsewhere(topic: &[u8]) -> u64 {
    with(|hub| Ok(hub.elsewhere(topic))).unwrap_or(0)
}

/// The name (with its label), and the sum over all workers, of every number kept.
pub fn metrics() -> Vec<(&'static ws_hub::counters::Entry, u64)> {
    bus::sums()
}

/// One worker's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// Process id.
    pub pid: u32,
    /// nginx's slot of the process.
    pub slot: u16,
    /// Connections open.
    pub open: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
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

    fn elsewhere(&self, topic: &[u8]) -> u64 {
        self.bus.as_ref().map_or(0, |bus| bus.elsewhere(topic))
    }

    fn drain(&mut self, all: bool) {
        let Hub { local, bus, .. } = self;
        if let Some(bus) = bus {
            bus.drain(all, |message| local.receive(message));
        }
    }

    /// After publishing to the ring.
    fn keep_up(&mut self) {
        if self.bus.as_mut().is_some_and(Bus::take_due) {
            self.drain(true);
        }
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
