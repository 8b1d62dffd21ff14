//! Questions who subscribes a topic, those of others and our own, while their answers are under way:
//! what `presence`, which asks and answers, and `members`, which tells subscribers, keep in `local`.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use ws_hub::presence::{Changes, Head, Members};
use ws_hub::{ConnId, NodeId};

use super::numbers::living_zone;
use crate::ngx::clock;

/// In a rule's flags: members of such topics may be asked for.
pub const PRESENCE: u32 = 2;
/// In a rule's flags: subscribers in JSON format are told who comes and goes.
pub const JOIN_LEAVE: u32 = 4;
/// More members are a number.
pub(super) const MOST_MEMBERS: usize = 100;
/// A worker that says nothing for so long is not waited for, in milliseconds.
const SILENCE_MS: u64 = 2000;

/// Questions who is there, and what is to be told of it.
#[derive(Default)]
pub(super) struct Presence {
    /// Questions that this worker has yet to answer.
    pub answers: VecDeque<Due>,
    /// Its own, by the id that they are answered to.
    pub calls: HashMap<ConnId, Call>,
    /// Who waits for a question that has not been put.
    pub wanted: HashMap<Rc<[u8]>, Vec<ConnId>>,
    /// What has changed and was not told, by topic.
    pub changes: HashMap<Rc<[u8]>, Changes>,
    /// How many workers had gone.
    pub departures: Option<u64>,
    /// `TICK` is set.
    pub ticks: bool,
}

/// A question for those who wait for a topic's members.
pub(super) struct Call {
    pub topic: Rc<[u8]>,
    pub waiting: Vec<ConnId>,
    pub answers: Answers,
    /// The members so far; one more than are listed, at most.
    pub members: Vec<(NodeId, u64, Box<str>)>,
}

impl Presence {
    /// Somebody waits for a topic's members.
    pub fn want(&mut self, topic: &[u8], who: ConnId) {
        match self.wanted.get_mut(topic) {
            Some(waiting) => waiting.push(who),
            None => _ = self.wanted.insert(topic.into(), vec![who]),
        }
    }
}

impl Call {
    pub fn add(&mut self, node: NodeId, number: u64, info: &str) {
        let is_new = |m: &(NodeId, u64, _)| (m.0, m.1) != (node, number);
        if self.members.len() <= MOST_MEMBERS && self.members.iter().all(is_new) {
            self.members.push((node, number, info.into()));
        }
    }
}

/// An answer that this worker has yet to give.
pub(super) struct Due {
    pub topic: Rc<[u8]>,
    pub to: ConnId,
    /// Whom it had when it was asked, and how many of them have been told of.
    pub handles: Vec<u32>,
    pub told: usize,
    pub pieces: u32,
}

/// Who has yet to answer a question.
pub(super) struct Answers {
    /// By row the process there and how many pieces have come.
    missing: HashMap<u16, (u32, u32)>,
    /// Every worker that lives has answered so far.
    pub complete: bool,
    /// When patience ends.
    until: u64,
}

impl Answers {
    /// Nobody of `missing` (by row the process there) has answered yet.
    pub fn of(missing: impl Iterator<Item = (u16, u32)>) -> Answers {
        let missing = missing.map(|(row, pid)| (row, (pid, 0))).collect();
        Answers { missing, complete: true, until: clock::now_ms() + SILENCE_MS }
    }

    /// Takes a piece: its members. None: it is no piece, or nobody's who was asked.
    pub fn take<'a>(&mut self, piece: &'a [u8]) -> Option<Members<'a>> {
        let (head, members) = Head::decode(piece)?;
        let (_, pieces) = self.missing.get_mut(&head.row)?;
        self.until = clock::now_ms() + SILENCE_MS;
        // One before it was lost in the ring.
        self.complete &= *pieces == head.piece;
        *pieces = head.piece + 1;
        if head.is_last {
            self.missing.remove(&head.row);
        }
        Some(members)
    }

    /// Whether nobody is waited for any more, and then whether every worker has answered. Who has
    /// died, or says nothing for long, is not waited for.
    pub fn end(&mut self) -> Option<bool> {
        if self.missing.is_empty() {
            return Some(self.complete);
        }
        // What the dead said of themselves before stays said.
        let zone = living_zone();
        let lives = |row: u16, pid| {
            zone.is_some_and(|zone| zone.directory().worker(row).is_some_and(|w| w.1 == pid))
        };
        self.missing.retain(|&row, &mut (pid, _)| lives(row, pid));
        if clock::now_ms() >= self.until {
            self.complete &= self.missing.is_empty();
            self.missing.clear();
        }
        self.missing.is_empty().then_some(self.complete)
    }
}
