//! Redis 7 and Valkey, one server: PUBLISH and SUBSCRIBE over one RESP3 connection, which carries
//! commands and pushed messages alike. Names there, behind the prefix: `t:TOPIC` for a topic,
//! `n:NODE` for a machine, `all` for what every machine hears (heartbeats, messages to several topics
//! at once), `p:NODE` for a machine's own probe, which takes the way of a message, so that a server
//! that is stopped, or a connection that leads nowhere, is found. Histories are history.rs's, and
//! which server it is may be a Sentinel's to say (sentinel.rs).
//!
//! Commands are pipelined; answers come in their order, pushed messages between them. What a
//! SUBSCRIBE answers is pushed, too, but in its place among the answers.

mod answers;
mod asked;
mod history;
mod names;
pub mod sentinel;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use super::backoff::Backoff;
use super::incoming::heartbeat;
use super::queue::Queue;
use super::seam::{Action, Broker, Keep, Outcome, Peer, Refused, State, To, Unkept};
use super::settings::{Driver, Settings};
use super::tally::{Number, Tally};
use super::wanted::{Batch, Wanted};
use crate::history::Position;
use asked::{Asked, What};
use history::{Op, Replication, Todo, PIECE, SCRIPTS};
use names::{Names, KEPT, PLAIN};
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
/// Histories that are read at a time.
const READS: usize = 64;
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

/// What waits to be sent.
enum Item {
    /// A PUBLISH as it will be sent.
    Message(Vec<u8>),
    /// Something about a history.
    Op(Op),
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
    queue: Queue<Item>,
    /// Bytes of messages that are not answered yet.
    in_flight: usize,
    /// Histories that are to be read.
    reads: VecDeque<Op>,
    /// What a script could not do now, and is to be tried again when so many questions are answered.
    held: VecDeque<Op>,
    questions: usize,
    digests: Vec<Bytes>,
    replication: Replication,
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
    /// Something may have to be sent; the time of the last call.
    stirred: bool,
    now: u64,
    tally: Tally,
}

