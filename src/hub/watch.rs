//! What is kept for who looks on: every worker samples some numbers every two seconds (whichever comes
//! first does it for all), and, while somebody looks at the status, notes its largest topics and
//! its slowest readers, which means a walk over all it has.

use std::collections::BTreeMap;

use ws_hub::highlights::{largest, Highlights, SHOWN};
use ws_hub::samples::{Sample, EVERY_MS};
use ws_hub::target::TopicHash;

use super::bus::Bus;
use super::local::Local;
use super::numbers::living_zone;
use crate::ngx::clock;
use crate::ngx::timer::Timer;

/// How long after somebody looked workers go on noting.
const LOOKS_MS: u64 = 10_000;

thread_local! {
    static TIMER: Timer = const { Timer::new() };
}

/// Has `due` called on this worker's event loop when the next sample is due.
pub fn next(due: fn()) {
    TIMER.with(|timer| timer.set(EVERY_MS - clock::now_ms() % EVERY_MS, due));
}

/// Takes the sample that is due, and notes what stands out if somebody looks.
pub fn note(local: &Local, bus: &Bus) {
    let (zone, now) = (bus.zone(), clock::now_ms());
    zone.samples().take(now, |counter| zone.sum(counter));
    if zone.samples().is_looked_at(now) {
        let topics = largest(local.topics.all().map(|(name, n)| (name, n as u64)), SHOWN);
        let shown = Highlights {
            topics: topics.into_iter().map(|(name, n)| (name.to_vec(), n)).collect(),
            readers: largest(local.waiting(), SHOWN),
        };
        zone.board().write(bus.row(), &shown);
    }
}

/// The numbers of the last minutes, oldest first, and the number of the sample that is due now.
pub fn samples() -> (Vec<Sample>, u64) {
    let now = clock::now_ms();
    let samples = living_zone().map_or_else(Vec::new, |zone| zone.samples().samples(now).collect());
    (samples, now / EVERY_MS + 1)
}

/// The largest topics and the slowest readers of all workers. Somebody looks: what is old by two
/// seconds now is fresh the next time.
pub fn highlights() -> Highlights {
    let Some(zone) = living_zone() else { return Highlights::default() };
    let now = clock::now_ms();
    let fresh = zone.samples().is_looked_at(now);
    zone.samples().look(now + LOOKS_MS);
    if !fresh {
        return Highlights::default();
    }
    let rows = zone.directory().joined().filter_map(|row| zone.board().read(row));
    let (mut topics, mut readers) = (BTreeMap::<_, u64>::new(), Vec::new());
    for shown in rows {
        for (name, subscribers) in shown.topics {
            *topics.entry(name).or_default() += subscribers;
        }
        readers.extend(shown.readers);
    }
    // The census knows of workers too that have it among their smaller ones, and nothing of a name
    // that was cut.
    let counted = |(name, shown): (Vec<u8>, u64)| {
        let all = zone.subscribers(TopicHash::of(&name), u16::MAX);
        (name, all.max(shown))
    };
    Highlights {
        topics: largest(topics.into_iter().map(counted), SHOWN),
        readers: largest(readers.into_iter(), SHOWN),
    }
}
