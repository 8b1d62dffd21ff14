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

use crate::ngx::wake;
use crate::session::{random, Outgoing, Session};
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
    bus: Bus,
}

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
    HUB.with_borrow_mut(|hub| work(hub.as_mut().ok_or(Error::NoWorker)?))
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
    if let Some(bus) = Bus::join(drain) {
        HUB.set(Some(Hub { local: Local::default(), bus }));
        drain();
    }
}

/// In a worker that is about to exit.
pub fn stop() {
    if let Some(hub) = HUB.take() {
        hub.bus.leave();
    }
}

/// Registers a session, once, and returns its id.
pub fn register(session: &Rc<Session>) -> Result<ConnId, Error> {
    if let Some(id) = session.id() {
        return Ok(id);
    }
    let (id, handle) = with(|hub| {
        let id = hub.bus.new_id();
        Ok((id, hub.local.add(id, Target::Session(session.clone()))))
    })?;
    session.set_id(id);
    session.on_end(Some(Box::new(move || {
        // The hub is gone before the last requests of a worker that is forced to exit.
        let _ = with(|hub| {
            hub.remove(handle);
            Ok(())
        });
    })));
    Ok(id)
}

/// A new subscriber that is no connection.
pub fn open_mailbox() -> Result<Mailbox, Error> {
    with(|hub| {
        let id = hub.bus.new_id();
        let queue = Rc::<mailbox::Queue>::default();
        let handle = hub.local.add(id, Target::Mailbox(queue.clone()));
        Ok(Mailbox::new(queue, id, handle))
    })
}

/// Ends a mailbox's subscriptions, and forgets it.
fn close_mailbox(handle: u32) {
    // The hub is gone before the Lua VM of a worker that exits.
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
            hub.bus.listen_to(topic);
            // What was published before belongs to nobody here, see ws-hub.
            hub.drain(true);
        }
        let fresh = hub.local.topics.subscribe(topic, handle);
        if fresh {
            let now = hub.local.topics.count(topic);
            hub.bus.counted(topic, now - 1, now);
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
                if ended {
                    hub.bus.left(topic, hub.local.topics.count(topic));
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
        if scope == Scope::Node && data.len() + 512 > hub.bus.max_message() {
            hub.bus.count(Counter::PublishFailed, 1);
            return Err(Error::TooLarge);
        }
        let reached = hub.fan_out(topic, &Outgoing::new(text, data), except);
        hub.bus.count(Counter::Published, 1);
        let seq = match scope {
            Scope::Worker => hub.bus.end(),
            Scope::Node => hub.bus.publish(topic, text, data, except)?,
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
            hub.bus.delivered(session.deliver(&Outgoing::new(text, data)));
            Ok(())
        }
        None => {
            hub.bus.send(id, text, data)?;
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
        None => hub.bus.close(id, code, reason),
    })
}

/// Connections of all workers.
pub fn connections() -> u64 {
    with(|hub| Ok(hub.bus.connections())).unwrap_or(0)
}

/// Subscribers of a topic in all workers.
pub fn subscribers(topic: &[u8]) -> u64 {
    with(|hub| Ok(hub.local.topics.count(topic) as u64 + hub.bus.elsewhere(topic))).unwrap_or(0)
}

/// Subscribers of a topic in the other workers.
pub fn elsewhere(topic: &[u8]) -> u64 {
    with(|hub| Ok(hub.bus.elsewhere(topic))).unwrap_or(0)
}

/// The name (with its label), and the sum over all workers, of every number kept.
pub fn metrics() -> Vec<(&'static ws_hub::counters::Entry, u64)> {
    with(|hub| Ok(hub.bus.sums())).unwrap_or_default()
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
    with(|hub| Ok(hub.bus.workers())).unwrap_or_default()
}

/// Somebody has woken this worker: read what the others have published.
fn drain() {
    let _ = with(|hub| {
        hub.bus.count(Counter::WakeupsReceived, 1);
        hub.drain(false);
        Ok(())
    });
}

impl Hub {
    fn drain(&mut self, all: bool) {
        let Hub { local, bus } = self;
        bus.drain(all, |bus, message| local.receive(bus, message));
    }

    /// After publishing to the ring.
    fn keep_up(&mut self) {
        if self.bus.take_due() {
            self.drain(true);
        }
    }

    fn fan_out(&mut self, topic: &[u8], message: &Outgoing<'_>, except: Option<ConnId>) -> usize {
        self.local.fan_out(&self.bus, topic, message, except)
    }

    fn unsubscribe_all(&mut self, handle: u32) -> usize {
        let Hub { local, bus } = self;
        local.topics.unsubscribe_all(handle, |topic, rest| bus.left(topic, rest))
    }

    fn remove(&mut self, handle: u32) {
        self.unsubscribe_all(handle);
        self.local.remove(handle);
        self.note_topics();
    }

    fn note_topics(&self) {
        let totals = self.local.topics.totals();
        self.bus.set(Counter::Topics, totals.topics as u64);
        self.bus.set(Counter::Subscriptions, totals.subscriptions as u64);
    }
}