impl Redis {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        Self {
            names: Names::new(&settings.prefix, &driver),
            phase: Phase::Idle,
            backoff: Backoff::new(settings.reconnect, driver.seed),
            incoming: Incoming::new(
                driver.max_message + AROUND + if driver.keeps { 2 * PIECE } else { 0 },
            ),
            asked: VecDeque::new(),
            wanted: Wanted::default(),
            batch: BATCH,
            queue: Queue::new(settings.queue, settings.retry),
            in_flight: 0,
            reads: VecDeque::new(),
            held: VecDeque::new(),
            questions: 0,
            digests: Vec::new(),
            replication: Replication::default(),
            next_probe: 0,
            probe: None,
            next_heartbeat: 0,
            away_since: None,
            is_up: false,
            out: Vec::new(),
            actions: VecDeque::new(),
            stirred: false,
            now: 0,
            tally: Tally::default(),
            server,
            settings,
            driver,
        }
    }

    /// The time of the last call.
    fn last_call(&self) -> u64 {
        self.now
    }

    fn connect(&mut self, now: u64) {
        self.now = now;
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
        if self.driver.keeps {
            self.questions = 0;
            self.ask_info(now);
            self.load_scripts(now);
        }
        let own = self.names.own().map(Rc::from).to_vec();
        let subscribe = about(b"SUBSCRIBE", b"", &own);
        self.ask(What::Own(own), &subscribe, now);
        self.phase = Phase::Greeting;
    }

    fn ask_info(&mut self, now: u64) {
        self.questions += 1;
        self.ask(What::Info, &command(&[b"INFO", b"replication"]), now);
    }

    fn load_scripts(&mut self, now: u64) {
        self.digests = vec![Bytes::new(); SCRIPTS.len()];
        for (n, script) in SCRIPTS.iter().enumerate() {
            self.questions += 1;
            self.ask(What::Load(n), &command(&[b"SCRIPT", b"LOAD", script.as_bytes()]), now);
        }
    }

    fn ask(&mut self, what: What, bytes: &[u8], now: u64) {
        self.out.extend(bytes);
        self.asked.push_back(Asked { what, at: now, done: 0 });
    }

    /// Sends whatever may leave now.
    fn go_on(&mut self, now: u64) {
        (self.stirred, self.now) = (false, now);
        while let Some(item) = self.queue.expired(now) {
            match item {
                Item::Message(_) => self.tally.add(Number::DroppedExpired, 1),
                Item::Op(op) => {
                    self.tally.add(Number::DroppedExpired, op.messages());
                    self.tell(op.outcomes(Err(Unkept::Unavailable)));
                }
            }
        }
        if self.phase == Phase::Ready {
            while self.asked.iter().filter(|asked| asked.is_batch()).count() < BATCHES {
                let (verb, names): (&[u8], _) = match self.wanted.next(self.batch) {
                    Some(Batch::Subscribe(names)) => (b"SUBSCRIBE", names),
                    Some(Batch::Unsubscribe(names)) => (b"UNSUBSCRIBE", names),
                    None => break,
                };
                let bytes = about(verb, &self.names.prefix, &names);
                let what = if verb == b"SUBSCRIBE" { What::Subscribe } else { What::Unsubscribe };
                self.ask(what(names), &bytes, now);
            }
            if self.questions == 0 {
                self.send_waiting(now);
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

    /// Sends messages, and what is to be done with histories.
    fn send_waiting(&mut self, now: u64) {
        while let Some(op) = self.held.pop_front() {
            self.run(op, now);
        }
        let reading = |asked: &&Asked| matches!(&asked.what, What::Op(op) if op.messages() == 0);
        let mut reading = self.asked.iter().filter(reading).count();
        while reading < READS {
            let Some(op) = self.reads.pop_front() else { break };
            self.run(op, now);
            reading += 1;
        }
        while let Some(len) = self.queue.next_len() {
            if self.in_flight > 0 && self.in_flight + len > WINDOW {
                break;
            }
            match self.queue.pop() {
                Some(Item::Message(bytes)) => {
                    self.in_flight += bytes.len();
                    self.ask(What::Message(bytes.len()), &bytes, now);
                }
                Some(Item::Op(mut op)) => {
                    let more =
                        |op: &Op, item: &Item| matches!(item, Item::Op(other) if op.takes(other));
                    while let Some(Item::Op(other)) = self.queue.pop_if(|item| more(&op, item)) {
                        op.take(other);
                    }
                    self.run(op, now);
                }
                None => break,
            }
        }
    }

    fn run(&mut self, op: Op, now: u64) {
        let epoch = self.backoff.random().max(1);
        let bytes = op.command(&self.names.prefix, &self.digests, &self.replication, epoch);
        self.in_flight += op.len;
        self.ask(What::Op(op), &bytes, now);
    }

    /// Puts something about a history behind what waits.
    fn push(&mut self, op: Op, now: u64) {
        let len = op.len;
        if let Err(Item::Op(op)) = self.queue.push(Item::Op(op), len, now) {
            self.tally.add(Number::DroppedFull, op.messages());
            self.tell(op.outcomes(Err(Unkept::Full)));
        }
        (self.stirred, self.now) = (true, now);
    }

    fn tell(&mut self, outcomes: Vec<(u64, Outcome)>) {
        let told = outcomes.into_iter().filter(|(ticket, _)| *ticket != 0);
        self.actions.extend(told.map(|(ticket, outcome)| Action::Kept { ticket, outcome }));
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
        // What was surely not done waits again, before what waits already.
        let held = std::mem::take(&mut self.held);
        let mut again: Vec<Op> = held.into_iter().filter(|op| !op.is_read()).collect();
        for Asked { what, .. } in std::mem::take(&mut self.asked) {
            match what {
                What::Op(op) if op.is_repeatable() => again.push(op),
                What::Op(op) => self.tell(op.outcomes(Err(Unkept::Timeout))),
                _ => {}
            }
        }
        for op in again.into_iter().rev() {
            let op = Op { certain: false, ..op };
            let len = op.len;
            self.queue.push_back_in(Item::Op(op), len, now);
        }
        self.reads.clear();
        (self.questions, self.replication) = (0, Replication::default());
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
        let messages = |asked: &Asked| match &asked.what {
            What::Message(_) => 1,
            What::Op(op) if !op.is_repeatable() => op.messages(),
            _ => 0,
        };
        self.asked.iter().map(messages).sum()
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
        self.wanted.want(&[PLAIN, topic].concat(), wanted);
        if !wanted {
            self.wanted.want(&[KEPT, topic].concat(), false);
        }
    }

    fn follow(&mut self, topic: &[u8]) {
        let name = [KEPT, topic].concat();
        let was_wanted = self.wanted.wants(&name);
        self.wanted.want(&name, true);
        let topic = topic.to_vec();
        match self.wanted.answered(&name) {
            // Given up a moment ago, and subscribed still: it is not acknowledged again.
            Some(true) if !was_wanted => self.actions.push_back(Action::Follows(topic)),
            Some(false) => self.actions.push_back(Action::Page { topic, page: None }),
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
        self.push(Op { topic: keep.topic.into(), todo, len, certain: false }, now);
    }

    fn read(&mut self, topic: &[u8], since: Position, most: u32) {
        let todo = Todo::Read { since, most };
        self.reads.push_back(Op { topic: topic.into(), todo, len: 0, certain: false });
        self.stirred = true;
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        let (todo, len) = (Todo::Forget { ticket }, topic.len());
        self.push(Op { topic: topic.into(), todo, len, certain: false }, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        [PLAIN, KEPT].iter().any(|kind| self.wanted.wants(&[kind, topic].concat()))
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.wanted.retain(&mut |name| keep(&name[PLAIN.len()..]));
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let channel = match to {
            To::Topic(topic) => [&self.names.prefix, PLAIN, topic].concat(),
            To::Node(node) => self.names.of_node(node),
            To::All => self.names.all.clone(),
        };
        let bytes = command(&[b"PUBLISH", &channel, message]);
        let len = bytes.len();
        (self.stirred, self.now) = (true, now);
        if len > self.queue.most() {
            self.tally.add(Number::DroppedTooLarge, 1);
            return Err(Refused::TooLarge);
        }
        self.queue.push(Item::Message(bytes), len, now).map_err(|_| {
            self.tally.add(Number::DroppedFull, 1);
            Refused::Full
        })
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
        // What was handed over in one turn leaves together.
        if self.actions.is_empty() && std::mem::take(&mut self.stirred) {
            self.go_on(self.now);
        }
        self.actions.pop_front()
    }

    fn is_level(&self) -> bool {
        self.phase == Phase::Ready && self.wanted.is_level()
    }

    fn is_idle(&self) -> bool {
        self.queue.bytes() == 0 && self.in_flight == 0 && self.held.is_empty()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
