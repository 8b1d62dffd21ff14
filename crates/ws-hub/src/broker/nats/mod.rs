//! NATS: plain topics by its core, over one connection to one server of a cluster; histories by a
//! JetStream, which sends what it has stored on to the subscribers (stream.rs, reading.rs, keeping.rs).
//! A topic is a subject (names.rs). What is asked is answered at a subject of this connection's own
//! (asked.rs), and a PING after the others is answered when the server has taken them: so it
//! acknowledges subscriptions and messages, as nothing else does.
//!
//! The server tells of the others of its cluster, and when it is about to end: then this moves to another
//! one once what was asked is answered.

mod answers;
mod api;
mod asked;
mod info;
mod keeping;
mod names;
pub mod nkey;
mod read;
mod reading;
mod server;
mod standing;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::backoff::Backoff;
use super::incoming::{heartbeat, HEARTBEAT};
use super::lost::{shown, Lost};
use super::queue::Queue;
use super::seam::{Action, Broker, Keep, Peer, Refused, State, To};
use super::settings::{Driver, Login, Settings};
use super::tally::{Number, Tally};
use super::wanted::{Batch, Wanted};
use crate::history::Position;
use asked::{Before, Kept, Pings, Questions, What};
use info::Info;
pub use names::is_prefix;
use names::{Names, KEPT, PLAIN};
use read::{Reads, PIECE};
pub use server::Server;
use server::Servers;
use standing::Standing;
use wire::{publish, Incoming};

/// There is one connection.
const PEER: Peer = Peer(0);
/// Topics subscribed before one PING, and how many of those may be unanswered.
const BATCH: usize = 512;
const BATCHES: usize = 4;
/// Bytes of messages that may be unanswered: enough for any way there, and little to lose.
const WINDOW: usize = 1 << 20;
/// What a message has around it: headers, and a word about the server that names its whole cluster.
const AROUND: usize = 64 * 1024;
/// Milliseconds in which answers are awaited before this moves to another server.
const MOVING: u64 = 1000;

/// How it stands with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Idle,
    /// It is tried again then.
    Waiting(u64),
    /// It must be there by then.
    Connecting(u64),
    /// The server must have said what it is by then.
    Hearing(u64),
    /// It must be in TLS by then.
    Securing(u64),
    /// Who we are has been said.
    Greeting,
    /// Messages pass.
    Ready,
}

/// The state machine. It owns everything; its driver owns the connection.
pub struct Nats {
    tls: bool,
    servers: Servers,
    settings: Settings,
    driver: Driver,
    names: Names,
    phase: Phase,
    backoff: Backoff,
    incoming: Incoming,
    info: Info,
    wanted: Wanted,
    /// By which numbers topics are subscribed.
    numbers: HashMap<Rc<[u8]>, u64>,
    last_number: u64,
    pings: Pings,
    /// Messages for topics, and for machines, with their subjects.
    queue: Queue<(String, Vec<u8>)>,
    /// Bytes of messages that are not answered yet.
    in_flight: usize,
    /// Messages that were denied before the PONG that would have told of them.
    denied: usize,
    questions: Questions,
    /// Messages for histories, and those of them that were sent and were not taken.
    keeps: Queue<Kept>,
    held: VecDeque<Kept>,
    reads: Reads,
    standing: Standing,
    /// This is to move to another server by then.
    moving: Option<u64>,
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

impl Nats {
    /// Not started yet.
    pub fn new(server: &Server, settings: Settings, driver: Driver) -> Self {
        // What is read from a stream's leader is in base64.
        let most = driver.max_message / 3 * 4 + AROUND + if driver.keeps { PIECE } else { 0 };
        Self {
            tls: server.tls,
            servers: Servers::new(server, driver.seed),
            names: Names::new(&settings.prefix, &driver),
            phase: Phase::Idle,
            backoff: Backoff::new(settings.reconnect, driver.seed),
            incoming: Incoming::new(most),
            info: Info::default(),
            wanted: Wanted::default(),
            numbers: HashMap::new(),
            last_number: 0,
            pings: Pings::new(),
            queue: Queue::new(settings.queue, settings.retry),
            in_flight: 0,
            denied: 0,
            questions: Questions::default(),
            keeps: Queue::new(settings.queue, settings.retry),
            held: VecDeque::new(),
            reads: Reads::default(),
            standing: Standing::default(),
            moving: None,
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
            settings,
            driver,
        }
    }

    fn connect(&mut self, now: u64) {
        self.phase = Phase::Connecting(now + self.settings.connect_timeout);
        self.actions.push_back(Action::Connect { peer: PEER, to: self.servers.next() });
    }

    /// The server has said what it is: who we are, and what every machine listens for.
    fn greet(&mut self, now: u64) -> Result<(), Lost> {
        let name = format!("ws:{:08x}", self.driver.node.0);
        let hello = self.info.connect(&self.settings, &name, self.tls);
        let cannot = || Lost::refused("what the server wants to be signed cannot be".to_string());
        self.out.extend(hello.ok_or_else(cannot)?);
        for subject in self.names.own() {
            self.last_number += 1;
            self.out.extend(format!("SUB {subject} {}\r\n", self.last_number).bytes());
        }
        self.phase = Phase::Greeting;
        self.ping(Before::Greeting, now);
        Ok(())
    }

