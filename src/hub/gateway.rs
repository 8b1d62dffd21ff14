//! The way to other machines: one worker of this machine, the gateway, owns the connections to the
//! brokers (link.rs). The others put what is to go far into the
//! ring, as they do for each other, and tell it by ring messages which topics they listen for. When
//! it dies, or is told to quit, another takes its place, asks everybody what they listen for, and
//! goes on.

use std::rc::Rc;

use bytes::Bytes;
use ws_hub::broker::{encode_outcome, Action, Driver, Keep, Number, To, Unkept};
use ws_hub::envelope::{Kind, Origin};
use ws_hub::{ConnId, Envelope, Zone};

use super::bus::Bus;
use super::copies::News;
use super::handover::Heir;
use super::history::Histories;
use super::link::{Configured, Link};
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
    /// What the others are to hear in the next turn.
    news: Vec<Came>,
    /// Numbers of what this worker sends by itself.
    sequence: u64,
}

/// In those numbers, so that they are no others.
const OWN: u64 = 1 << 63;

/// What has come, and is to be told on this machine.
pub enum Came {
    /// A message, and by which broker.
    Message(usize, Bytes),
    /// Something about histories.
    News(News),
}

impl Gateway {
    /// Begins.
    pub fn new(configured: &[Rc<Configured>], keeps: bool, bus: &Bus, happened: fn()) -> Gateway {
        let origin = bus.origin();
        let open = |broker: &Rc<Configured>| {
            let driver = Driver {
                node: origin.node,
                max_message: bus.max_payload() + 512,
                keeps,
                seed: u64::from_ne_bytes(random::bytes()),
            };
            Link::new(broker.clone(), driver, Rc::new(happened))
        };
        let links = configured.iter().map(open).collect();
        Gateway { origin, links, happened, swept: clock::now_ms(), news: Vec::new(), sequence: OWN }
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
        let signed = match message.origin == Origin::default() {
            false => Envelope { far: false, ..*message },
            true => {
                self.sequence += 1;
                let (origin, sequence) = (self.origin, self.sequence);
                Envelope { origin, sequence, far: false, ..*message }
            }
        };
        if signed.encode(&mut bytes).is_ok() {
            // What it does not take it counts.
            let _ = link.broker.publish(to, &bytes, clock::now_ms());
            self.soon();
        }
    }

    /// This machine will follow a topic's history there.
    pub fn follow(&mut self, topic: &[u8], broker: usize) {
        if let Some(link) = self.links.get_mut(broker) {
            link.broker.follow(topic);
            self.soon();
        }
    }

    /// A copy of a topic's history is to be up to date. False: nobody sees to that.
    pub fn fetch(
        &mut self,
        topic: &[u8],
        broker: usize,
        id: ConnId,
        histories: &Histories,
    ) -> bool {
        let Some(link) = self.links.get_mut(broker) else { return false };
        let news = link.with_copies(|copies, broker| copies.fetch(topic, id, broker, histories));
        self.news.extend(news.map(Came::News));
        self.soon();
        true
    }

    /// A message for a topic's history. False: nobody takes it.
    pub fn keep(
        &mut self,
        topic: &[u8],
        broker: usize,
        key: &[u8],
        id: ConnId,
        message: &Envelope<'_>,
        histories: &Histories,
    ) -> bool {
        let (Some(link), Some(limits)) = (self.links.get_mut(broker), histories.limits(topic))
        else {
            return false;
        };
        let mut bytes = Vec::new();
        let kind = Kind::Publish { topic };
        let signed = Envelope { kind, origin: self.origin, far: false, ..*message };
        if signed.encode(&mut bytes).is_err() {
            return false;
        }
        let (key, ticket) = ((!key.is_empty()).then_some(key), link.copies.ticket(id));
        let keep = Keep { topic, message: &bytes, key, limits, ticket };
        link.broker.keep(&keep, clock::now_ms());
        self.soon();
        true
    }

    /// A topic's history is to be dropped. False: nobody does that.
    pub fn forget(&mut self, topic: &[u8], broker: usize, id: ConnId) -> bool {
        let Some(link) = self.links.get_mut(broker) else { return false };
        let ticket = link.copies.ticket(id);
        link.broker.forget(topic, ticket, clock::now_ms());
        self.soon();
        true
    }

