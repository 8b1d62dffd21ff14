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
//! slot, and the new one is told so, if both were masters and connected when the move was seen. So a replica that
//! takes its master's place, which may lack the newest messages, is never taken for a move.

mod map;
mod routing;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use super::item::Item;
use super::names::{tag_to, Names};
use super::scout::{Errand, Scout};
use super::server::Server as Master;
use super::slots::{tag_of, Tag, Tags, TAGS};
use super::wire::command;
use super::{Redis, MAP};
use crate::broker::address::{split_host, Address, ServerError};
use crate::broker::backoff::Backoff;
use crate::broker::contact::PEER;
use crate::broker::queue::Queue;
use crate::broker::seam::{Action, Broker, Keep, Peer, Refused, To};
use crate::broker::settings::{Driver, Settings};
use crate::broker::tally::Tally;
use crate::history::Position;

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
}

impl Broker for Cluster {
    fn start(&mut self, now: u64) {
        self.now = now;
        self.ask();
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.home(tag_of(topic)).want(topic, wanted);
        if !wanted {
            self.homeless.want(topic, false);
        }
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