    fn ping(&mut self, before: Before, now: u64) {
        self.out.extend(b"PING\r\n");
        self.pings.push_back((now, before));
    }

    /// Asks something, to be answered by its number.
    fn ask(
        &mut self,
        what: What,
        subject: &str,
        headers: &[(&str, &str)],
        data: &[u8],
        now: u64,
    ) -> u64 {
        let number = self.questions.add(what, now);
        publish(&mut self.out, subject, &self.names.answer(number), headers, data);
        number
    }

    /// Sends whatever may leave now.
    fn go_on(&mut self, now: u64) {
        (self.stirred, self.now) = (false, now);
        while self.queue.expired(now).is_some() {
            self.tally.add(Number::DroppedExpired, 1);
        }
        self.expire_kept(now);
        if let Some(until) = self.moving {
            self.move_away(until, now);
        }
        if self.phase == Phase::Ready && self.moving.is_none() {
            self.subscribe(now);
            self.send_messages(now);
            self.send_kept(now);
            self.begin_reads(now);
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
        self.tally.set(Number::QueueBytes, self.queued() as u64);
        self.tally.set(Number::TopicsWanted, self.wanted.wanted() as u64);
        self.tally.set(Number::TopicsSubscribed, self.wanted.subscribed() as u64);
    }

    /// Bytes that wait.
    fn queued(&self) -> usize {
        self.queue.bytes() + self.keeps.bytes()
    }

    fn subscribe(&mut self, now: u64) {
        while self.pings.iter().filter(|(_, before)| before.is_batch()).count() < BATCHES {
            match self.wanted.next(BATCH, |_, _| true) {
                Some(Batch::Subscribe(names)) => {
                    for name in &names {
                        self.last_number += 1;
                        self.numbers.insert(name.clone(), self.last_number);
                        let subject = self.names.wanted(name);
                        self.out.extend(format!("SUB {subject} {}\r\n", self.last_number).bytes());
                    }
                    self.ping(Before::Subscribe(names), now);
                }
                Some(Batch::Unsubscribe(names)) => {
                    for number in names.iter().filter_map(|name| self.numbers.remove(name)) {
                        self.out.extend(format!("UNSUB {number}\r\n").bytes());
                    }
                    self.ping(Before::Unsubscribe(names), now);
                }
                None => return,
            }
        }
    }

    fn send_messages(&mut self, now: u64) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(len) = self.queue.next_len() {
            if self.in_flight > 0 && self.in_flight + len > WINDOW {
                break;
            }
            let Some((subject, message)) = self.queue.pop() else { break };
            if message.len() > self.info.max_payload {
                self.tally.add(Number::DroppedTooLarge, 1);
                continue;
            }
            publish(&mut self.out, &subject, "", &[], &message);
            (messages, bytes) = (messages + 1, bytes + len);
            self.in_flight += len;
        }
        if messages > 0 {
            self.ping(Before::Messages(messages, bytes), now);
        }
    }

    /// The server will end: when nothing is under way any more, or it takes too long, another is tried.
    fn move_away(&mut self, until: u64, now: u64) {
        let is_asked = self.questions.kept() > 0 || !self.pings.is_empty();
        if self.phase == Phase::Ready && (!is_asked || until <= now) {
            let why = "the server is about to end".to_string();
            self.lose(Lost { kind: Number::ErrorConnect, why, open: true }, now);
        }
    }

    /// The connection has ended, or is of no use: what was under way is lost, and all begins anew.
    fn lose(&mut self, lost: Lost, now: u64) {
        let was_ready = self.phase == Phase::Ready;
        if lost.open {
            self.actions.push_back(Action::Close { peer: PEER });
        }
        self.tally.add(lost.kind, 1);
        if was_ready && self.wanted.wanted() > 0 {
            self.tally.add(Number::Gaps, 1);
        }
        if was_ready {
            self.away_since = Some(now);
        }
        let messages = self.pings.iter().map(|(_, before)| match before {
            Before::Messages(messages, _) => *messages,
            _ => 0,
        });
        let cut = messages.sum::<usize>();
        self.tally.add(Number::DroppedCut, cut);
        self.lose_kept(now);
        self.pings.clear();
        self.numbers.clear();
        self.incoming.clear();
        self.wanted.reset();
        self.reads.clear();
        self.out.clear();
        (self.standing.about, self.standing.ask_at) = (None, None);
        (self.in_flight, self.denied, self.probe) = (0, 0, None);
        (self.moving, self.is_up) = (None, false);
        let again_in = self.backoff.pause();
        self.phase = Phase::Waiting(now + again_in);
        self.tally.set(Number::Connected, 0);
        self.actions.push_back(Action::State(State::Down { why: lost.why, again_in }));
    }

