//! Redis 7 and Valkey: PUBLISH and SUBSCRIBE over one RESP3 connection, which carries
//! commands and pushed messages alike. Names there, behind the prefix: `t:TOPIC` for a topic,
//! `n:NODE` for a machine, `all` for what every machine hears (heartbeats, messages to several topics
//! at once), `p:NODE` for a machine's own probe, which takes the way of a message, so that a server
//! that is stopped, or a connection that leads nowhere, is found.
//!
//! * here: the machine for one server; connection.rs, sending.rs, answers.rs: its parts;
//! * history.rs: histories; names.rs, wire.rs: what is said, and how;
//! * scout.rs: one of several servers is asked where to connect to: a Sentinel who is the master
//!   (sentinel.rs), a Cluster's server whose the slots are (cluster/);
//! * cluster/: a machine for each master of a Cluster (member.rs), and what goes to which (slots.rs).
//!
//! Commands are pipelined; answers come in their order, pushed messages between them. What a
//! SUBSCRIBE answers is pushed, too, but in its place among the answers.

mod answers;
mod asked;
pub mod cluster;
mod connection;
mod elsewhere;
mod history;
mod item;
mod member;
mod names;
mod scout;
mod sending;
pub mod sentinel;
mod server;
mod slots;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use super::contact::{Contact, Phase};
use super::lost::Lost;
use super::queue::Queue;
use super::seam::{Action, Broker, Keep, Peer, Refused, To};
use super::settings::{Driver, Settings};
use super::tally::{Number, Tally};
use super::wanted::Wanted;
use crate::history::Position;
use asked::Asked;
use elsewhere::Returned;
use history::{Op, Replication, Todo, PIECE};
use item::{Item, Message};
use names::{tag_to, Names, KEPT, PLAIN};
pub use server::Server;
use slots::{tag_of, Tag, Tags};
use wire::{command, Incoming};

/// Topics in one SUBSCRIBE, and how many of them may be unanswered.
const BATCH: usize = 512;
const BATCHES: usize = 4;
/// Bytes of messages that may be unanswered: enough for any way there, and little to lose.
const WINDOW: usize = 1 << 20;
/// What a frame has around the largest message.
const AROUND: usize = 4096;
/// And around the map of a Cluster: all slots one by one.
const MAP: usize = 8 << 20;
/// Histories that are read at a time.
const READS: usize = 64;

/// The state machine. It owns everything; its driver owns the connection.
pub struct Redis {
    server: Server,
    settings: Settings,
    driver: Driver,
    names: Names,
    contact: Contact,
    incoming: Incoming,
    asked: VecDeque<Asked>,
    wanted: Wanted,
    /// Topics in the next batch: fewer after one was refused, to find which was meant.
    batch: usize,
    queue: Queue<Item>,
    /// Bytes of messages that are not answered yet.
    in_flight: usize,
    /// Histories that are to be read.
    reads: VecDeque<Op>,
    /// What a script could not do now, and is to be tried again when so many questions are answered.
    held: VecDeque<Item>,
    /// In a Cluster, not before then.
    held_until: u64,
    questions: usize,
    digests: Vec<Bytes>,
    replication: Replication,
    /// In a Cluster: keys of these tags have come from the server with this replication id.
    kin: HashMap<Tag, Rc<[u8]>>,
    /// It is not whole; it is asked again then.
    refuses: Option<u64>,
    returned: Returned,
    /// It is this one that says that the machine lives.
    beats: bool,
    /// What is wanted may have changed: `timer` is to be called, for its time.
    has_changed: bool,
}

impl Redis {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        let queue = Queue::new(settings.queue, settings.retry);
        Self::with(server, settings, driver, None, queue)
    }

    /// With a queue, and in a Cluster with its tags.
    fn with(
        server: Server,
        settings: Settings,
        driver: Driver,
        tags: Option<Rc<Tags>>,
        queue: Queue<Item>,
    ) -> Self {
        let map = if tags.is_some() { MAP } else { 0 };
        Self {
            beats: tags.is_none(),
            names: Names::new(&settings.prefix, &driver, tags),
            contact: Contact::new(&settings, driver.seed),
            incoming: Incoming::new(
                driver.max_message + AROUND + map + if driver.keeps { 2 * PIECE } else { 0 },
            ),
            asked: VecDeque::new(),
            wanted: Wanted::default(),
            batch: BATCH,
            queue,
            in_flight: 0,
            reads: VecDeque::new(),
            held: VecDeque::new(),
            held_until: 0,
            questions: 0,
            digests: Vec::new(),
            replication: Replication::default(),
            kin: HashMap::new(),
            refuses: None,
            returned: Returned::default(),
            has_changed: false,
            server,
            settings,
            driver,
        }
    }

    /// Whether messages may leave.
    fn can_send(&self) -> bool {
        self.contact.phase == Phase::Ready && self.refuses.is_none() && self.questions == 0
    }

    /// The time of the last call.
    fn last_call(&self) -> u64 {
        self.contact.now
    }
}

