//! Questions who subscribes a topic, those of others and our own, while their answers are under way:
//! what `presence`, which asks and answers, `members`, which tells subscribers, and `relay`, which
//! answers other machines, keep in `local`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use ws_hub::presence::Changes;
use ws_hub::roll_call::{Answered, RollCall};
use ws_hub::{ConnId, NodeId};

use super::numbers::living_zone;
use crate::ngx::clock;

/// More members are a number.
pub(super) const MOST_MEMBERS: usize = 100;
/// A worker or a machine that says nothing for so long is not waited for, in milliseconds.
pub(super) const SILENCE_MS: u64 = 2000;

/// Questions who is there, and what is to be told of it.
#[derive(Default)]
pub(super) struct Presence {
    /// Questions that this worker has yet to answer.
    pub answers: VecDeque<Due>,
    /// Its own, by the id that they are answered to.
    pub calls: HashMap<ConnId, Call>,
    /// Those that it has put for other machines, likewise.
    pub relays: HashMap<ConnId, Relay>,
    /// What is to be answered them, and who asked.
    pub outgoing: Vec<(ConnId, Vec<u8>)>,
    /// Who waits for a question that has not been put.
    pub wanted: HashMap<Rc<[u8]>, HashSet<ConnId>>,
    /// What has changed and was not told, by topic.
    pub changes: HashMap<Rc<[u8]>, Changes>,
    /// What was seen of workers and machines when they were looked at last.
    pub seen: Option<Seen>,
    /// `TICK` is set.
    pub ticks: bool,
}

/// Workers and machines as they were seen: who has gone took its members along, who has come is asked
/// for them, and what is told while a broker is away is missed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many workers had gone.
    pub departures: u64,
    /// The other machines.
    pub machines: HashSet<NodeId>,
    /// The term of the first broker; 0: it is away.
    pub term: u32,
}

/// A question that was put for another machine.
pub(super) struct Relay {
    /// Who asks there.
    pub to: ConnId,
    pub roll: RollCall,
    pub pieces: u32,
}

/// A question for those who wait for a topic's members.
pub(super) struct Call {
    pub topic: Rc<[u8]>,
    pub waiting: HashSet<ConnId>,
    pub roll: RollCall,
    /// The members so far; one more than are listed, at most.
    pub members: Vec<(NodeId, u64, Box<str>)>,
    /// How many there are beside.
    pub more: u64,
}

impl Presence {
    /// Somebody waits for a topic's members.
    pub fn want(&mut self, topic: &[u8], who: ConnId) {
        match self.wanted.get_mut(topic) {
            Some(waiting) => _ = waiting.insert(who),
            None => _ = self.wanted.insert(topic.into(), HashSet::from([who])),
        }
    }
}

impl Call {
    /// One is there.
    pub fn add(&mut self, node: NodeId, number: u64, info: &str) {
        let is_known = |m: &(NodeId, u64, _)| (m.0, m.1) == (node, number);
        if self.members.iter().any(is_known) {
            return;
        }
        // Without memory for a list it is a count.
        if self.members.len() <= MOST_MEMBERS && self.members.try_reserve(1).is_ok() {
            self.members.push((node, number, info.into()));
        } else {
            self.more += 1;
        }
    }

    /// One is there no more.
    pub fn remove(&mut self, node: NodeId, number: u64) {
        match self.members.iter().position(|m| (m.0, m.1) == (node, number)) {
            Some(at) => _ = self.members.swap_remove(at),
            None => self.more = self.more.saturating_sub(1),
        }
    }

    /// How many are there, if they are more than are listed, or not all are known.
    pub fn many(&self) -> Option<u64> {
        let (known, beside) = (self.members.len(), self.more.saturating_add(self.roll.numbers()));
        (known > MOST_MEMBERS || beside > 0).then_some(beside.saturating_add(known as u64))
    }
}

/// An answer that this worker has yet to give.
pub(super) struct Due {
    pub topic: Rc<[u8]>,
    pub to: ConnId,
    /// How many it had when it was asked; who they are, unless only their number is to be told; and how
    /// many of them have been told of.
    pub all: usize,
    pub handles: Vec<u32>,
    pub told: usize,
    pub pieces: u32,
}

/// Who has answered a question, if nobody is waited for any more.
pub(super) fn end(roll: &mut RollCall) -> Option<Answered> {
    let zone = living_zone();
    let lives = |row: u16, pid| {
        zone.is_some_and(|zone| zone.directory().worker(row).is_some_and(|w| w.1 == pid))
    };
    roll.end(clock::now_ms(), lives)
}
