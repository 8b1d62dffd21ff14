//! Redis 7 and Valkey, one server: PUBLISH and SUBSCRIBE over one RESP3 connection, which carries
//! commands and pushed messages alike. Names there, behind the prefix: `t:TOPIC` for a topic,
//! `n:NODE` for a machine, `all` for what every machine hears (heartbeats, messages to several topics
//! at once), `p:NODE` for a machine's own probe, which takes the way of a message, so that a server that is stopped, or
//! a connection that leads nowhere, is found.
//!
//! Commands are pipelined; answers come in their order, pushed messages between them. What a
//! SUBSCRIBE answers is pushed, too, but in its place among the answers.

mod answers;
mod asked;
mod names;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::rc::Rc;

use super::backoff::Backoff;
use super::incoming::heartbeat;
use super::queue::Queue;
use super::seam::{Action, Broker, Peer, Refused, State, To};
use super::settings::{Driver, Settings};
use super::tally::{Number, Tally};
use super::wanted::{Batch, Wanted};
use asked::{Asked, What};
use names::Names;
pub use server::Server;
use wire::{about, command, Incoming};

/// There is one connection.
const PEER: Peer = Peer(0);
/// Topics in one SUBSCRIBE, and how many of them may be unanswered.
const BATCH: usize = 512;
const BATCHES: usize = 4;
/// Bytes of messages that may be unanswered: enough for any way there, and little to lose.
const WINDOW: usize = 1 << 20;
/// What a frame has around the largest message.
const AROUND: usize = 4096;
/// Milliseconds between heartbeats, more or less a fifth of them.
const HEARTBEAT: u64 = 5000;

/// How it stands with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Idle,
    /// It is tried again then.
    Waiting(u64),
    /// It must be there by then.
    Connecting(u64),
    /// Who we are has been said.
    Greeting,
    /// Messages pass.
    Ready,
}

/// What `Broker::closed`, a deadline or a frame has ended the connection for.
struct Lost {
    kind: Number,
    why: String,
    /// It is still open on our side.
    open: bool,
}

/// The state machine. It owns everything; its driver owns the connection.
pub struct Redis {
    server: Server,
    settings: Settings,
    driver: Driver,
    names: Names,
    phase: Phase,
    backoff: Backoff,
    incoming: Incoming,
    asked: VecDeque<Asked>,
    wanted: Wanted,
    /// Topics in the next batch: fewer after one was refused, to find which was meant.
    batch: usize,
    queue: Queue,
    /// Bytes of messages that are not answered yet.
    in_flight: usize,
    /// When the way is tried next, and the word that went out.
    next_probe: u64,
    probe: Option<(u64, Vec<u8>)>,
    next_heartbeat: u64,
    /// Since when it is away; None before the first time that it was there.
    away_since: Option<u64>,
    /// `State::Up` has been said of this connection.
    is_up: bool,
    out: Vec<u8>,
    actions: VecDeque<Action>,
    tally: Tally,
}

