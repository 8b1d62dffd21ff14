//! This worker's seat among the others: the ring it publishes to and reads from, the directory that
//! says whom to wake, its row of counters.

use ws_hub::counters::Row;
use ws_hub::directory::{Directory, Interest, Seat, TopicHash};
use ws_hub::envelope::{Kind, Type};
use ws_hub::ring::{Reader, RingError, Target};
use ws_hub::{ConnId, Counter, Envelope, Read, Ring, Zone};

use super::{Error, Worker};
use crate::ngx::{clock, log, wake, zone};
use crate::session::{random, stats, Delivery};

/// Workers at a time, old generations that still drain included.
pub const ROWS: usize = 64;

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
    /// An eighth of the ring went by since the last time (see `take_due`).
    due: bool,
    /// Buffers used again and again.
    head: Vec<u8>,
    incoming: Vec<u8>,
    /// When an overrun was last logged: a worker that cannot keep up must not fill the log too.
    overrun_logged: u64,
}

/// An overrun is logged once in so many milliseconds.
const LOG_EVERY: u64 = 10_000;

/// Makes the zone and the wake-ups, before workers are forked.
pub fn prepare() -> bool {
    let Some((words, reused)) = zone::memory() else { return true };
    if reused && Zone::attach(words).is_ok() {
        return wake::prepare(ROWS);
    }
    match Zone::init(words, ROWS) {
        Ok(_) => wake::prepare(ROWS),
        Err(err) => {
            log::alert(&format!("websocket: {err}"));
            false
        }
    }
}

/// The smallest `websocket_zone`.
pub fn smallest_zone() -> usize {
    Zone::min_len(ROWS).unwrap_or(1 << 20) + zone::OVERHEAD
}

impl Bus {
    /// Takes a seat. None: there is no zone, or no free row.
    pub fn join(woken: fn()) -> Option<Bus> {
        let (words, _) = zone::memory()?;
        let zone = Zone::attach(words).ok()?;
        let (pid, slot) = wake::this_process();
        let directory = zone.directory();
        let seat = match zone.join(slot, pid, wake::process_exists) {
            Ok(seat) => seat,
            Err(err) => {
                log::alert(&format!("websocket: {err}"));
                return None;
            }
        };
        let counters = zone.counters().row(seat.row());
        stats::attach(counters);
        if !wake::listen(seat.row(), woken) {
            return None;
        }
        Some(Bus {
            zone,
            ring: zone.ring(),
            directory,
            interest: Interest::new(directory, &seat),
            reader: Reader::new(zone.ring()),
            seat,
            counters,
            sequence: 0,
            due: false,
            head: Vec::new(),
            incoming: Vec::new(),
            overrun_logged: 0,
        })
    }

    /// Gives the seat back.
    pub fn leave(self) {
        stats::detach();
        self.zone.leave(&self.seat);
    }

    /// An id for a connection of this worker.
    pub fn new_id(&self) -> ConnId {
        self.seat.conn_id(random::bytes())
    }

    /// A topic has its first subscriber here. Drain before subscribing.
    pub fn listen_to(&mut self, topic: &[u8]) {
        self.interest.add(TopicHash::of(topic));
    }

    /// A topic has lost its last subscriber here.
    pub fn forget(&mut self, topic: &[u8]) {
        self.interest.remove(TopicHash::of(topic));
    }

    /// The largest message.
    pub fn max_message(&self) -> usize {
        self.ring.max_message()
    }

    /// The number that the next message will have.
    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    /// Publishes to the other workers. Returns the message's number.
    pub fn publish(
        &mut self,
        topic: &[u8],
        text: bool,
        data: &[u8],
        except: Option<ConnId>,
    ) -> Result<u64, Error> {
        let target = Target::Topic(TopicHash::of(topic));
        self.put(target, Kind::Publish { topic }, text, data, except)
    }

    /// Sends to a connection of another worker.
    pub fn send(&mut self, id: &ConnId, text: bool, data: &[u8]) -> Result<(), Error> {
        let row = self.other_owner(id)?;
        self.put(Target::Row(row), Kind::ToConnection { id: *id }, text, data, None).map(|_| ())
    }

    /// Closes a connection of another worker.
    pub fn close(&mut self, id: &ConnId, code: u16, reason: &str) -> Result<(), Error> {
        let row = self.other_owner(id)?;
        let kind = Kind::CloseConnection { id: *id, code, reason };
        self.put(Target::Row(row), kind, false, &[], None).map(|_| ())
    }

