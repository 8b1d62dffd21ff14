//! A question who subscribes a topic, while its answers are under way: who has yet to answer, and
//! whether all that was said has come. The workers of this machine are asked, and other machines,
//! each of which answers as a whole. Who has died, or is silent for long, is not waited for; what it
//! said before stays said. No clock: the time is passed in.

use std::collections::HashMap;

use crate::id::NodeId;
use crate::presence::{Head, Members, Then};

/// More machines are not listened to.
const MOST_MACHINES: usize = 1024;
/// Whoever speaks wins time for the others, but no more than so many times the patience in all.
const LONGEST: u64 = 30;

/// Who has yet to answer.
#[derive(Debug)]
pub struct RollCall {
    own: NodeId,
    /// Workers that have not answered: by row the process there and how many pieces have come.
    workers: HashMap<u16, (u32, u32)>,
    /// Every worker has answered so far.
    is_whole: bool,
    /// Other machines, those that have answered too.
    machines: HashMap<NodeId, Machine>,
    /// How many subscribers were told of by their number alone.
    numbers: u64,
    /// Milliseconds of silence that end it, when they end, and when it ends in any case.
    patience: u64,
    until: u64,
    latest: u64,
}

/// What another machine has said.
#[derive(Clone, Copy, Debug)]
struct Machine {
    pieces: u32,
    is_whole: bool,
    has_ended: bool,
}

impl Machine {
    const SILENT: Machine = Machine { pieces: 0, is_whole: true, has_ended: false };
}

/// Who has answered, when nobody is waited for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Machines that have told all, this one too.
    pub machines: usize,
    /// Machines that there are.
    pub known: usize,
}

impl RollCall {
    /// Of these workers of the machine `own` (by row the process there) and of these other machines,
    /// each of which may be silent for `patience` milliseconds.
    pub fn new(
        own: NodeId,
        workers: impl Iterator<Item = (u16, u32)>,
        machines: impl Iterator<Item = NodeId>,
        patience: u64,
        now: u64,
    ) -> RollCall {
        RollCall {
            own,
            workers: workers.map(|(row, pid)| (row, (pid, 0))).collect(),
            is_whole: true,
            machines: machines.map(|node| (node, Machine::SILENT)).collect(),
            numbers: 0,
            patience,
            until: now + patience,
            latest: now + LONGEST * patience,
        }
    }

    /// Other machines cannot be reached: none is waited for.
    pub fn cut_off(mut self) -> RollCall {
        let cut = Machine { pieces: 0, is_whole: false, has_ended: true };
        self.machines.values_mut().for_each(|machine| *machine = cut);
        self
    }

