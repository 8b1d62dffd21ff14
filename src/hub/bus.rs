//! This worker's seat among the others: the ring it publishes to and reads from, the directory that
//! says whom to wake, its row of counters.

use ws_hub::census::Entered;
use ws_hub::counters::Row;
use ws_hub::directory::{Directory, Interest, Seat, Whose};
use ws_hub::envelope::Origin;
use ws_hub::gateway::Gateway;
use ws_hub::ring::{Reader, RingError};
use ws_hub::{ConnId, Counter, Envelope, NodeId, Read, Ring, Target, TopicHash, Zone};

use super::error::Error;
use crate::ngx::{clock, log, process, wake, zone};
use crate::session::{random, stats};

/// Workers at a time, old generations that still drain included: at least so many, and at most.
const ROWS: usize = 64;
const MAX_ROWS: usize = 1024;

/// A seat in the zone.
///
/// The zone is nginx's and outlives the worker; the seat is given back in `leave`, and taken from
/// a killed worker by whoever joins next in its process slot.
pub struct Bus {
    zone: Zone<'static>,
    ring: Ring<'static>,
    directory: Directory<'static>,
    seat: Seat,
    interest: Interest<'static>,
    reader: Reader<'static>,
    counters: Row<'static>,
    /// What this worker has published.
    sequence: u64,
    /// It has woken itself for what it left for the next turn.
    woken: bool,
    /// Messages were overwritten before it read them, since this was last asked.
    missed: bool,
    /// It is the gateway, or about to be, and reads what is for any topic.
    hears_all: bool,
    /// The number of its configuration.
    configuration: u64,
    /// When the rows of dead workers were last freed.
    freed: u64,
    /// Topics of this worker for which the census has no room.
    uncounted: u64,
    /// Buffers used again and again.
    head: Vec<u8>,
    incoming: Vec<u8>,
    /// A worker that cannot keep up must not fill the log too.
    overruns: RateLimiter,
    uncountable: RateLimiter,
}

/// How much a worker reads in one turn of the event loop, in messages that it wants, in their bytes,
/// and in connections that they were handed to: what is queued by then should leave before more
/// is queued, and other events have their turn.
const TURN_MESSAGES: usize = 256;
const TURN_BYTES: usize = 1024 * 1024;
const TURN_DELIVERIES: usize = 20_000;

/// A publisher looks for workers that were killed and not replaced so often, in milliseconds.
const FREE_EVERY: u64 = 1000;

/// More than an envelope says about its payload.
const MAX_HEAD: usize = 512;

/// Makes the zone and the wake-ups, before so many workers are forked.
pub fn prepare(workers: usize, brokers: usize) -> bool {
    let Some(words) = zone::HUB.memory() else { return true };
    // Fresh memory is zero, and no zone.
    if let Ok(zone) = Zone::attach(words) {
        zone.gateway().load();
        zone.gateway().set_brokers(brokers);
        return wake::prepare(zone.directory().capacity().into(), true);
    }
    // Eight generations of them, seven of which still drain.
    match Zone::init(words, (8 * workers).clamp(ROWS, MAX_ROWS), node()) {
        Ok(zone) => {
            zone.gateway().set_brokers(brokers);
            wake::prepare(zone.directory().capacity().into(), false)
        }
        Err(err) => {
            log::alert(&format!("websocket: {err} for {workers} workers"));
            false
        }
    }
}

/// A number for a zone that no other machine's has.
fn node() -> NodeId {
    NodeId(u32::from_ne_bytes(random::bytes()))
}

/// The smallest `websocket_zone`.
pub fn smallest_zone() -> usize {
    Zone::min_len(ROWS).unwrap_or(1 << 20) + zone::OVERHEAD
}

/// An id for a connection of a worker without a seat: nobody else can send to it.
pub fn seatless_id() -> ConnId {
    ConnId::new(node(), u16::MAX, 0, random::bytes())
}

impl Bus {
    /// Takes a seat. None: there is no zone, or no free row, which is logged if `loud`.
    pub fn join(woken: fn(), loud: bool) -> Option<Bus> {
        let zone = Zone::attach(zone::HUB.memory()?).ok()?;
        let (pid, slot) = process::this();
        let directory = zone.directory();
        // Before anybody may know of the seat: who asks all workers waits for this one too.
        let reader = Reader::new(zone.ring());
        let seat = match zone.join(slot, pid, process::exists) {
            Ok(seat) => seat,
            Err(err) => {
                if loud {
                    log::alert(&format!("websocket: {err}"));
                }
                return None;
            }
        };
        let counters = zone.counters().row(seat.row());
        if !wake::listen(seat.row(), woken) {
            zone.leave(&seat);
            return None;
        }
        stats::attach(counters);
        // A predecessor may have been killed between its message and its wake-ups.
        directory.others(seat.row()).for_each(wake::wake);
        Some(Bus {
            zone,
            ring: zone.ring(),
            directory,
            interest: Interest::new(directory, &seat),
            reader,
            seat,
            counters,
            sequence: 0,
            woken: false,
            missed: false,
            hears_all: false,
            configuration: zone.gateway().loaded(),
            freed: clock::now_ms(),
            uncounted: 0,
            head: Vec::new(),
            incoming: Vec::new(),
            overruns: RateLimiter::default(),
            uncountable: RateLimiter::default(),
        })
    }

