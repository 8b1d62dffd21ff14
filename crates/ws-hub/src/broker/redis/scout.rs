//! A question to one of several servers, of whom any may be away: who is the master, whose the slots
//! are. One that does not answer, or does not know, is passed over for the next one; once all were
//! asked in vain, who waits is told. Whether the connection stays after an answer is theirs to say.

use super::connection::hello;
use super::wire::{command, Frame, Incoming};
use crate::broker::address::Address;
use crate::broker::backoff::Backoff;
use crate::broker::lost::shown;
use crate::broker::seam::{Action, Peer};
use crate::broker::settings::Secret;

/// Milliseconds until a server that has gone is missed, at least.
const PAUSE: u64 = 1000;

/// How it stands with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection, and one is tried then, if none is needed before.
    Away(u64),
    /// It must be there by then.
    Connecting(u64),
    /// It must have answered by then.
    Asking(u64),
    /// It has, and the connection is there still.
    Watching,
}

/// Never, for `Phase::Away`.
const NEVER: u64 = u64::MAX;

/// What is said to each of them.
pub struct Errand {
    /// Their user and password.
    pub user: Vec<u8>,
    /// See `user`.
    pub password: Secret,
    /// What is said once, before the question.
    pub before: Vec<u8>,
    /// The question.
    pub question: Vec<u8>,
    /// The connection stays after an answer, and is missed when it ends.
    pub stays: bool,
    /// A connection must be there in so many milliseconds, and an answer.
    pub timeout: u64,
}

/// Who asks.
pub struct Scout {
    places: Vec<Address>,
    peer: Peer,
    errand: Errand,
    phase: Phase,
    /// Which one is asked, and how many have been asked in vain.
    at: usize,
    vain: usize,
    /// Somebody waits for an answer.
    wanted: bool,
    incoming: Incoming,
    backoff: Backoff,
    actions: Vec<Action>,
}

impl Scout {
    /// Nobody has been asked yet. `pause` is the longest until a connection is missed, `most` the
    /// longest answer.
    pub fn new(
        places: Vec<Address>,
        peer: Peer,
        errand: Errand,
        pause: u64,
        most: usize,
        seed: u64,
    ) -> Self {
        Self {
            at: seed as usize % places.len(),
            places,
            peer,
            errand,
            phase: Phase::Away(NEVER),
            vain: 0,
            wanted: false,
            incoming: Incoming::new(most),
            backoff: Backoff::new(pause.max(PAUSE), seed),
            actions: Vec::new(),
        }
    }

    /// Somebody waits for an answer.
    pub fn want(&mut self, now: u64) {
        (self.wanted, self.vain) = (true, 0);
        match self.phase {
            Phase::Away(_) => self.connect(now),
            Phase::Watching => self.ask(now),
            Phase::Connecting(_) | Phase::Asking(_) => {}
        }
    }

    /// Nobody waits any more.
    pub fn forget(&mut self) {
        self.wanted = false;
    }

    /// Whether somebody waits.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// These are asked from now on.
    pub fn set_places(&mut self, places: Vec<Address>) {
        self.places = places;
    }

    /// Who is asked.
    pub fn place(&self) -> &Address {
        &self.places[self.at % self.places.len()]
    }

    fn connect(&mut self, now: u64) {
        let to = self.place().clone();
        self.phase = Phase::Connecting(now + self.errand.timeout);
        self.incoming.clear();
        self.actions.push(Action::Connect { peer: self.peer, to });
    }

    fn ask(&mut self, now: u64) {
        self.phase = Phase::Asking(now + self.errand.timeout);
        let bytes = self.errand.question.clone();
        self.actions.push(Action::Send { peer: self.peer, bytes });
    }

    /// The connection is there.
    pub fn connected(&mut self, now: u64) {
        let greeting = command(&hello(&self.errand.user, &self.errand.password.0));
        let bytes = [greeting, self.errand.before.clone()].concat();
        self.actions.push(Action::Send { peer: self.peer, bytes });
        self.ask(now);
    }

    /// Bytes have come: `next` has the frames.
    pub fn received(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Asking(_) | Phase::Watching) {
            self.incoming.feed(bytes);
        }
    }

    /// The next frame that is no answer to a greeting. An error: this one is of no use.
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        while matches!(self.phase, Phase::Asking(_) | Phase::Watching) {
            match self.incoming.next().map_err(|_| "not the protocol of Redis".to_string())? {
                // HELLO's answer.
                Some(Frame::Map(_)) => {}
                Some(Frame::Error(text) | Frame::BlobError(text)) => {
                    return Err(shown(&text, &self.errand.password.0));
                }
                frame => return Ok(frame),
            }
        }
        Ok(None)
    }

    /// The answer is a good one. Whether it was waited for.
    pub fn answered(&mut self) -> bool {
        if !matches!(self.phase, Phase::Asking(_)) {
            return false;
        }
        self.vain = 0;
        self.backoff.reset();
        self.phase = match self.errand.stays {
            true => Phase::Watching,
            false => {
                self.actions.push(Action::Close { peer: self.peer });
                Phase::Away(NEVER)
            }
        };
        std::mem::take(&mut self.wanted)
    }

    /// This one is of no use: the next one, unless nobody waits. Whether all were asked in vain.
    pub fn pass_over(&mut self, is_open: bool, now: u64) -> bool {
        if is_open {
            self.actions.push(Action::Close { peer: self.peer });
        }
        self.at += 1;
        self.phase = Phase::Away(match self.errand.stays {
            true => now + PAUSE + self.backoff.pause(),
            false => NEVER,
        });
        if !self.wanted {
            return false;
        }
        self.vain += 1;
        if self.vain < self.places.len() {
            self.connect(now);
            return false;
        }
        (self.vain, self.wanted) = (0, false);
        true
    }

    /// The connection is gone. Whether all were asked in vain.
    pub fn closed(&mut self, now: u64) -> bool {
        !matches!(self.phase, Phase::Away(_)) && self.pass_over(false, now)
    }

    /// The time has come. Whether all were asked in vain.
    pub fn timer(&mut self, now: u64) -> bool {
        match self.phase {
            Phase::Connecting(until) | Phase::Asking(until) if until <= now => {
                return self.pass_over(true, now);
            }
            Phase::Away(until) if until <= now => self.connect(now),
            _ => {}
        }
        false
    }

    /// When that will be.
    pub fn due(&self) -> Option<u64> {
        match self.phase {
            Phase::Connecting(until) | Phase::Asking(until) | Phase::Away(until) => {
                Some(until).filter(|&until| until != NEVER)
            }
            Phase::Watching => None,
        }
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<Action> {
        (!self.actions.is_empty()).then(|| self.actions.remove(0))
    }
}
