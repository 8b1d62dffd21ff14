//! What the members say: their actions as the router's, what they give back, how it stands with all
//! of them, and what they count.

use super::{Cluster, Member, SOON};
use crate::broker::redis::elsewhere::Returned;
use crate::broker::redis::item::Item;
use crate::broker::redis::Redis;
use crate::broker::seam::{Action, Broker, Peer, State};
use crate::broker::tally::Number;

impl Cluster {
    /// Does what a member asks for, and takes what it gives back.
    fn serve(&mut self, n: u16) {
        while let Some(action) = self.member(n).and_then(|member| member.redis.poll()) {
            let peer = Peer(n + 1);
            self.actions.push_back(match action {
                Action::Connect { to, .. } => Action::Connect { peer, to },
                Action::Close { .. } => Action::Close { peer },
                Action::Send { bytes, .. } => Action::Send { peer, bytes },
                Action::State(state) => {
                    self.note(n, state);
                    continue;
                }
                other => other,
            });
        }
        let Some(member) = self.member(n) else { return };
        let (address, id) = (member.address.clone(), member.redis.replication_id());
        let Returned { items, names, doubts, map } = std::mem::take(&mut member.redis.returned);
        for name in names {
            self.homeless.want_name(&name, true);
        }
        let mut back = Vec::new();
        for (item, to) in items {
            match (item, to) {
                (Item::Op(op), Some(to)) => {
                    let is_it = |one: &&mut Member| one.address == to && one.redis.is_ready();
                    match self.members.iter_mut().flatten().find(is_it) {
                        Some(other) => other.redis.do_asking(op, id.clone()),
                        None => self.hold(n, Item::Op(op)),
                    }
                }
                (item, Some(_)) => self.hold(n, item),
                // It was tried where its slot is about to be, and is not yet.
                (item, None) if self.owners[usize::from(item.tag())] != Some(n) => {
                    let owner = self.owners[usize::from(item.tag())];
                    self.hold(owner.unwrap_or(n), item);
                }
                (item, None) => back.push(item),
            }
        }
        self.homeless.adopt(back);
        if let Some(frame) = map {
            self.asked = None;
            if let Err(why) = self.heard_map(&frame, &address) {
                self.is_amiss(format!("{address}: {why}"), SOON);
                self.next_ask = self.now + SOON;
            }
        }
        if doubts {
            self.doubt(n);
        }
    }

    fn hold(&mut self, n: u16, item: Item) {
        match self.member(n) {
            Some(member) => member.redis.hold(item),
            None => self.homeless.adopt(vec![item]),
        }
    }

    /// It stands otherwise with a member.
    fn note(&mut self, n: u16, state: State) {
        let Some(member) = self.member(n) else { return };
        let address = member.address.clone();
        member.is_up = matches!(state, State::Up { .. }) || member.is_up && is_denial(&state);
        match state {
            State::Up { .. } => {}
            State::Denied { .. } | State::Faulty { .. } => {
                self.actions.push_back(Action::State(state));
            }
            State::Down { why, again_in } => {
                if self.asked == Some(n) {
                    self.asked = None;
                }
                self.is_amiss(format!("{address}: {why}"), again_in);
                if self.asked.is_none() {
                    self.doubt(n);
                }
            }
            State::Impaired { why, again_in } => {
                self.is_amiss(format!("{address}: {why}"), again_in);
            }
        }
    }

    /// It is not all there.
    pub(super) fn is_amiss(&mut self, why: String, again_in: u64) {
        if self.is_up {
            (self.is_up, self.away_since) = (false, Some(self.now));
        }
        let some = self.alive().any(|member| member.redis.is_ready());
        self.actions.push_back(Action::State(match some {
            true => State::Impaired { why, again_in },
            false => State::Down { why, again_in },
        }));
    }

    /// Says so when all is there.
    fn look(&mut self) {
        let is_up = |member: &Member| member.is_up && member.redis.is_level();
        if self.is_up || !self.is_whole() || !self.alive().all(is_up) {
            return;
        }
        self.is_up = true;
        self.backoff.reset();
        let away = self.away_since.take().map(|since| self.now.saturating_sub(since));
        let (_, topics) = self.topics();
        self.actions.push_back(Action::State(State::Up { topics, away }));
    }

    /// Whether it is known whose the slots are, and they all are somebody's.
    fn is_whole(&self) -> bool {
        self.is_known && self.owners.iter().all(Option::is_some)
    }

    fn topics(&self) -> (usize, usize) {
        let all = self.names.shared();
        let every = self.alive().map(|member| &member.redis).chain([&self.homeless]);
        let counts = every.map(|redis| redis.topics(&all));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What the members say, until they have nothing more to say: what one gives back another may send
    /// at once.
    pub(super) fn serve_all(&mut self) {
        loop {
            for n in 0..self.members.len() {
                self.serve(n as u16);
            }
            self.actions.extend(std::iter::from_fn(|| self.homeless.poll()));
            self.actions.extend(std::iter::from_fn(|| self.scout.poll()));
            if self.asked.is_none() && self.next_ask <= self.now {
                self.ask();
            }
            self.leave_idle();
            let mut members = self.alive().map(|member| &member.redis);
            if !members.any(Redis::is_stirred) && !self.homeless.is_stirred() {
                break;
            }
        }
        self.actions.extend(std::iter::from_fn(|| self.scout.poll()));
        self.look();
    }

    /// Counts what a member has counted.
    pub(super) fn fold(&mut self, redis: &mut Redis) {
        for (number, _) in Number::SHOWN {
            if !number.is_gauge() {
                let n = redis.tally().take(number);
                self.tally.add(number, n as usize);
            }
        }
    }

    pub(super) fn count(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        let mut rtt = 0;
        for member in members.iter_mut().flatten() {
            self.fold(&mut member.redis);
            rtt = rtt.max(member.redis.tally().get(Number::RttMs));
        }
        self.members = members;
        let (total, nobody) = (Number::DroppedExpired, &mut self.homeless);
        let expired = nobody.tally().take(total);
        self.tally.add(total, expired as usize);
        for full in [Number::DroppedFull, Number::DroppedTooLarge] {
            let n = self.homeless.tally().take(full);
            self.tally.add(full, n as usize);
        }
        let (wanted, subscribed) = self.topics();
        for (gauge, value) in [
            (Number::Connected, u64::from(self.is_up)),
            (Number::QueueBytes, self.queue.bytes() as u64),
            (Number::TopicsWanted, wanted as u64),
            (Number::TopicsSubscribed, subscribed as u64),
            (Number::RttMs, rtt),
        ] {
            self.tally.set(gauge, value);
        }
    }

    /// All servers were asked in vain.
    pub(super) fn give_up(&mut self, why: &str) {
        let again_in = self.backoff.pause();
        self.next_ask = self.now + again_in;
        self.is_amiss(format!("no server of the cluster answers: {why}"), again_in);
    }
}

fn is_denial(state: &State) -> bool {
    matches!(state, State::Denied { .. } | State::Faulty { .. })
}