impl Redis {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        Self {
            names: Names::new(&settings.prefix, &driver),
            phase: Phase::Idle,
            backoff: Backoff::new(settings.reconnect, driver.seed),
            incoming: Incoming::new(driver.max_message + AROUND),
            asked: VecDeque::new(),
            wanted: Wanted::default(),
            batch: BATCH,
            queue: Queue::new(settings.queue, settings.retry),
            in_flight: 0,
            next_probe: 0,
            probe: None,
            next_heartbeat: 0,
            away_since: None,
            is_up: false,
            out: Vec::new(),
            actions: VecDeque::new(),
            tally: Tally::default(),
            server,
            settings,
            driver,
        }
    }

    fn connect(&mut self, now: u64) {
        self.phase = Phase::Connecting(now + self.settings.connect_timeout);
        self.actions.push_back(Action::Connect { peer: PEER, to: self.server.address.clone() });
    }

    /// Who we are, whether it is the right server, and what every machine listens for.
    fn greet(&mut self, now: u64) {
        let Settings { user, password, .. } = &self.settings;
        let name = format!("ws:{:08x}", self.driver.node.0);
        let user: &[u8] = if user.is_empty() { b"default" } else { user };
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if !password.0.is_empty() {
            hello.extend([&b"AUTH"[..], user, &password.0]);
        }
        hello.extend([&b"SETNAME"[..], name.as_bytes()]);
        let hello = command(&hello);
        self.ask(What::Hello, &hello, now);
        if self.server.database > 0 {
            let database = self.server.database.to_string();
            self.ask(What::Select, &command(&[b"SELECT", database.as_bytes()]), now);
        }
        self.ask(What::Role, &command(&[b"ROLE"]), now);
        let own = self.names.own().map(Rc::from).to_vec();
        let subscribe = about(b"SUBSCRIBE", b"", &own);
        self.ask(What::Own(own), &subscribe, now);
        self.phase = Phase::Greeting;
    }

    fn ask(&mut self, what: What, bytes: &[u8], now: u64) {
        self.out.extend(bytes);
        self.asked.push_back(Asked { what, at: now, done: 0 });
    }

    /// Sends whatever may leave now.
    fn go_on(&mut self, now: u64) {
        let expired = self.queue.expire(now);
        self.tally.add(Number::DroppedExpired, expired);
        if self.phase == Phase::Ready {
            while self.asked.iter().filter(|asked| asked.is_batch()).count() < BATCHES {
                let (verb, names): (&[u8], _) = match self.wanted.next(self.batch) {
                    Some(Batch::Subscribe(names)) => (b"SUBSCRIBE", names),
                    Some(Batch::Unsubscribe(names)) => (b"UNSUBSCRIBE", names),
                    None => break,
                };
                let bytes = about(verb, &self.names.topic, &names);
                let what = if verb == b"SUBSCRIBE" { What::Subscribe } else { What::Unsubscribe };
                self.ask(what(names), &bytes, now);
            }
            while let Some(len) = self.queue.next_len() {
                if self.in_flight > 0 && self.in_flight + len > WINDOW {
                    break;
                }
                let Some(bytes) = self.queue.pop() else { break };
                self.in_flight += len;
                self.ask(What::Message(len), &bytes, now);
            }
            if !self.is_up && self.wanted.is_level() {
                self.is_up = true;
                self.backoff.reset();
                let away = self.away_since.map(|since| now.saturating_sub(since));
                self.away_since = None;
                let topics = self.wanted.subscribed();
                self.actions.push_back(Action::State(State::Up { topics, away }));
            }
        }
        if !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            self.actions.push_back(Action::Send { peer: PEER, bytes });
        }
        self.tally.set(Number::QueueBytes, self.queue.bytes() as u64);
        self.tally.set(Number::TopicsWanted, self.wanted.wanted() as u64);
        self.tally.set(Number::TopicsSubscribed, self.wanted.subscribed() as u64);
    }

    /// The connection has ended, or is of no use: what was under way is lost, and all begins anew.
    fn lose(&mut self, lost: Lost, now: u64) {
        let was_ready = self.phase == Phase::Ready;
        if lost.open {
            self.actions.push_back(Action::Close { peer: PEER });
        }
        self.tally.add(lost.kind, 1);
        self.tally.add(Number::DroppedCut, self.messages_asked());
        if was_ready && self.wanted.wanted() > 0 {
            self.tally.add(Number::Gaps, 1);
        }
        if was_ready {
            self.away_since = Some(now);
        }
        self.asked.clear();
        self.incoming.clear();
        self.wanted.reset();
        self.out.clear();
        (self.in_flight, self.batch, self.probe, self.is_up) = (0, BATCH, None, false);
        let again_in = self.backoff.pause();
        self.phase = Phase::Waiting(now + again_in);
        self.tally.set(Number::Connected, 0);
        self.actions.push_back(Action::State(State::Down { why: lost.why, again_in }));
    }

    fn messages_asked(&self) -> usize {
        self.asked.iter().filter(|asked| matches!(asked.what, What::Message(_))).count()
    }

    /// Tries the way of a message, and asks whether this still is the right server.
    fn try_the_way(&mut self, now: u64) {
        let word = format!("{:016x}", self.backoff.random()).into_bytes();
        self.ask(What::Word, &command(&[b"PUBLISH", &self.names.probe, &word]), now);
        self.ask(What::Role, &command(&[b"ROLE"]), now);
        self.probe = Some((now, word));
        self.next_probe = now + self.settings.probe;
    }

    fn beat(&mut self, now: u64) {
        let word = heartbeat(self.driver.node);
        self.ask(What::Word, &command(&[b"PUBLISH", &self.names.all, &word]), now);
        let fifth = HEARTBEAT / 5;
        self.next_heartbeat = now + HEARTBEAT - fifth + self.backoff.random() % (2 * fifth + 1);
    }

    /// What is due by then ends the connection.
    fn deadline(&self) -> Option<u64> {
        let answer = self.asked.front().map(|asked| asked.at + self.settings.command_timeout);
        let probe = self.probe.as_ref().map(|(at, _)| at + self.settings.command_timeout);
        match self.phase {
            Phase::Connecting(until) => Some(until),
            Phase::Greeting | Phase::Ready => answer.into_iter().chain(probe).min(),
            Phase::Idle | Phase::Waiting(_) => None,
        }
    }
}

