//! Whose the slots are, and what follows from that: members begin and end, and everything goes where
//! it belongs.

use super::map::View;
use super::{Cluster, Member, LATER, MOST, SOON};
use crate::broker::address::Address;
use crate::broker::redis::item::Item;
use crate::broker::redis::names::tag_to;
use crate::broker::redis::server::Server as Master;
use crate::broker::redis::slots::{tag_of, Tag, TAGS};
use crate::broker::redis::wire::Frame;
use crate::broker::redis::Redis;
use crate::broker::seam::{Action, Broker, Peer};
use crate::broker::settings::Driver;

impl Cluster {
    /// Slots may have moved, says a member.
    pub(super) fn doubt(&mut self, n: u16) {
        self.prefer = Some(n);
        let pause = self.backoff.pause().min(LATER);
        let soonest = if self.last_ask + LATER < self.now { self.now } else { self.now + pause };
        self.next_ask = self.next_ask.min(soonest);
    }

    /// Asks whose the slots are.
    pub(super) fn ask(&mut self) {
        let now = self.now;
        self.next_ask = u64::MAX;
        self.last_ask = now;
        let ready = |n: &u16| {
            let member = self.members.get(usize::from(*n));
            member.is_some_and(|one| one.as_ref().is_some_and(|one| one.redis.is_ready()))
        };
        let first = self.backoff.random() as usize;
        let count = self.members.len();
        let any = (0..count).map(|n| ((first % count + n) % count) as u16).find(ready);
        match self.prefer.take().filter(ready).or(any) {
            Some(n) => {
                self.asked = Some(n);
                if let Some(member) = self.member(n) {
                    member.redis.ask_map(now);
                }
            }
            None if !self.scout.is_wanted() => {
                let known = self.alive().map(|member| member.address.clone());
                let others = known.filter(|one| !self.server.seeds.contains(one));
                let places = self.server.seeds.iter().cloned().chain(others).collect();
                self.scout.set_places(places);
                self.scout.want(now);
            }
            None => {}
        }
    }

    /// A server has answered.
    pub(super) fn heard_map(&mut self, frame: &Frame, asked: &Address) -> Result<(), String> {
        let view = View::read(frame, asked, &self.tags, MOST);
        let view = view.ok_or_else(|| "no map of a cluster".to_string())?;
        if view.masters.is_empty() {
            return Err("no slots of a cluster".to_string());
        }
        self.is_known = true;
        let owners = self.numbers(&view);
        if owners != self.owners {
            self.backoff.reset();
        }
        self.note_kin(&owners);
        self.owners = owners;
        self.sort_out();
        self.next_ask = match self.is_level() {
            true => self.now + self.settings.probe,
            false => self.now + SOON + self.backoff.random() % SOON,
        };
        let missing = self.owners.iter().filter(|owner| owner.is_none()).count();
        if missing > 0 {
            self.is_amiss(format!("no server has {missing} of {TAGS} parts of the slots"), SOON);
        }
        Ok(())
    }

    /// The members that the masters of a view are; new ones begin to connect.
    fn numbers(&mut self, view: &View) -> Vec<Option<u16>> {
        let mut numbers = Vec::new();
        for address in &view.masters {
            let is_it = |one: &Option<Member>| one.as_ref().is_some_and(|m| m.address == *address);
            let n = match self.members.iter().position(is_it) {
                Some(n) => n,
                None => self.begin(address.clone()),
            };
            numbers.push(n as u16);
        }
        view.owners.iter().map(|owner| owner.map(|n| numbers[usize::from(n)])).collect()
    }

    fn begin(&mut self, address: Address) -> usize {
        let (tls, tags) = (self.server.tls, Some(self.tags.clone()));
        let master = Master { address: address.clone(), database: 0, tls };
        let seed = self.backoff.random();
        let (settings, driver) = (self.settings.clone(), Driver { seed, ..self.driver });
        let mut redis = Redis::with(master, settings, driver, tags, self.queue.beside());
        redis.start(self.now);
        let member = Some(Member { address, redis, is_up: false });
        match self.members.iter().position(Option::is_none) {
            Some(free) => {
                self.members[free] = member;
                free
            }
            None => {
                self.members.push(member);
                self.members.len() - 1
            }
        }
    }