    /// What a server says, without any secret of ours.
    fn shown(&self, text: &[u8]) -> String {
        let secret = match &self.settings.login {
            Login::Token(secret) | Login::Credentials(secret, _) => secret,
            Login::Password | Login::Key(_) => &self.settings.password,
        };
        shown(text, &secret.0)
    }

    /// Tries the way of a message, and asks whether the stream still is the one it was.
    fn try_the_way(&mut self, now: u64) {
        let word = format!("{:016x}", self.backoff.random()).into_bytes();
        publish(&mut self.out, &self.names.probe(), "", &[], &word);
        self.probe = Some((now, word));
        self.next_probe = now + self.settings.probe;
        if self.driver.keeps {
            self.ask_about_stream(now);
        }
    }

    fn beat(&mut self, now: u64) {
        publish(&mut self.out, &self.names.all(), "", &[], &heartbeat(self.driver.node));
        let fifth = HEARTBEAT / 5;
        self.next_heartbeat = now + HEARTBEAT - fifth + self.backoff.random() % (2 * fifth + 1);
    }

    /// What is due by then ends the connection.
    fn deadline(&self) -> Option<u64> {
        let timeout = self.settings.command_timeout;
        let pong = self.pings.front().map(|(at, _)| at + timeout);
        let probe = self.probe.as_ref().map(|(at, _)| at + timeout);
        match self.phase {
            Phase::Connecting(until) | Phase::Hearing(until) | Phase::Securing(until) => {
                Some(until)
            }
            Phase::Greeting | Phase::Ready => pong.into_iter().chain(probe).min(),
            Phase::Idle | Phase::Waiting(_) => None,
        }
    }
}

impl Broker for Nats {
    fn start(&mut self, now: u64) {
        self.connect(now);
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.wanted.want(&[PLAIN, topic].concat(), wanted);
        if !wanted {
            self.wanted.want(&[KEPT, topic].concat(), false);
        }
        self.stirred = true;
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
        self.stirred = true;
    }

    fn keep(&mut self, keep: &Keep<'_>, now: u64) {
        let kept = Kept {
            topic: keep.topic.into(),
            message: keep.message.to_vec(),
            key: keep.key.map(Box::from),
            ticket: keep.ticket,
            until: now + self.settings.retry,
        };
        self.push_kept(kept, now);
    }

    fn read(&mut self, topic: &[u8], since: Position, _: u32) {
        self.reads.waiting.push_back((topic.into(), since));
        self.stirred = true;
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.drop_history(topic, ticket, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        [PLAIN, KEPT].iter().any(|kind| self.wanted.wants(&[kind, topic].concat()))
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.wanted.retain(&mut |name| keep(&name[PLAIN.len()..]));
        self.stirred = true;
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let subject = match to {
            To::Topic(topic) => self.names.plain(topic),
            To::Node(node) => self.names.of_node(node),
            To::All => self.names.all(),
        };
        let len = subject.len() + message.len();
        (self.stirred, self.now) = (true, now);
        let is_above = self.info.max_payload > 0 && message.len() > self.info.max_payload;
        if len > self.queue.most() || is_above {
            self.tally.add(Number::DroppedTooLarge, 1);
            return Err(Refused::TooLarge);
        }
        let is_full = self.queued() + len > self.queue.most();
        if is_full || self.queue.push((subject, message.to_vec()), len, now).is_err() {
            self.tally.add(Number::DroppedFull, 1);
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn connected(&mut self, _: Peer, now: u64) {
        match self.phase {
            Phase::Connecting(_) => {
                self.phase = Phase::Hearing(now + self.settings.connect_timeout);
            }
            Phase::Securing(_) => {
                if let Err(lost) = self.greet(now) {
                    self.lose(lost, now);
                }
                self.go_on(now);
            }
            _ => {}
        }
    }

    fn received(&mut self, _: Peer, bytes: &[u8], now: u64) {
        if !matches!(self.phase, Phase::Hearing(_) | Phase::Greeting | Phase::Ready) {
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
                Phase::Greeting | Phase::Ready => "no answer in time",
                _ => "no connection in time",
            };
            let why = why.to_string();
            self.lose(Lost { kind: Number::ErrorTimeout, why, open: true }, now);
        }
        match self.phase {
            Phase::Waiting(until) if until <= now => self.connect(now),
            Phase::Ready => {
                self.miss_answers(now);
                if self.standing.ask_at.is_some_and(|at| at <= now) {
                    self.ask_about_stream(now);
                }
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
        let timeout = self.settings.command_timeout;
        let phase = match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Ready if self.probe.is_none() => Some(self.next_probe.min(self.next_heartbeat)),
            Phase::Ready => Some(self.next_heartbeat),
            _ => None,
        };
        let ready =
            [self.standing.ask_at, self.questions.oldest().map(|at| at + timeout), self.moving];
        let ready = ready.into_iter().flatten().filter(|_| self.phase == Phase::Ready).min();
        let held = self.held.iter().map(|kept| kept.until).min();
        let waiting = [self.queue.due(), self.keeps.due(), held];
        [phase, ready, self.deadline()].into_iter().chain(waiting).flatten().min()
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
        self.queued() == 0 && self.in_flight == 0 && self.held.is_empty()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