    /// Gives the seat back.
    pub fn leave(self) {
        stats::detach();
        self.zone.leave(&self.seat);
    }

    /// The zone this seat is in.
    pub fn zone(&self) -> Zone<'static> {
        self.zone
    }

    /// An id for a connection of this worker.
    pub fn new_id(&self) -> ConnId {
        self.seat.conn_id(random::bytes())
    }

    /// A topic has its first subscriber here. Drain before subscribing.
    pub fn listen_to(&mut self, topic: &[u8]) {
        self.interest.add(TopicHash::of(topic));
    }

    /// A topic has lost a subscriber here, and has so many left.
    pub fn left(&mut self, topic: &[u8], rest: usize) {
        if rest == 0 {
            self.interest.remove(TopicHash::of(topic));
        }
        self.counted(topic, rest + 1, rest);
    }

    /// A topic has so many subscribers here now, and had so many before.
    pub fn counted(&mut self, topic: &[u8], before: usize, now: usize) {
        let (had, has) = self.zone.census().set(self.seat.row(), TopicHash::of(topic), now);
        if before > 0 && had == Entered::No {
            self.uncounted = self.uncounted.saturating_sub(1);
        }
        if now > 0 && has == Entered::No {
            self.uncounted += 1;
            if self.uncountable.may_log() {
                log::warn(
                    "websocket: more topics than the zone can count: \
                     a larger websocket_zone counts more",
                );
            }
        }
        self.counters.set(Counter::TopicsUncounted, self.uncounted);
    }

    /// A topic's subscribers in the other workers. Those of a worker that has just been killed may
    /// still be among them.
    pub fn elsewhere(&mut self, topic: &[u8]) -> u64 {
        self.free_dead_if_due();
        self.zone.subscribers(TopicHash::of(topic), self.seat.row())
    }

    /// Looks for workers that were killed, if nobody has lately.
    pub fn free_dead_if_due(&mut self) {
        if clock::now_ms() >= self.freed + FREE_EVERY {
            self.free_dead();
        }
    }

    /// Looks for workers that were killed.
    pub fn free_dead(&mut self) {
        self.freed = clock::now_ms();
        self.directory.free_dead(process::exists);
    }

    /// The largest payload that surely fits, whatever is said about it.
    pub fn max_payload(&self) -> usize {
        self.ring.max_message() - MAX_HEAD
    }

    /// This worker's row.
    pub fn row(&self) -> u16 {
        self.seat.row()
    }

    /// The number that the next message will have.
    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    /// The worker of a connection that is not here, or the one that passes things on to its
    /// machine: then it says true. Our own row: then the connection is gone.
    pub fn other_owner(&self, id: &ConnId) -> Result<(u16, bool), Error> {
        match self.directory.owner_of(id) {
            Whose::Here(row) if row != self.seat.row() => Ok((row, false)),
            Whose::There(node) if self.place().is_alive(node, clock::now_ms()) => {
                Ok((self.place().holder().ok_or(Error::NoConnection)?, true))
            }
            Whose::Here(_) | Whose::There(_) | Whose::Gone => Err(Error::NoConnection),
        }
    }

    /// The worker of a connection of this machine, this one or another.
    pub fn owner_here(&self, id: &ConnId) -> Option<Target> {
        match self.directory.owner_of(id) {
            Whose::Here(row) => Some(Target::Row(row)),
            Whose::There(_) | Whose::Gone => None,
        }
    }

    /// This worker, for those who get its messages.
    pub fn origin(&self) -> Origin {
        self.seat.origin()
    }

    /// Who talks to the broker.
    pub fn place(&self) -> Gateway<'static> {
        self.zone.gateway()
    }

    /// Whether this worker does.
    pub fn is_gateway(&self) -> bool {
        self.place().is(&self.seat)
    }

    /// Takes that upon this worker, if nobody does. Whether it does now.
    pub fn become_gateway(&mut self) -> bool {
        let is_gateway = self.place().take(&self.seat, self.configuration);
        self.hears_all |= is_gateway;
        is_gateway
    }

    /// Prepares for that, if somebody of an older configuration does it. Whether it is this worker
    /// that prepares.
    pub fn become_heir(&mut self) -> bool {
        let is_heir = self.place().inherit(&self.seat, self.configuration);
        self.hears_all |= is_heir;
        is_heir
    }

    /// This worker hears all that the gateway hears.
    pub fn be_ready(&self) {
        self.place().be_ready(&self.seat);
    }

    /// The heir is the gateway from now on.
    pub fn hand_over(&self) {
        self.place().hand_over(&self.seat);
    }

    /// Whether there is a newer configuration than this worker's.
    pub fn is_outdated(&self) -> bool {
        self.configuration < self.place().loaded()
    }

    /// Gives that up.
    pub fn be_no_gateway(&mut self) {
        self.hears_all = false;
        self.place().give_up(&self.seat);
    }

    /// Whether another worker listens for a topic, or seems to.
    pub fn is_heard_elsewhere(&self, topic: &[u8]) -> bool {
        let target = Target::Topic(TopicHash::of(topic));
        self.directory.rows_to_wake(target, self.seat.row()).next().is_some()
    }

    /// A message with this worker's name and its number among this worker's; one that has come from
    /// another machine keeps those it has.
    pub fn sign<'m>(&mut self, message: &Envelope<'m>) -> Envelope<'m> {
        if message.origin != Origin::default() {
            return *message;
        }
        self.sequence += 1;
        Envelope { origin: self.seat.origin(), sequence: self.sequence, ..*message }
    }

    /// Signs a message, puts it into the ring and wakes the others. Returns its number.
    pub fn put(&mut self, target: Target, message: &Envelope<'_>) -> Result<u64, Error> {
        let envelope = self.sign(message);
        self.head.clear();
        if envelope.encode_head(&mut self.head).is_err() {
            return Err(Error::BadId);
        }
        let parts = [&self.head, message.payload];
        let published = self.ring.publish(self.seat.row(), target, &parts).map_err(|err| {
            self.counters.add(Counter::PublishFailed, 1);
            match err {
                RingError::TooLarge => Error::TooLarge,
                RingError::Overtaken => Error::Overrun,
            }
        })?;
        self.directory.wake(target, published.wake_all, self.seat.row(), |row| {
            self.counters.add(Counter::WakeupsSent, 1);
            wake::wake(row);
        });
        if envelope.far {
            // It listens for nothing, and reads all.
            if let Some(row) = self.place().holder() {
                self.directory.wake(Target::Row(row), false, self.seat.row(), wake::wake);
            }
        }
        Ok(published.seq)
    }

    /// Passes over the message of our own with this number, if it is the next to be read: who
    /// published it has it at hand. If it is not, it has been lost with those before it.
    pub fn pass(&mut self, seq: u64) -> bool {
        self.reader.pass(seq)
    }

    /// Hands over what lies before message `end`, or as much of it as is good for one turn of the
    /// event loop; then it says false, and the rest comes in the next. `take` says to how many
    /// connections it has handed a message.
    #[inline]
    pub fn catch_up(&mut self, end: u64, take: impl FnMut(&Envelope<'_>) -> usize) -> bool {
        self.reader.next_seq() >= end || self.read(end, false, take)
    }

    /// Hands over what is in the ring now: all of it, or as much as is good for one turn.
    pub fn drain(&mut self, all: bool, take: impl FnMut(&Envelope<'_>) -> usize) {
        self.woken = false;
        self.directory.begin_drain(&self.seat);
        // What comes meanwhile wakes this worker again.
        self.read(self.ring.end(), all, take);
    }

    fn read(&mut self, end: u64, all: bool, mut take: impl FnMut(&Envelope<'_>) -> usize) -> bool {
        let mut buffer = std::mem::take(&mut self.incoming);
        let (mut messages, mut bytes, mut deliveries) = (0, 0, 0);
        let mut reached = true;
        while self.reader.next_seq() < end {
            let (interest, hears_all) = (&self.interest, self.hears_all);
            let wants = |target| match target {
                Target::Topic(_) if hears_all => true,
                target => interest.wants(target),
            };
            match self.reader.read_before(end, &mut buffer, |meta| wants(meta.target)) {
                Read::Empty => break,
                Read::Overrun { lost } => self.overrun(lost),
                Read::Message(_) => {
                    if let Ok(envelope) = Envelope::decode(&buffer) {
                        deliveries += take(&envelope);
                    }
                    messages += 1;
                    bytes += buffer.len();
                }
            }
            let enough =
                messages >= TURN_MESSAGES || bytes >= TURN_BYTES || deliveries >= TURN_DELIVERIES;
            if enough && !all {
                reached = self.reader.next_seq() >= end;
                if !reached {
                    self.wake_self();
                }
                break;
            }
        }
        // A large message does not stay in memory.
        if buffer.capacity() <= 64 * 1024 {
            self.incoming = buffer;
        }
        reached
    }

    /// Goes on in the next turn of the event loop.
    pub fn wake_self(&mut self) {
        if !std::mem::replace(&mut self.woken, true) {
            wake::wake(self.seat.row());
        }
    }

    /// Whether messages were overwritten before this worker read them, since the last time.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    fn overrun(&mut self, lost: u64) {
        self.missed = true;
        self.counters.add(Counter::RingOverruns, 1);
        self.counters.add(Counter::RingLost, lost);
        if self.overruns.may_log() {
            log::warn(&format!(
                "websocket: this worker missed {lost} messages of the others: \
                 a larger websocket_zone holds more"
            ));
        }
    }
}

/// Lets something be logged once in ten seconds at most.
#[derive(Default)]
pub(super) struct RateLimiter {
    /// When it was, 0 for never.
    last: u64,
}

impl RateLimiter {
    /// Whether this may be logged now.
    pub fn may_log(&mut self) -> bool {
        let now = clock::now_ms();
        let may = self.last == 0 || now >= self.last + 10_000;
        if may {
            self.last = now.max(1);
        }
        may
    }
}
