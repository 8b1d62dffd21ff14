//! The way to other machines: one worker of this machine, the gateway, owns the connections to the
//! brokers (link.rs). The others put what is to go far into the
//! ring, as they do for each other, and tell it by ring messages which topics they listen for. When
//! it dies, or is told to quit, another takes its place, asks everybody what they listen for, and
//! goes on.

use std::rc::Rc;

use ws_hub::broker::{Action, Driver, Number, To};
use ws_hub::envelope::Origin;
use ws_hub::gateway::Gateway as Place;
use ws_hub::Envelope;

use super::bus::Bus;
use super::link::{Came, Configured, Link};
use crate::ngx::clock;
use crate::ngx::timer::Timer;
use crate::session::{random, stats};

thread_local! {
    /// When a broker is to be called.
    static DUE: Timer = const { Timer::new() };
}

/// Milliseconds between two looks for topics that nobody listens for any more.
const SWEEP_EVERY: u64 = 10_000;

/// What the gateway has: the brokers, in the configuration's order. What machines tell each other,
/// and topics without a rule, go by the first.
///
/// Owned by the worker's hub. Dropped, it closes the connections and is nobody's gateway any more.
pub struct Gateway {
    origin: Origin,
    links: Vec<Link>,
    happened: fn(),
    swept: u64,
}

impl Gateway {
    /// Begins.
    pub fn new(configured: &[Rc<Configured>], bus: &Bus, happened: fn()) -> Gateway {
        let origin = bus.origin();
        let open = |broker: &Rc<Configured>| {
            let driver = Driver {
                node: origin.node,
                max_message: bus.max_payload() + 512,
                seed: u64::from_ne_bytes(random::bytes()),
            };
            Link::new(broker.clone(), driver, Rc::new(happened))
        };
        let links = configured.iter().map(open).collect();
        Gateway { origin, links, happened, swept: clock::now_ms() }
    }

    /// This machine listens for a topic of that broker.
    pub fn want(&mut self, topic: &[u8], broker: usize) {
        if let Some(link) = self.links.get_mut(broker) {
            link.broker.want(topic, true);
            self.soon();
        }
    }

    /// A message that is to leave, by which broker and for whom.
    pub fn pass_on(&mut self, message: &Envelope<'_>, broker: usize, to: To<'_>) {
        let Some(link) = self.links.get_mut(broker) else { return };
        let mut bytes = Vec::new();
        let signed = Envelope { origin: self.origin, far: false, ..*message };
        if signed.encode(&mut bytes).is_ok() {
            // What it does not take it counts.
            let _ = link.broker.publish(to, &bytes, clock::now_ms());
            self.soon();
        }
    }

    /// Has `happened` called in this turn, for what a broker wants to be done.
    fn soon(&self) {
        if !self.links.iter().any(Link::call_soon) {
            DUE.with(|timer| timer.set(0, self.happened));
        }
    }

    /// Topics for which nobody listens any more are dropped now and then: not at once, for pages
    /// are loaded again.
    pub fn sweep(&mut self, mut listens: impl FnMut(&[u8]) -> bool) {
        let now = clock::now_ms();
        if now >= self.swept + SWEEP_EVERY {
            self.swept = now;
            for link in &mut self.links {
                link.broker.retain(&mut |topic| listens(topic));
            }
            self.soon();
        }
    }

    /// Does whatever can be done now. Returns the messages that have come.
    pub fn turn(&mut self, place: &Place<'_>) -> Came {
        let now = clock::now_ms();
        let mut came = Vec::new();
        for (n, link) in self.links.iter_mut().enumerate() {
            for action in link.turn() {
                match action {
                    Action::Deliver(message) => came.push((n, message)),
                    Action::Heard(node) if n == 0 => place.heard(node, now),
                    _ => {}
                }
            }
        }
        for (number, counter) in Number::SHOWN {
            let all = self.links.iter_mut().map(|link| link.take(number));
            match counter.is_gauge() {
                true => stats::set(counter, all.sum()),
                false => stats::add(counter, all.sum()),
            }
        }
        if let Some(due) = self.links.iter().filter_map(|link| link.broker.due()).min() {
            DUE.with(|timer| timer.set(due.saturating_sub(now).max(1), self.happened));
        }
        came
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        DUE.with(Timer::cancel);
        for (_, counter) in Number::SHOWN {
            if counter.is_gauge() {
                stats::set(counter, 0);
            }
        }
    }
}
