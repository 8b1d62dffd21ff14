//! NATS: plain topics by its core, over one connection to one server of a cluster; histories by a
//! JetStream, which sends what it has stored on to the subscribers (stream.rs, reading.rs, keeping.rs).
//! A topic is a subject (names.rs). What is asked is answered at a subject of this connection's own
//! (asked.rs), and a PING after the others is answered when the server has taken them: so it
//! acknowledges subscriptions and messages, as nothing else does.
//!
//! The server tells of the others of its cluster, and when it is about to end: then another one takes its
//! place (cluster.rs).

mod answers;
mod api;
mod asked;
pub mod cluster;
mod heir;
mod info;
mod keeping;
mod names;
pub mod nkey;
mod read;
mod reading;
mod sending;
mod server;
mod standing;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::contact::{Contact, Phase};
use super::incoming::heartbeat;
use super::lost::{shown, Lost};
use super::queue::Queue;
use super::seam::{Action, Broker, Keep, Peer, Refused, To};
use super::settings::{Driver, Login, Settings};
use super::tally::{Number, Tally};
use super::wanted::Wanted;
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

/// What a message has around it: headers, and a word about the server that names its whole cluster.
const AROUND: usize = 64 * 1024;

/// The state machine. It owns everything; its driver owns the connection.
pub struct Nats {
    tls: bool,
    servers: Servers,
    settings: Settings,
    driver: Driver,
    names: Names,
    contact: Contact,
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
    /// The server has said that it will end.
    is_leaving: bool,
    /// Another one has taken its place: answers are awaited, and nothing else is sent.
    is_retired: bool,
}

impl Nats {
    /// Not started yet.
    pub fn new(server: &Server, settings: Settings, driver: Driver) -> Self {
        Self::with(server.tls, Servers::new(server, driver.seed), settings, driver)
    }

    fn with(tls: bool, servers: Servers, settings: Settings, driver: Driver) -> Self {
        // What is read from a stream's leader is in base64.
        let most = driver.max_message / 3 * 4 + AROUND + if driver.keeps { PIECE } else { 0 };
        Self {
            tls,
            servers,
            names: Names::new(&settings.prefix, &driver),
            contact: Contact::new(&settings, driver.seed),
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
            is_leaving: false,
            is_retired: false,
            settings,
            driver,
        }
    }

    fn connect(&mut self, now: u64) {
        self.contact.connect(self.servers.next(), now);
    }

    /// The server has said what it is: who we are, and what every machine listens for.
    fn greet(&mut self, now: u64) -> Result<(), Lost> {
        let name = format!("ws:{:08x}", self.driver.node.0);
        let hello = self.info.connect(&self.settings, &name, self.tls);
        let cannot = || Lost::refused("what the server wants to be signed cannot be".to_string());
        self.contact.out.extend(hello.ok_or_else(cannot)?);
        for subject in self.names.own() {
            self.last_number += 1;
            self.contact.out.extend(format!("SUB {subject} {}\r\n", self.last_number).bytes());
        }
        self.contact.phase = Phase::Greeting;
        self.ping(Before::Greeting, now);
        Ok(())
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
        publish(&mut self.contact.out, subject, &self.names.answer(number), headers, data);
        number
    }

    /// Sends whatever may leave now.
    fn go_on(&mut self, now: u64) {
        (self.contact.stirred, self.contact.now) = (false, now);
        while self.queue.expired(now).is_some() {
            self.contact.tally.add(Number::DroppedExpired, 1);
        }
        self.expire_kept(now);
        if self.contact.phase == Phase::Ready && !self.is_retired {
            self.subscribe(now);
            self.send_messages(now);
            self.send_kept(now);
            self.begin_reads(now);
            self.contact.look(&self.wanted);
        }
        let queued = self.queued();
        self.contact.flush(queued, &self.wanted);
    }

    /// Bytes that wait.
    fn queued(&self) -> usize {
        self.queue.bytes() + self.keeps.bytes()
    }

    /// The connection has ended, or is of no use: what was under way is lost, and all begins anew.
    fn lose(&mut self, lost: Lost, now: u64) {
        self.contact.lose(&lost, &self.wanted, true, now);
        self.cut(now);
        self.pings.clear();
        self.numbers.clear();
        self.incoming.clear();
        self.wanted.reset();
        self.reads.clear();
        (self.standing.about, self.standing.ask_at) = (None, None);
        self.standing.make_at = None;
        (self.in_flight, self.denied) = (0, 0);
        (self.is_leaving, self.is_retired) = (false, false);
        self.contact.wait(lost.why, now);
    }