    /// The worker of a connection that is not here. Our own row: then it is gone.
    fn other_owner(&self, id: &ConnId) -> Result<u16, Error> {
        match self.directory.owner_of(id) {
            Some(row) if row != self.seat.row() => Ok(row),
            _ => Err(Error::NoConnection),
        }
    }

    fn put(
        &mut self,
        target: Target,
        kind: Kind<'_>,
        text: bool,
        data: &[u8],
        except: Option<ConnId>,
    ) -> Result<u64, Error> {
        self.sequence += 1;
        let envelope = Envelope {
            kind,
            typ: if text { Type::Text } else { Type::Binary },
            origin: self.seat.row(),
            sequence: self.sequence,
            except,
            payload: data,
        };
        self.head.clear();
        if envelope.encode_head(&mut self.head).is_err() {
            return Err(Error::BadId);
        }
        let put = self.ring.publish(self.seat.row(), target, &[&self.head, data]);
        let published = put.map_err(|err| {
            self.counters.add(Counter::PublishFailed, 1);
            match err {
                RingError::TooLarge => Error::TooLarge,
                RingError::Overtaken => Error::Overrun,
            }
        })?;
        self.due |= published.wake_all;
        // Now and then everybody is woken, whether somebody does so already or not.
        let all = published.wake_all;
        let target = if all { Target::All } else { target };
        for row in self.directory.rows_to_wake(target, self.seat.row()) {
            if self.directory.signal(row) || all {
                self.counters.add(Counter::WakeupsSent, 1);
                wake::wake(row);
            }
        }
        Ok(published.seq)
    }

    /// Whether this worker should drain although nobody woke it: what it publishes itself moves
    /// the ring on too, and its own reader must not be lapped by that.
    pub fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Reads the ring to its end and hands over what concerns this worker.
    pub fn drain(&mut self, mut take: impl FnMut(&Bus, &Envelope<'_>)) {
        self.counters.add(Counter::WakeupsReceived, 1);
        self.directory.begin_drain(&self.seat);
        let mut buffer = std::mem::take(&mut self.incoming);
        let own = self.seat.row();
        loop {
            // What we published ourselves was handed out when it was published.
            let interest = &self.interest;
            let read = self
                .reader
                .read_if(&mut buffer, |meta| meta.writer != own && interest.wants(meta.target));
            match read {
                Read::Empty => break,
                Read::Overrun { lost } => self.overrun(lost),
                Read::Message(_) => {
                    if let Ok(envelope) = Envelope::decode(&buffer) {
                        take(self, &envelope);
                    }
                }
            }
        }
        // A large message does not stay in memory.
        if buffer.capacity() <= 64 * 1024 {
            self.incoming = buffer;
        }
    }

    fn overrun(&mut self, lost: u64) {
        self.counters.add(Counter::RingOverruns, 1);
        self.counters.add(Counter::RingLost, lost);
        let now = clock::now_ms();
        if self.overrun_logged == 0 || now >= self.overrun_logged + LOG_EVERY {
            self.overrun_logged = now.max(1);
            log::warn(&format!(
                "websocket: this worker missed {lost} messages of the others: \
                 a larger websocket_zone holds more"
            ));
        }
    }

    /// Counts what became of a message for one connection.
    pub fn delivered(&self, delivery: Delivery) {
        let counter = match delivery {
            Delivery::Queued => Counter::Delivered,
            Delivery::Dropped => Counter::SlowDropped,
            Delivery::Closed => Counter::SlowClosed,
            Delivery::Gone => return,
        };
        self.counters.add(counter, 1);
    }

    /// Counts.
    pub fn count(&self, counter: Counter, n: u64) {
        self.counters.add(counter, n);
    }

    /// Sets a gauge.
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters.set(counter, value);
    }

    /// The numbers of each worker.
    pub fn workers(&self) -> Vec<Worker> {
        let of = |row| {
            let (slot, pid) = self.directory.worker(row)?;
            let counters = self.zone.counters().row(row);
            Some(Worker {
                pid,
                slot,
                open: counters.get(Counter::Open),
                messages_in: counters.get(Counter::MessagesIn),
                messages_out: counters.get(Counter::MessagesOut),
                bytes_in: counters.get(Counter::BytesIn),
                bytes_out: counters.get(Counter::BytesOut),
            })
        };
        self.directory.joined().filter_map(of).collect()
    }

    /// A number over all workers.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.zone.sum(counter)
    }
}