    /// Takes a piece: its members. None: it is no piece, or nobody's who may answer. A machine that
    /// was not known, for it has just come, may.
    pub fn take<'a>(
        &mut self,
        from: NodeId,
        piece: &'a [u8],
        now: u64,
    ) -> Option<(Then, Members<'a>)> {
        let (Head { row, piece, then }, members) = Head::decode(piece)?;
        let ends = then != Then::More;
        if from == self.own {
            let (_, pieces) = self.workers.get_mut(&row)?;
            // Where one is missing it was lost in the ring.
            self.is_whole &= *pieces == piece && then != Then::Cut;
            *pieces = piece.wrapping_add(1);
            if ends {
                self.workers.remove(&row);
            }
        } else {
            if self.machines.len() >= MOST_MACHINES && !self.machines.contains_key(&from) {
                return None;
            }
            let machine = self.machines.entry(from).or_insert(Machine::SILENT);
            if machine.has_ended {
                return None;
            }
            machine.is_whole &= machine.pieces == piece && then != Then::Cut;
            machine.pieces = piece.wrapping_add(1);
            machine.has_ended = ends;
        }
        self.until = self.latest.min(now + self.patience);
        if let Then::Number(n) = then {
            self.numbers = self.numbers.saturating_add(n);
        }
        Some((then, members))
    }

    /// How many subscribers were told of by their number alone.
    pub fn numbers(&self) -> u64 {
        self.numbers
    }

    /// Who has answered, if nobody is waited for any more. `lives` says whether a process is still
    /// the one of a row.
    pub fn end(&mut self, now: u64, lives: impl Fn(u16, u32) -> bool) -> Option<Answered> {
        let is_silent = |machine: &Machine| !machine.has_ended;
        if !self.workers.is_empty() {
            self.workers.retain(|&row, &mut (pid, _)| lives(row, pid));
        }
        if now >= self.until {
            self.is_whole &= self.workers.is_empty();
            self.workers.clear();
            for machine in self.machines.values_mut().filter(|machine| is_silent(machine)) {
                (machine.is_whole, machine.has_ended) = (false, true);
            }
        }
        if !self.workers.is_empty() || self.machines.values().any(is_silent) {
            return None;
        }
        let whole = self.machines.values().filter(|machine| machine.is_whole).count();
        Some(Answered {
            machines: usize::from(self.is_whole) + whole,
            known: 1 + self.machines.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::put_member;

    const OWN: NodeId = NodeId(1);
    const NOBODY: [NodeId; 0] = [];

    fn piece(row: u16, piece: u32, then: Then, members: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        Head { row, piece, then }.encode(&mut out);
        members.iter().for_each(|number| put_member(&mut out, *number, ""));
        out
    }

    fn call(workers: &[(u16, u32)], machines: &[NodeId]) -> RollCall {
        RollCall::new(OWN, workers.iter().copied(), machines.iter().copied(), 100, 0)
    }

    fn take(call: &mut RollCall, from: NodeId, bytes: &[u8]) -> Option<Vec<u64>> {
        call.take(from, bytes, 0).map(|(_, members)| members.map(|member| member.0).collect())
    }

    fn answered(machines: usize, known: usize) -> Option<Answered> {
        Some(Answered { machines, known })
    }

    #[test]
    fn workers_and_machines_answer_in_pieces() {
        let mut call = call(&[(3, 30), (4, 40)], &[NodeId(2)]);
        assert_eq!(call.end(0, |_, _| true), None);
        assert_eq!(take(&mut call, OWN, &piece(3, 0, Then::More, &[1, 2])), Some(vec![1, 2]));
        assert_eq!(take(&mut call, NodeId(2), &piece(0, 0, Then::More, &[3])), Some(vec![3]));
        assert_eq!(take(&mut call, OWN, &piece(3, 1, Then::End, &[])), Some(vec![]));
        assert_eq!(take(&mut call, OWN, &piece(3, 2, Then::End, &[9])), None, "it has ended");
        assert_eq!(take(&mut call, OWN, &piece(4, 0, Then::End, &[4])), Some(vec![4]));
        assert_eq!(call.end(0, |_, _| true), None);
        assert_eq!(take(&mut call, NodeId(2), &piece(0, 1, Then::End, &[5])), Some(vec![5]));
        assert_eq!(call.end(0, |_, _| true), answered(2, 2));
        assert_eq!(take(&mut call, NodeId(2), &piece(0, 0, Then::More, &[3])), None, "once");
    }

    #[test]
    fn the_dead_and_the_silent_are_not_waited_for() {
        let mut one = call(&[(3, 30), (4, 40)], &[NodeId(2)]);
        assert_eq!(take(&mut one, OWN, &piece(3, 0, Then::End, &[1])), Some(vec![1]));
        assert!(one.take(NodeId(2), &piece(0, 0, Then::End, &[]), 50).is_some());
        assert_eq!(one.end(149, |_, _| true), None, "whoever speaks wins time for the others");
        assert_eq!(one.end(150, |_, _| true), answered(1, 2));
        let mut two = call(&[(3, 30), (4, 40)], &[NodeId(2)]);
        assert_eq!(two.end(0, |row, pid| (row, pid) == (3, 31)), None);
        assert!(two.take(NodeId(2), &piece(0, 0, Then::End, &[]), 0).is_some());
        assert_eq!(two.end(0, |_, _| true), answered(2, 2), "who has died has nobody");
        let mut three = call(&[], &[NodeId(2), NodeId(3)]);
        assert!(three.take(NodeId(3), &piece(0, 0, Then::Number(7), &[]), 0).is_some());
        assert_eq!((three.end(100, |_, _| true), three.numbers()), (answered(2, 3), 7));
        let cut_off = call(&[], &[NodeId(2)]).cut_off().end(0, |_, _| true);
        assert_eq!(cut_off, answered(1, 2), "at once");
    }

    #[test]
    fn who_speaks_without_end_is_not_listened_to_for_ever() {
        let mut one = call(&[], &[NodeId(2)]);
        let mut now = 0;
        for n in 0.. {
            assert!(now <= LONGEST * 100, "it goes on");
            if one.end(now, |_, _| true).is_some() {
                break;
            }
            assert!(one.take(NodeId(2), &piece(0, n, Then::More, &[1]), now).is_some());
            now += 50;
        }
        assert_eq!((now, one.end(now, |_, _| true)), (LONGEST * 100, answered(1, 2)));
    }

    #[test]
    fn what_is_missing_is_known() {
        for (first, then) in [(1, Then::End), (0, Then::Cut)] {
            let mut one = call(&[(3, 30)], &NOBODY);
            assert!(take(&mut one, OWN, &piece(3, first, then, &[])).is_some());
            assert_eq!(one.end(0, |_, _| true), answered(0, 1));
            let mut two = call(&[], &[NodeId(2)]);
            assert!(take(&mut two, NodeId(2), &piece(0, first, then, &[])).is_some());
            assert_eq!(two.end(0, |_, _| true), answered(1, 2));
        }
    }

    #[test]
    fn a_machine_that_has_just_come_answers_too_and_not_everybody_may() {
        let mut one = call(&[], &NOBODY);
        assert_eq!(one.end(0, |_, _| true), answered(1, 1));
        assert_eq!(take(&mut one, NodeId(5), &piece(0, 0, Then::End, &[1])), Some(vec![1]));
        assert_eq!(one.end(0, |_, _| true), answered(2, 2));
        assert_eq!(take(&mut one, OWN, &piece(3, 0, Then::End, &[1])), None, "no such worker");
        assert_eq!(take(&mut one, NodeId(6), b"short"), None);
        for node in 10..3000 {
            let _ = take(&mut one, NodeId(node), &piece(0, 0, Then::End, &[]));
        }
        assert_eq!(one.end(0, |_, _| true), answered(MOST_MACHINES + 1, MOST_MACHINES + 1));
    }
}