impl Broker for Redis {
    fn start(&mut self, now: u64) {
        self.connect(now);
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.wanted.want(topic, wanted);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        self.wanted.wants(topic)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.wanted.retain(keep);
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let channel = match to {
            To::Topic(topic) => [&self.names.topic, topic].concat(),
            To::Node(node) => self.names.of_node(node),
            To::All => self.names.all.clone(),
        };
        let bytes = command(&[b"PUBLISH", &channel, message]);
        let too_large = bytes.len() > self.queue.most();
        let taken = !too_large && self.queue.push(bytes, now);
        self.go_on(now);
        match (taken, too_large) {
            (true, _) => return Ok(()),
            (_, true) => self.tally.add(Number::DroppedTooLarge, 1),
            (_, false) => self.tally.add(Number::DroppedFull, 1),
        }
        Err(if too_large { Refused::TooLarge } else { Refused::Full })
    }

    fn connected(&mut self, _: Peer, now: u64) {
        if matches!(self.phase, Phase::Connecting(_)) {
            self.greet(now);
            self.go_on(now);
        }
    }

    fn received(&mut self, _: Peer, bytes: &[u8], now: u64) {
        if !matches!(self.phase, Phase::Greeting | Phase::Ready) {
            return;
        }
        self.incoming.feed(bytes);
        if let Err(lost) = self.take_frames(now) {
            self.lose(lost, now);
        }
        self.go_on(now);
    }

    fn closed(&mut self, _: Peer, why: &str, now: u64) {
        if !matches!(self.phase, Phase::Idle | Phase::Waiting(_)) {
            let kind = Number::ErrorConnect;
            self.lose(Lost { kind, why: why.to_string(), open: false }, now);
            self.go_on(now);
        }
    }

    fn timer(&mut self, now: u64) {
        if self.deadline().is_some_and(|due| due <= now) {
            let why = match self.phase {
                Phase::Connecting(_) => "no connection in time",
                _ => "no answer in time",
            };
            let why = why.to_string();
            self.lose(Lost { kind: Number::ErrorTimeout, why, open: true }, now);
        }
        match self.phase {
            Phase::Waiting(until) if until <= now => self.connect(now),
            Phase::Ready => {
                if self.next_probe <= now && self.probe.is_none() {
                    self.try_the_way(now);
                }
                if self.next_heartbeat <= now {
                    self.beat(now);
                }
            }
            _ => {}
        }
        self.go_on(now);
    }

    fn due(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Ready if self.probe.is_none() => Some(self.next_probe.min(self.next_heartbeat)),
            Phase::Ready => Some(self.next_heartbeat),
            _ => None,
        };
        [phase, self.deadline(), self.queue.due()].into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
