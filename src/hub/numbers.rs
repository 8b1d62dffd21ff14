//! The numbers of all workers, and those that the fan-out counts.

use ws_hub::broker::Number;
use ws_hub::standing::{Standing, Stands};
use ws_hub::{Counter, Zone};

use super::{far, history};
use crate::ngx::{clock, process, zone};
use crate::session::{stats, Delivery};

/// The zone as this worker finds it, seat or not; None in a process that has none. Workers that
/// are gone and will not be replaced (killed while they drained) have no row any more.
pub fn living_zone() -> Option<Zone<'static>> {
    let zone = Zone::attach(zone::HUB.memory()?).ok()?;
    zone.directory().free_dead(process::exists);
    Some(zone)
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

/// A number, summed over all workers.
pub fn sum(counter: Counter) -> u64 {
    match counter {
        Counter::HistoryTopics => history::stats().topics,
        Counter::HistoryBytes => history::stats().bytes,
        Counter::HistoryZoneBytes => history::stats().capacity,
        Counter::HistoryEvicted | Counter::HistoryEndedEvicted => history::stats().evicted,
        Counter::HistoryEndedForgotten => history::stats().forgotten,
        Counter::HistoryEndedKilled => history::stats().killed,
        _ => living_zone().map_or(0, |zone| zone.sum(counter)),
    }
}

/// Connections of all workers that have a seat.
pub fn connections() -> u64 {
    sum(Counter::Open)
}

/// The numbers of each worker.
pub fn workers() -> Vec<Worker> {
    let Some(zone) = living_zone() else { return Vec::new() };
    let of = |row| {
        let (slot, pid) = zone.directory().worker(row)?;
        let counters = zone.counters().row(row);
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
    zone.directory().joined().filter_map(of).collect()
}

/// How it stands with a broker of this worker's configuration.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Its name there.
    pub name: String,
    /// The process that talks to it; none while another takes the place of one that died.
    pub worker: Option<u32>,
    /// How it stands.
    pub stands: Stands,
    /// For so many milliseconds.
    pub lasts: u64,
    /// Of these for how many it has not been there; 0: it is.
    pub away: u64,
    standing: Standing,
}

impl Reached {
    /// One of its numbers. What nobody talks to has nothing now, only totals.
    pub fn get(&self, number: Number) -> u64 {
        match self.worker {
            None if number.is_gauge() => 0,
            _ => self.standing.get(number),
        }
    }
}

/// How it stands with each broker, as the gateway has written it.
pub fn brokers() -> Vec<Reached> {
    let names = far::names();
    let Some(zone) = living_zone().filter(|_| !names.is_empty()) else { return Vec::new() };
    let now = clock::now_ms();
    let holder = zone.gateway().holder().and_then(|row| zone.directory().worker(row));
    let worker = holder.map(|(_, pid)| pid);
    let reached = |name: String| {
        let standing = zone.standings().read(&name).unwrap_or_else(|| Standing::new(now));
        let (stands, lasts) = match (worker, standing.stands) {
            (None, Stands::Connected) => (Stands::Connecting, 0),
            (_, stands) => (stands, now.saturating_sub(standing.since_ms)),
        };
        Reached { name, worker, stands, lasts, away: standing.away(now), standing }
    };
    names.into_iter().map(reached).collect()
}

/// Counts what became of a message for one connection.
pub fn delivered(delivery: Delivery) {
    let counter = match delivery {
        Delivery::Queued => Counter::Delivered,
        Delivery::Dropped => Counter::SlowDropped,
        Delivery::Closed => Counter::SlowClosed,
        Delivery::Gone => return,
    };
    stats::add(counter, 1);
}