    /// Keys that move with their slots from one master to another are as they were. Who had no slots
    /// before may be a replica that takes its master's place, and lack what is newest.
    fn note_kin(&mut self, owners: &[Option<u16>]) {
        let was_master = |n| self.owners.contains(&Some(n));
        let moves = self.owners.iter().zip(owners).enumerate().filter_map(|(tag, (from, to))| {
            let (from, to) = ((*from)?, (*to)?);
            (from != to && was_master(to)).then_some((tag as Tag, from, to))
        });
        for (tag, from, to) in moves.collect::<Vec<_>>() {
            let id = self.member(from).and_then(|member| member.redis.replication_id());
            let to = self.member(to).filter(|member| member.redis.is_ready());
            if let (Some(id), Some(to)) = (id, to) {
                to.redis.set_kin(tag, id);
            }
        }
    }

    /// Everything goes where it belongs, and who has nothing of ours is left.
    pub(super) fn sort_out(&mut self) {
        let owners = self.owners.clone();
        let of = |tag: Tag| owners[usize::from(tag)];
        let mut names = Vec::new();
        let mut older = Vec::new();
        let (homeless_names, homeless) = self.homeless.take_foreign(|tag| of(tag).is_none());
        names.extend(homeless_names);
        for (n, member) in self.members.iter_mut().enumerate() {
            let Some(member) = member else { continue };
            let (more, items) = member.redis.take_foreign(|tag| of(tag) == Some(n as u16));
            names.extend(more);
            older.extend(items);
        }
        for name in names {
            let tag = self.tag_of_name(&name);
            self.home(tag).want_name(&name, true);
        }
        // What was sent once and came back is older than what has waited all the time.
        self.adopt(older);
        self.adopt(homeless);
        let (beats, now) = (of(tag_to(None)), self.now);
        for (n, member) in self.members.iter_mut().enumerate() {
            if let Some(member) = member {
                member.redis.set_beats(beats == Some(n as u16), now);
            }
        }
        self.leave_idle();
    }

    fn tag_of_name(&self, name: &[u8]) -> Tag {
        match self.names.topic(name) {
            Some((_, topic)) => tag_of(topic),
            None => {
                let shared = self.names.shared();
                shared.iter().find(|(one, _)| one == name).map_or(0, |(_, tag)| *tag)
            }
        }
    }

    pub(super) fn adopt(&mut self, items: Vec<Item>) {
        let mut by_home: Vec<(Tag, Vec<Item>)> = Vec::new();
        for item in items {
            let tag = item.tag();
            let owner = self.owners[usize::from(tag)];
            let same = |(one, _): &&mut (Tag, _)| self.owners[usize::from(*one)] == owner;
            match by_home.iter_mut().find(same) {
                Some((_, list)) => list.push(item),
                None => by_home.push((tag, vec![item])),
            }
        }
        for (tag, list) in by_home {
            self.home(tag).adopt(list);
        }
    }

    /// Members without slots of ours are left once nothing is under way there.
    pub(super) fn leave_idle(&mut self) {
        for n in 0..self.members.len() {
            let is_owner = self.owners.contains(&Some(n as u16));
            // What it has yet to say or to give back is taken before (`serve_all`, which comes here again).
            let may_go = |one: &Member| {
                one.redis.is_done() && !one.redis.is_stirred() && one.redis.returned.is_empty()
            };
            if is_owner || !self.members[n].as_ref().is_some_and(may_go) {
                continue;
            }
            let Some(mut member) = self.members[n].take() else { continue };
            if self.asked == Some(n as u16) {
                self.asked = None;
                self.next_ask = self.now;
            }
            let (_, items) = member.redis.take_foreign(|_| false);
            self.adopt(items);
            self.fold(&mut member.redis);
            self.actions.push_back(Action::Close { peer: Peer(n as u16 + 1) });
        }
    }
}