    /// What was under way is not answered any more.
    fn cut(&mut self, now: u64) {
        let messages = self.pings.iter().map(|(_, before)| match before {
            Before::Messages(messages, _) => *messages,
            _ => 0,
        });
        let messages = messages.sum::<usize>();
        self.contact.tally.add(Number::DroppedCut, messages);
        self.lose_kept(now);
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
        let word = self.contact.next_word(now);
        publish(&mut self.contact.out, &self.names.probe(), "", &[], &word);
        if self.driver.keeps {
            self.ask_about_stream(now);
        }
    }

    fn beat(&mut self, now: u64) {
        publish(&mut self.contact.out, &self.names.all(), "", &[], &heartbeat(self.driver.node));
        self.contact.beats(now);
    }

    /// When what is answered next was asked.
    fn first_asked(&self) -> Option<u64> {
        self.pings.front().map(|(at, _)| *at)
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
        self.contact.stirred = true;
    }

    fn follow(&mut self, topic: &[u8]) {
        let name = [KEPT, topic].concat();
        let was_wanted = self.wanted.wants(&name);
        self.wanted.want(&name, true);
        let topic = topic.to_vec();
        match self.wanted.answered(&name) {
            // Given up a moment ago, and subscribed still: it is not acknowledged again.
            Some(true) if !was_wanted => self.contact.actions.push_back(Action::Follows(topic)),
            Some(false) => self.contact.actions.push_back(Action::Page { topic, page: None }),
            _ => {}
        }
        self.contact.stirred = true;
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
        self.contact.stirred = true;
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.drop_history(topic, ticket, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        [PLAIN, KEPT].iter().any(|kind| self.wanted.wants(&[kind, topic].concat()))
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.wanted.retain(&mut |name| keep(&name[PLAIN.len()..]));
        self.contact.stirred = true;
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let subject = match to {
            To::Topic(topic) => self.names.plain(topic),
            To::Node(node) => self.names.of_node(node),
            To::All => self.names.all(),
        };
        let len = subject.len() + message.len();
        self.contact.stir(now);
        let is_above = self.info.max_payload > 0 && message.len() > self.info.max_payload;
        if len > self.queue.most() || is_above {
            self.contact.tally.add(Number::DroppedTooLarge, 1);
            return Err(Refused::TooLarge);
        }
        let is_full = self.queued() + len > self.queue.most();
        if is_full || self.queue.push((subject, message.to_vec()), len, now).is_err() {
            self.contact.tally.add(Number::DroppedFull, 1);
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn connected(&mut self, _: Peer, now: u64) {
        match self.contact.phase {
            Phase::Connecting(_) => {
                self.contact.phase = Phase::Hearing(now + self.settings.connect_timeout);
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
        if !matches!(self.contact.phase, Phase::Hearing(_) | Phase::Greeting | Phase::Ready) {
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
            self.miss_answers(now);
            if self.standing.ask_at.is_some_and(|at| at <= now) {
                self.ask_about_stream(now);
            }
            if self.contact.probe_due().is_some_and(|at| at <= now) {
                self.try_the_way(now);
            }
            if self.contact.next_heartbeat <= now {
                self.beat(now);
            }
        }
        self.go_on(now);
    }

    fn due(&self) -> Option<u64> {
        if self.contact.stirred {
            // What is to be sent is sent at the time of a call that brings one.
            return Some(0);
        }
        let timeout = self.settings.command_timeout;
        let phase = match self.contact.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Ready => {
                self.contact.probe_due().into_iter().chain([self.contact.next_heartbeat]).min()
            }
            _ => None,
        };
        let ready = [self.standing.ask_at, self.questions.oldest().map(|at| at + timeout)];
        let ready =
            ready.into_iter().flatten().filter(|_| self.contact.phase == Phase::Ready).min();
        let held = self.held.iter().map(|kept| kept.until).min();
        let waiting = [self.queue.due(), self.keeps.due(), held];
        [phase, ready, self.contact.deadline(self.first_asked())]
            .into_iter()
            .chain(waiting)
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
        self.queued() == 0 && self.in_flight == 0 && self.held.is_empty()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.contact.tally
    }
}
