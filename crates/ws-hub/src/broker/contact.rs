//! How it stands with one server, whatever it speaks: when it is connected to and tried again, the
//! word that tries the way of a message, the heartbeat, what is to leave, and what is counted. A
//! machine for one server has one, and adds what is said over the connection.

use std::collections::VecDeque;

use super::address::Address;
use super::backoff::Backoff;
use super::incoming::HEARTBEAT;
use super::lost::Lost;
use super::seam::{Action, Peer, State};
use super::settings::Settings;
use super::tally::{Number, Tally};
use super::wanted::Wanted;

/// There is one connection.
pub const PEER: Peer = Peer(0);

/// How it stands with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    Idle,
    /// It is tried again then.
    Waiting(u64),
    /// It must be there by then.
    Connecting(u64),
    /// NATS: the server must have said what it is by then.
    Hearing(u64),
    /// NATS: it must be in TLS by then.
    Securing(u64),
    /// Who we are has been said.
    Greeting,
    /// Messages pass.
    Ready,
}

/// The part of a machine that does not depend on what its server speaks.
pub struct Contact {
    pub phase: Phase,
    pub backoff: Backoff,
    /// When the way is tried next, and the word that went out.
    pub next_probe: u64,
    pub probe: Option<(u64, Vec<u8>)>,
    pub next_heartbeat: u64,
    /// What leaves when `flush` is called.
    pub out: Vec<u8>,
    pub actions: VecDeque<Action>,
    pub tally: Tally,
    /// Something may have to be sent; the time of the last call.
    pub stirred: bool,
    pub now: u64,
    /// Since when it is away; None before the first time that it was there.
    away_since: Option<u64>,
    /// `State::Up` has been said of this connection.
    is_up: bool,
    connect_timeout: u64,
    command_timeout: u64,
    probe_every: u64,
}

impl Contact {
    /// None yet.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            phase: Phase::Idle,
            backoff: Backoff::new(settings.reconnect, seed),
            next_probe: 0,
            probe: None,
            next_heartbeat: 0,
            out: Vec::new(),
            actions: VecDeque::new(),
            tally: Tally::default(),
            stirred: false,
            now: 0,
            away_since: None,
            is_up: false,
            connect_timeout: settings.connect_timeout,
            command_timeout: settings.command_timeout,
            probe_every: settings.probe,
        }
    }

    /// Something may have to be sent.
    pub fn stir(&mut self, now: u64) {
        (self.stirred, self.now) = (true, now);
    }

    /// Asks for a connection.
    pub fn connect(&mut self, to: Address, now: u64) {
        self.now = now;
        self.phase = Phase::Connecting(now + self.connect_timeout);
        self.actions.push_back(Action::Connect { peer: PEER, to });
    }

    /// We are let in.
    pub fn ready(&mut self) {
        self.phase = Phase::Ready;
        self.tally.set(Number::Connected, 1);
        if self.away_since.is_some() {
            self.tally.add(Number::Reconnects, 1);
        }
    }

    /// Says that it is there, once every topic wanted is subscribed.
    pub fn look(&mut self, wanted: &Wanted) {
        if !self.is_up && wanted.is_level() {
            self.is_up = true;
            self.backoff.reset();
            let away = self.away_since.map(|since| self.now.saturating_sub(since));
            self.away_since = None;
            let topics = wanted.subscribed();
            self.actions.push_back(Action::State(State::Up { topics, away }));
        }
    }

    /// What was said to be there is to be looked at anew.
    pub fn is_not_up(&mut self) {
        self.is_up = false;
    }

    /// The connection has ended, or is of no use. What comes of that is the machine's business;
    /// `wait` follows. `is_served`: messages passed until now.
    pub fn lose(&mut self, lost: &Lost, wanted: &Wanted, is_served: bool, now: u64) {
        if lost.open {
            self.actions.push_back(Action::Close { peer: PEER });
        }
        self.tally.add(lost.kind, 1);
        if self.phase == Phase::Ready && wanted.wanted() > 0 {
            self.tally.add(Number::Gaps, 1);
        }
        if self.phase == Phase::Ready && is_served {
            self.away_since = Some(now);
        }
    }

    /// Begins anew after a while.
    pub fn wait(&mut self, why: String, now: u64) {
        self.out.clear();
        (self.probe, self.is_up) = (None, false);
        let again_in = self.backoff.pause();
        self.phase = Phase::Waiting(now + again_in);
        self.tally.set(Number::Connected, 0);
        self.actions.push_back(Action::State(State::Down { why, again_in }));
    }

    /// The driver says that the connection is gone. None: there was none.
    pub fn closed(&self, why: &str) -> Option<Lost> {
        let is_there = !matches!(self.phase, Phase::Idle | Phase::Waiting(_));
        let kind = Number::ErrorConnect;
        is_there.then(|| Lost { kind, why: why.to_string(), open: false })
    }

    /// What is due by then ends the connection; `asked`: when what is answered next was.
    pub fn deadline(&self, asked: Option<u64>) -> Option<u64> {
        let probe = self.probe.as_ref().map(|(at, _)| *at);
        match self.phase {
            Phase::Connecting(until) | Phase::Hearing(until) | Phase::Securing(until) => {
                Some(until)
            }
            Phase::Greeting | Phase::Ready => {
                let first = asked.into_iter().chain(probe).min();
                first.map(|at| at + self.command_timeout)
            }
            Phase::Idle | Phase::Waiting(_) => None,
        }
    }

    /// That has come.
    pub fn missed(&self, asked: Option<u64>, now: u64) -> Option<Lost> {
        self.deadline(asked).filter(|&due| due <= now)?;
        let why = match self.phase {
            Phase::Greeting | Phase::Ready => "no answer in time",
            _ => "no connection in time",
        };
        Some(Lost { kind: Number::ErrorTimeout, why: why.to_string(), open: true })
    }

    /// Whether the connection is to be asked for now.
    pub fn is_to_connect(&self, now: u64) -> bool {
        matches!(self.phase, Phase::Waiting(until) if until <= now)
    }

    /// A word that tries the way of a message.
    pub fn next_word(&mut self, now: u64) -> Vec<u8> {
        let word = format!("{:016x}", self.backoff.random()).into_bytes();
        self.probe = Some((now, word.clone()));
        self.next_probe = now + self.probe_every;
        word
    }

    /// When one is to be sent; not before the last one has come back.
    pub fn probe_due(&self) -> Option<u64> {
        self.probe.is_none().then_some(self.next_probe)
    }

    /// It has come back, if this is it.
    pub fn word_came(&mut self, word: &[u8], now: u64) {
        if let Some((at, _)) = self.probe.take_if(|(_, sent)| sent == word) {
            self.tally.set(Number::RttMs, now.saturating_sub(at));
        }
    }

    /// A heartbeat leaves.
    pub fn beats(&mut self, now: u64) {
        let fifth = HEARTBEAT / 5;
        self.next_heartbeat = now + HEARTBEAT - fifth + self.backoff.random() % (2 * fifth + 1);
    }

    /// What was written leaves; `queued` bytes wait.
    pub fn flush(&mut self, queued: usize, wanted: &Wanted) {
        if !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            self.actions.push_back(Action::Send { peer: PEER, bytes });
        }
        self.tally.set(Number::QueueBytes, queued as u64);
        self.tally.set(Number::TopicsWanted, wanted.wanted() as u64);
        self.tally.set(Number::TopicsSubscribed, wanted.subscribed() as u64);
    }
}
