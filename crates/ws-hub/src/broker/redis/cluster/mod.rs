//! Redis Cluster: the machine of mod.rs for each master that has slots of ours, and which topic is
//! whose (slots.rs). Everything is in the commands for shards, so a message is the business of one
//! master. Whose the slots are is asked of one of them now and then, and at once when there is a doubt:
//! a slot was said to be elsewhere, its subscriptions have ended, a connection is lost. Until there is
//! one to ask, the servers of the configuration are (scout.rs).
//!
//! What counts is the difference between the last answer and where things are: topics, messages that
//! wait and what was sent back move to where they belong. What belongs to nobody waits in a machine
//! that has no server, for as long as it may anywhere.
//!
//! A history outlives its slot's move: its keys have the replication id of the server that had the
//! slot, and the new one is told so, if both were connected when the move was seen. So a replica that
//! takes its master's place, which may lack the newest messages, is never taken for a move.

mod map;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use super::elsewhere::Returned;
use super::item::Item;
use super::names::{tag_to, Names};
use super::scout::{Errand, Scout};
use super::server::{split_host, Server as Master};
use super::slots::{tag_of, Tag, Tags, TAGS};
use super::wire::{command, Frame};
use super::{Redis, MAP, PEER};
use crate::broker::address::{Address, ServerError};
use crate::broker::backoff::Backoff;
use crate::broker::queue::Queue;
use crate::broker::seam::{Action, Broker, Keep, Peer, Refused, State, To};
use crate::broker::settings::{Driver, Settings};
use crate::broker::tally::{Number, Tally};
use crate::history::Position;
use map::View;

/// The connection to a server of the configuration; a member's is that of its number, from 1 on.
const SCOUT: Peer = Peer(0);
/// A server's port.
const PORT: u16 = 6379;
/// Masters that are talked to at most.
const MOST: usize = 256;
/// Milliseconds until the map is asked for again while something is amiss, and as many at most more;
/// and the longest, while what it says is not so.
const SOON: u64 = 200;
const LATER: u64 = 1000;

/// Which Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Some of its servers.
    pub seeds: Vec<Address>,
    /// All connections are in TLS.
    pub tls: bool,
}

impl Server {
    /// What follows `redis+cluster://`: `host[:port][,host[:port]...]`.
    pub fn parse(rest: &str, tls: bool) -> Result<Self, ServerError> {
        if rest.contains('@') {
            return Err(ServerError::Secret);
        }
        let places = match rest.split_once('/') {
            None | Some((_, "" | "0")) => rest.split('/').next().unwrap_or_default(),
            Some(_) => return Err(ServerError::Database),
        };
        let seeds: Result<_, _> = places.split(',').map(|place| split_host(place, PORT)).collect();
        Ok(Self { seeds: seeds?, tls })
    }
}

/// A master.
struct Member {
    address: Address,
    redis: Redis,
    is_up: bool,
}

/// The state machine.
pub struct Cluster {
    server: Server,
    settings: Settings,
    driver: Driver,
    names: Names,
    tags: Rc<Tags>,
    members: Vec<Option<Member>>,
    /// Of each tag the member that has its slot, if one does.
    owners: Vec<Option<u16>>,
    /// What belongs to nobody.
    homeless: Redis,
    scout: Scout,
    /// The bound of all queues.
    queue: Queue<Item>,
    /// An answer has come.
    is_known: bool,
    /// The member that is asked for the map now, and when it is asked for next.
    asked: Option<u16>,
    next_ask: u64,
    last_ask: u64,
    /// Who has raised the doubt.
    prefer: Option<u16>,
    backoff: Backoff,
    /// Since when it is not all there; None before the first time that it was.
    away_since: Option<u64>,
    is_up: bool,
    actions: VecDeque<Action>,
    now: u64,
    tally: Tally,
}