impl Broker for Redis {
    fn start(&mut self, now: u64) {
        self.connect(now);
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.wanted.want(&self.names.name(PLAIN, topic), wanted);
        if !wanted {
            self.wanted.want(&self.names.name(KEPT, topic), false);
        }
        self.has_changed = true;
    }

    fn follow(&mut self, topic: &[u8]) {
        let name = self.names.name(KEPT, topic);
        let was_wanted = self.wanted.wants(&name);
        self.wanted.want(&name, true);
        self.has_changed = true;
        let topic = topic.to_vec();
        match self.wanted.answered(&name) {
            // Given up a moment ago, and subscribed still: it is not acknowledged again.
            Some(true) if !was_wanted => self.contact.actions.push_back(Action::Follows(topic)),
            Some(false) => self.contact.actions.push_back(Action::Page { topic, page: None }),
            _ => {}
        }
    }

    fn keep(&mut self, keep: &Keep<'_>, now: u64) {
        let todo = Todo::Keep {
            messages: vec![(keep.message.to_vec(), keep.ticket)],
            key: keep.key.map(Box::from),
            limits: keep.limits,
        };
        let len = keep.message.len() + keep.topic.len();
        self.push(Op::new(keep.topic, todo, len), now);
    }

    fn read(&mut self, topic: &[u8], since: Position, most: u32) {
        let todo = Todo::Read { since, most };
        self.reads.push_back(Op::new(topic, todo, 0));
        self.contact.stirred = true;
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.push(Op::new(topic, Todo::Forget { ticket }, topic.len()), now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        [PLAIN, KEPT].iter().any(|kind| self.wanted.wants(&self.names.name(kind, topic)))
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        let names = &self.names;
        self.wanted.retain(&mut |name| names.topic(name).is_none_or(|(_, topic)| keep(topic)));
        self.has_changed = true;
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let (channel, tag) = match to {
            To::Topic(topic) => {
                let name = self.names.name(PLAIN, topic);
                ([&self.names.prefix[..], &name].concat(), tag_of(topic))
            }
            To::Node(node) => (self.names.of_node(node), tag_to(Some(node))),
            To::All => (self.names.all.clone(), tag_to(None)),
        };
        let bytes = command(&[self.names.publish, &channel, message]);
        let (len, until) = (bytes.len(), self.queue.until(now));
        self.contact.stir(now);
        if len > self.queue.most() {
            self.contact.tally.add(Number::DroppedTooLarge, 1);
            return Err(Refused::TooLarge);
        }
        let item = Item::Message(Message { bytes, tag, until });
        self.queue.push(item, len, now).map_err(|_| {
            self.contact.tally.add(Number::DroppedFull, 1);
            Refused::Full
        })
    }

    fn connected(&mut self, _: Peer, now: u64) {
        if matches!(self.contact.phase, Phase::Connecting(_)) {
            self.greet(now);
            self.go_on(now);
        }
    }

    fn received(&mut self, _: Peer, bytes: &[u8], now: u64) {
        if !matches!(self.contact.phase, Phase::Greeting | Phase::Ready) {
            return;
        }
        self.incoming.feed(bytes);
        if let Err(lost) = self.take_frames(now) {
            self.lose(lost, now);
        }
        self.go_on(now);
    }

    fn closed(&mut self, _: Peer, why: &str, now: u64) {
        if let Some(lost) = self.contact.closed(why) {
            self.lose(lost, now);
            self.go_on(now);
        }
    }

    fn timer(&mut self, now: u64) {
        if let Some(lost) = self.contact.missed(self.first_asked(), now) {
            self.lose(lost, now);
        }
        if self.contact.is_to_connect(now) {
            self.connect(now);
        }
        if self.contact.phase == Phase::Ready {
            if self.contact.probe_due().is_some_and(|at| at <= now) {
                self.try_the_way(now);
            }
            if self.beats && self.contact.next_heartbeat <= now {
                self.beat(now);
            }
            if self.refuses.is_some_and(|until| until <= now) {
                self.ask_whole(now);
            }
        }
        self.go_on(now);
    }

    fn due(&self) -> Option<u64> {
        let phase = match self.contact.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Ready => {
                let probe = self.contact.probe_due();
                let beat = self.beats.then_some(self.contact.next_heartbeat);
                let held = self.held.iter().map(|_| self.held_until).find(|_| self.can_send());
                let whole = self.refuses.filter(|&until| until != u64::MAX);
                let changed = self.has_changed.then_some(0);
                [probe, beat, held, whole, changed].into_iter().flatten().min()
            }
            _ => None,
        };
        let held = self.held.iter().map(Item::waits_until).min();
        [phase, self.contact.deadline(self.first_asked()), self.queue.due(), held]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll(&mut self) -> Option<Action> {
        // What was handed over in one turn leaves together.
        if self.contact.actions.is_empty() && std::mem::take(&mut self.contact.stirred) {
            self.go_on(self.contact.now);
        }
        self.contact.actions.pop_front()
    }

    fn is_level(&self) -> bool {
        self.contact.phase == Phase::Ready && self.wanted.is_level()
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight == 0 && self.held.is_empty()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.contact.tally
    }
}