    /// Somebody's errand is not run: it was surely not done.
    pub fn refuse(&mut self, id: ConnId) {
        if id != ConnId::NOBODY {
            let answer = encode_outcome(&Err(Unkept::Unavailable));
            self.news.push(Came::News(News::Answer(id, answer)));
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
    pub fn sweep(&mut self, histories: Option<&Histories>, mut listens: impl FnMut(&[u8]) -> bool) {
        let now = clock::now_ms();
        if now >= self.swept + SWEEP_EVERY {
            self.swept = now;
            for link in &mut self.links {
                link.with_copies(|copies, broker| {
                    broker.retain(&mut |topic| match histories {
                        Some(histories) if histories.keeps(topic) => {
                            copies.keeps(topic, listens(topic), histories)
                        }
                        _ => listens(topic),
                    });
                });
            }
            self.soon();
        }
    }

    /// Does whatever can be done now. Returns what has come.
    pub fn turn(&mut self, zone: &Zone<'_>, histories: Option<&Histories>) -> Vec<Came> {
        let (now, place, standings) = (clock::now_ms(), zone.gateway(), zone.standings());
        let mut came = std::mem::take(&mut self.news);
        for (n, link) in self.links.iter_mut().enumerate() {
            link.turn();
            // What is asked for meanwhile leaves in this turn, too.
            while let Some(action) = link.next() {
                match action {
                    Action::Deliver(message) => came.push(Came::Message(n, message)),
                    Action::Heard(node) if n == 0 => place.heard(node, now),
                    action => {
                        let Some(histories) = histories else { continue };
                        came.extend(about_histories(n, link, action, histories).map(Came::News));
                    }
                }
            }
            place.set_broker(n, link.copies.term(), link.away_since());
            standings.set(n, link.name(), link.stands, link.since);
        }
        for (number, counter) in Number::SHOWN {
            let mut all = 0;
            for (n, link) in self.links.iter_mut().enumerate() {
                let value = link.take(number);
                standings.count(n, number, value);
                all += value;
            }
            match number.is_gauge() {
                true => stats::set(counter, all),
                false => stats::add(counter, all),
            }
        }
        self.call_when_due(now);
        came
    }

    /// The same in a worker that does not talk to the brokers yet: what comes is kept for later.
    pub fn turn_as_heir(&mut self, heir: &mut Heir) {
        for (n, link) in self.links.iter_mut().enumerate() {
            link.turn();
            while let Some(action) = link.next() {
                match action {
                    Action::Deliver(message) => heir.heard.keep(n, message),
                    Action::Follows(topic) => heir.follows.push((n, topic)),
                    Action::Lapsed(topic) => {
                        heir.follows.retain(|(of, one)| (*of, one) != (n, &topic))
                    }
                    _ => {}
                }
            }
        }
        self.call_when_due(clock::now_ms());
    }

    /// Whether an heir hears all that there is to be heard, as far as it knows; and how many topics
    /// that are.
    pub fn is_level(&mut self) -> (bool, u64) {
        let is_level = self.links.iter().all(|link| link.broker.is_level());
        (is_level, self.links.iter_mut().map(|link| link.take(Number::TopicsWanted)).sum())
    }

    /// The heir is the gateway now: the histories that it follows are read from where they are.
    pub fn begin(&mut self, follows: Vec<(usize, Vec<u8>)>, histories: Option<&Histories>) {
        let Some(histories) = histories else { return };
        for (n, topic) in follows {
            if let Some(link) = self.links.get_mut(n) {
                link.with_copies(|copies, broker| copies.follows(&topic, broker, histories));
            }
        }
        self.soon();
    }

    /// Takes those who wait for a copy to be up to date: the next gateway sees to that.
    pub fn take_waiting(&mut self) -> Vec<(Box<[u8]>, ConnId)> {
        self.links.iter_mut().flat_map(|link| link.copies.take_waiting()).collect()
    }

    /// The same in a worker that has handed over: it only waits for what it has sent. Whether that
    /// has been answered.
    pub fn turn_as_leaving(&mut self) -> (Vec<Came>, bool) {
        // The last errands are run as it hands over: who was refused waits for that.
        let mut came = std::mem::take(&mut self.news);
        for link in &mut self.links {
            link.turn();
            while let Some(action) = link.next() {
                if let Action::Kept { ticket, outcome } = action {
                    let news = link.copies.kept(ticket, outcome);
                    came.extend(news.map(Came::News));
                }
            }
        }
        self.call_when_due(clock::now_ms());
        (came, self.links.iter().all(|link| link.broker.is_idle()))
    }

    fn call_when_due(&self, now: u64) {
        if let Some(due) = self.links.iter().filter_map(|link| link.broker.due()).min() {
            DUE.with(|timer| timer.set(due.saturating_sub(now).max(1), self.happened));
        }
    }
}

/// What the `n`th broker says of the histories that it keeps. Those that another keeps now, or this
/// machine, as a newer configuration says, are not its any more.
fn about_histories(
    n: usize,
    link: &mut Link,
    action: Action,
    histories: &Histories,
) -> impl Iterator<Item = News> {
    let is_its = |topic: &[u8]| histories.keeper(topic) == Some(n);
    let news = link.with_copies(|copies, broker| match action {
        Action::Follows(topic) if is_its(&topic) => {
            copies.follows(&topic, broker, histories);
            Vec::new()
        }
        Action::Lapsed(topic) => {
            copies.lapse(&topic, histories);
            Vec::new()
        }
        Action::Page { topic, page } if is_its(&topic) => {
            copies.page(&topic, page, broker, histories)
        }
        Action::Stored { topic, epoch, message } if is_its(&topic) => {
            Vec::from_iter(copies.stored(&topic, epoch, &message, broker, histories))
        }
        Action::Dropped { topic, at } if is_its(&topic) => {
            Vec::from_iter(copies.dropped(&topic, at, histories))
        }
        Action::Kept { ticket, outcome } => Vec::from_iter(copies.kept(ticket, outcome)),
        _ => Vec::new(),
    });
    news.into_iter()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        DUE.with(Timer::cancel);
        for (number, counter) in Number::SHOWN {
            if number.is_gauge() {
                stats::set(counter, 0);
            }
        }
    }
}