impl Cluster {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        let tags = Rc::new(Tags::new());
        let queue = Queue::new(settings.queue, settings.retry);
        let errand = Errand {
            user: settings.user.clone(),
            password: settings.password.clone(),
            before: Vec::new(),
            question: command(&[b"CLUSTER", b"SLOTS"]),
            stays: false,
            timeout: settings.connect_timeout,
        };
        let (seeds, pause) = (server.seeds.clone(), settings.reconnect);
        let names = Names::new(&settings.prefix, &driver, Some(tags.clone()));
        let nowhere = Master { address: seeds[0].clone(), database: 0, tls: server.tls };
        let (known, bound) = (Some(tags.clone()), queue.beside());
        let mut homeless = Redis::with(nowhere, settings.clone(), driver, known, bound);
        for (name, _) in names.shared() {
            homeless.want_name(&name, true);
        }
        Self {
            scout: Scout::new(seeds, SCOUT, errand, pause, MAP, driver.seed),
            members: Vec::new(),
            owners: vec![None; TAGS],
            homeless,
            queue,
            is_known: false,
            asked: None,
            next_ask: u64::MAX,
            last_ask: 0,
            prefer: None,
            backoff: Backoff::new(pause, driver.seed),
            away_since: None,
            is_up: false,
            actions: VecDeque::new(),
            now: 0,
            tally: Tally::default(),
            names,
            tags,
            server,
            settings,
            driver,
        }
    }

    fn member(&mut self, n: u16) -> Option<&mut Member> {
        self.members.get_mut(usize::from(n))?.as_mut()
    }

    fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    /// Where what belongs to a tag is.
    fn home(&mut self, tag: Tag) -> &mut Redis {
        let owner = self.owners[usize::from(tag)];
        match owner.and_then(|n| self.members[usize::from(n)].as_mut()) {
            Some(member) => &mut member.redis,
            None => &mut self.homeless,
        }
    }

    /// Who a connection belongs to.
    fn behind(&mut self, peer: Peer) -> Option<&mut Member> {
        self.member(peer.0.checked_sub(1)?)
    }

    /// Slots may have moved, says a member.
    fn doubt(&mut self, n: u16) {
        self.prefer = Some(n);
        let pause = self.backoff.pause().min(LATER);
        let soonest = if self.last_ask + LATER < self.now { self.now } else { self.now + pause };
        self.next_ask = self.next_ask.min(soonest);
    }

    /// Asks whose the slots are.
    fn ask(&mut self) {
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
    fn heard_map(&mut self, frame: &Frame, asked: &Address) -> Result<(), String> {
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

    /// Keys that move with their slots between servers that are both there are no others' for that.
    fn note_kin(&mut self, owners: &[Option<u16>]) {
        for (tag, owner) in owners.iter().enumerate() {
            let (Some(from), Some(to)) = (self.owners[tag], *owner) else { continue };
            if from != to {
                let id_of = |one: &Option<Member>| one.as_ref()?.redis.replication_id();
                let from = self.members.get(usize::from(from)).and_then(id_of);
                let to = self.members.get_mut(usize::from(to)).and_then(Option::as_mut);
                if let (Some(id), Some(to)) = (from, to.filter(|to| to.redis.is_ready())) {
                    to.redis.set_kin(tag as Tag, id);
                }
            }
        }
    }

    /// Everything goes where it belongs, and who has nothing of ours is left.
    fn sort_out(&mut self) {
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

    fn adopt(&mut self, items: Vec<Item>) {
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
    fn leave_idle(&mut self) {
        for n in 0..self.members.len() {
            let is_owner = self.owners.contains(&Some(n as u16));
            if is_owner || self.members[n].as_ref().is_none_or(|one| !one.redis.is_done()) {
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
            State::Denied { .. } => self.actions.push_back(Action::State(state)),
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
    fn is_amiss(&mut self, why: String, again_in: u64) {
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

    /// What the members say, until they have nothing more to say.
    fn serve_all(&mut self) {
        for n in 0..self.members.len() {
            self.serve(n as u16);
        }
        while let Some(action) = self.homeless.poll() {
            self.actions.push_back(action);
        }
        while let Some(action) = self.scout.poll() {
            self.actions.push_back(action);
        }
        if self.asked.is_none() && self.next_ask <= self.now {
            self.ask();
        }
        self.leave_idle();
        self.look();
    }

    /// Counts what a member has counted.
    fn fold(&mut self, redis: &mut Redis) {
        for (number, _) in Number::SHOWN {
            if !number.is_gauge() {
                let n = redis.tally().take(number);
                self.tally.add(number, n as usize);
            }
        }
    }

    fn count(&mut self) {
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
    fn give_up(&mut self, why: &str) {
        let again_in = self.backoff.pause();
        self.next_ask = self.now + again_in;
        self.is_amiss(format!("no server of the cluster answers: {why}"), again_in);
    }
}

fn is_denial(state: &State) -> bool {
    matches!(state, State::Denied { .. })
}

impl Broker for Cluster {
    fn start(&mut self, now: u64) {
        self.now = now;
        self.ask();
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.home(tag_of(topic)).want(topic, wanted);
    }

    fn follow(&mut self, topic: &[u8]) {
        self.home(tag_of(topic)).follow(topic);
    }

    fn keep(&mut self, keep: &Keep<'_>, now: u64) {
        self.home(tag_of(keep.topic)).keep(keep, now);
    }

    fn read(&mut self, topic: &[u8], since: Position, most: u32) {
        let tag = tag_of(topic);
        // Otherwise it is followed anew, and read then.
        if self.owners[usize::from(tag)].is_some() {
            self.home(tag).read(topic, since, most);
        }
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.home(tag_of(topic)).forget(topic, ticket, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        let every = self.alive().map(|member| &member.redis).chain([&self.homeless]);
        every.into_iter().any(|redis| redis.wants(topic))
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        for member in self.members.iter_mut().flatten() {
            member.redis.retain(keep);
        }
        self.homeless.retain(keep);
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        let tag = match to {
            To::Topic(topic) => tag_of(topic),
            To::Node(node) => tag_to(Some(node)),
            To::All => tag_to(None),
        };
        self.home(tag).publish(to, message, now)
    }

    fn connected(&mut self, peer: Peer, now: u64) {
        self.now = now;
        match self.behind(peer) {
            Some(member) => member.redis.connected(PEER, now),
            None if peer == SCOUT => self.scout.connected(now),
            None => {}
        }
    }

    fn received(&mut self, peer: Peer, bytes: &[u8], now: u64) {
        self.now = now;
        if let Some(member) = self.behind(peer) {
            return member.redis.received(PEER, bytes, now);
        }
        if peer != SCOUT {
            return;
        }
        self.scout.received(bytes);
        let result = match self.scout.next() {
            Ok(Some(frame)) => {
                let asked = self.scout.place().clone();
                let heard = self.heard_map(&frame, &asked);
                if heard.is_ok() {
                    self.scout.answered();
                }
                heard
            }
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            if self.scout.pass_over(true, now) {
                self.give_up(&why);
            }
        }
    }

    fn closed(&mut self, peer: Peer, why: &str, now: u64) {
        self.now = now;
        if let Some(member) = self.behind(peer) {
            member.redis.closed(PEER, why, now);
        } else if peer == SCOUT && self.scout.closed(now) {
            self.give_up(why);
        }
    }

    fn timer(&mut self, now: u64) {
        self.now = now;
        if self.scout.timer(now) {
            self.give_up("no answer in time");
        }
        let members = self.members.iter_mut().flatten().map(|member| &mut member.redis);
        for redis in members.chain([&mut self.homeless]) {
            if redis.due().is_some_and(|due| due <= now) {
                redis.timer(now);
            }
        }
    }

    fn due(&self) -> Option<u64> {
        let ask = Some(self.next_ask).filter(|&at| self.asked.is_none() && at != u64::MAX);
        let members = self.alive().filter_map(|member| member.redis.due());
        members.chain(ask).chain(self.scout.due()).chain(self.homeless.due()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.serve_all();
            self.count();
        }
        self.actions.pop_front()
    }

    fn is_level(&self) -> bool {
        self.is_known
            && self.homeless.wanted.wanted() == 0
            && self.alive().all(|member| member.redis.is_level())
    }

    fn is_idle(&self) -> bool {
        self.homeless.is_idle() && self.alive().all(|member| member.redis.is_idle())
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
