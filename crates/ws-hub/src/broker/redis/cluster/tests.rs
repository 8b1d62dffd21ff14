//! The router against a Cluster of a few lines, which has slots and no keys: what is said and where, and
//! several machines while slots move and servers go and come.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::broker::settings::Secret;
use crate::broker::tally::Number;
use crate::envelope::{Envelope, Kind, Origin, Type};
use crate::id::NodeId;

const SERVERS: usize = 3;

/// A connection to a server.
struct Client {
    server: usize,
    came: bytes::BytesMut,
    out: Vec<u8>,
    channels: HashSet<Vec<u8>>,
}

/// Servers, which are at the ports 1 to `SERVERS`.
struct Servers {
    /// Of each tag.
    owners: Vec<usize>,
    texts: HashMap<Vec<u8>, usize>,
    alive: [bool; SERVERS],
    whole: bool,
    clients: BTreeMap<usize, Client>,
    said: Vec<(usize, String)>,
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn push(kind: &str, name: &[u8], value: &[u8]) -> Vec<u8> {
    [format!(">3\r\n+{kind}\r\n").as_bytes(), &bulk(name), value].concat()
}

impl Servers {
    fn new() -> Self {
        let tags = Tags::new();
        let texts = (0..TAGS).map(|tag| (tags.text(tag as Tag).to_vec(), tag)).collect();
        Self {
            owners: (0..TAGS).map(|tag| tag * SERVERS / TAGS).collect(),
            texts,
            alive: [true; SERVERS],
            whole: true,
            clients: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    fn tag(&self, name: &[u8]) -> usize {
        let text = name.split(|&byte| byte == b'{' || byte == b'}').nth(1).expect("a tag");
        self.texts[text]
    }

    /// A tag's slot is another's now.
    fn move_to(&mut self, tag: usize, server: usize) {
        self.owners[tag] = server;
        let texts = &self.texts;
        for client in self.clients.values_mut().filter(|client| client.server != server) {
            let moved = |name: &&Vec<u8>| {
                let text = name.split(|&byte| byte == b'{' || byte == b'}').nth(1);
                text.is_some_and(|text| texts.get(text) == Some(&tag))
            };
            for name in client.channels.iter().filter(moved).cloned().collect::<Vec<_>>() {
                client.channels.remove(&name);
                client.out.extend(push("sunsubscribe", &name, b":0\r\n"));
            }
        }
    }

    fn takes(&mut self, who: usize, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(&who) else { return };
        client.came.extend_from_slice(bytes);
        loop {
            let Some(client) = self.clients.get_mut(&who) else { return };
            let Ok((frame, rest)) = resp_rs::resp3::parse_frame(client.came.clone().freeze())
            else {
                return;
            };
            client.came = rest[..].into();
            let server = client.server;
            let words: Vec<Vec<u8>> = frame
                .as_array()
                .expect("an array")
                .iter()
                .map(|word| word.as_bytes().expect("a string").to_vec())
                .collect();
            let line: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            self.said.push((server, line.join(" ")));
            let answer = self.runs(who, server, &words);
            if let Some(client) = self.clients.get_mut(&who) {
                client.out.extend(answer);
            }
        }
    }

    fn runs(&mut self, who: usize, server: usize, words: &[Vec<u8>]) -> Vec<u8> {
        let verb = &words[0][..];
        if verb[0] == b'S' && verb != b"SUBSCRIBE" {
            let tag = self.tag(&words[1]);
            assert!(verb == b"SPUBLISH" || words[1..].iter().all(|name| self.tag(name) == tag));
            if !self.whole {
                return b"-CLUSTERDOWN The cluster is down\r\n".to_vec();
            }
            if self.owners[tag] != server {
                let to = self.owners[tag] + 1;
                return format!("-MOVED {} h:{to}\r\n", tag * 16).into_bytes();
            }
        }
        let channels = &mut self.clients.get_mut(&who).unwrap().channels;
        match verb {
            b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            b"ROLE" => b"*1\r\n+master\r\n".to_vec(),
            b"PING" => b"+PONG\r\n".to_vec(),
            b"CLUSTER" if words[1] == b"INFO" => {
                bulk(if self.whole { b"cluster_state:ok" } else { b"cluster_state:fail" })
            }
            b"CLUSTER" => {
                let range = |(tag, owner): (usize, &usize)| {
                    let (from, to, port) = (tag * 16, tag * 16 + 15, owner + 1);
                    format!("*3\r\n:{from}\r\n:{to}\r\n*3\r\n+h\r\n:{port}\r\n+id\r\n")
                };
                let ranges: String = self.owners.iter().enumerate().map(range).collect();
                format!("*{TAGS}\r\n{ranges}").into_bytes()
            }
            b"SUBSCRIBE" | b"SSUBSCRIBE" => {
                channels.extend(words[1..].iter().cloned());
                let kind = String::from_utf8_lossy(verb).to_lowercase();
                words[1..].iter().flat_map(|name| push(&kind, name, b":1\r\n")).collect()
            }
            b"SUNSUBSCRIBE" => {
                words[1..].iter().for_each(|name| _ = channels.remove(name));
                words[1..].iter().flat_map(|name| push("sunsubscribe", name, b":0\r\n")).collect()
            }
            b"PUBLISH" | b"SPUBLISH" => {
                let kind = if verb == b"PUBLISH" { "message" } else { "smessage" };
                let message = push(kind, &words[1], &bulk(&words[2]));
                for client in self.clients.values_mut() {
                    if client.server == server && client.channels.contains(&words[1]) {
                        client.out.extend(&message);
                    }
                }
                b":1\r\n".to_vec()
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
}

/// A machine: its router, and its connections by their peers.
struct Machine {
    broker: Cluster,
    connecting: Vec<(u16, usize)>,
    peers: BTreeMap<u16, usize>,
    up: BTreeMap<u16, Vec<u8>>,
    heard: Vec<(Vec<u8>, u32)>,
    said: Vec<Action>,
}

struct World {
    servers: Servers,
    machines: Vec<Machine>,
    now: u64,
    connections: usize,
    random: Backoff,
}

impl World {
    fn new(machines: u32, seed: u64) -> Self {
        let machine = |n: u32| {
            let server = Server::parse("h:1,h:2", false).unwrap();
            let password = Secret(b"s3cret".to_vec());
            let settings = Settings { reconnect: 500, password, ..Settings::default() };
            let (node, seed) = (NodeId(n + 1), u64::from(n));
            let driver = Driver { node, max_message: 1000, keeps: false, seed };
            let mut broker = Cluster::new(server, settings, driver);
            broker.start(0);
            let (connecting, heard, said) = (Vec::new(), Vec::new(), Vec::new());
            let (peers, up) = (BTreeMap::new(), BTreeMap::new());
            Machine { broker, connecting, peers, up, heard, said }
        };
        Self {
            servers: Servers::new(),
            machines: (0..machines).map(machine).collect(),
            now: 0,
            connections: 0,
            random: Backoff::new(0, seed),
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random() as usize % n
    }

    /// At most so many milliseconds; bytes move in pieces of any size.
    fn step(&mut self, most: usize) {
        self.now += self.below(most + 1) as u64;
        for n in 0..self.machines.len() {
            let pieces = [self.below(300), self.below(20_000)];
            let (machine, now) = (&mut self.machines[n], self.now);
            if machine.broker.due().is_some_and(|due| due <= now) {
                machine.broker.timer(now);
            }
            machine.act(&mut self.servers);
            for (peer, server) in std::mem::take(&mut machine.connecting) {
                if self.servers.alive[server] {
                    self.connections += 1;
                    let (came, out) = (bytes::BytesMut::new(), Vec::new());
                    let channels = HashSet::new();
                    let client = Client { server, came, out, channels };
                    self.servers.clients.insert(self.connections, client);
                    machine.peers.insert(peer, self.connections);
                    machine.broker.connected(Peer(peer), now);
                } else {
                    machine.broker.closed(Peer(peer), "refused", now);
                }
                machine.act(&mut self.servers);
            }
            for (peer, who) in machine.peers.clone() {
                if !self.servers.clients.contains_key(&who) {
                    machine.leave(peer, &mut self.servers);
                    machine.broker.closed(Peer(peer), "gone", now);
                } else {
                    let up = machine.up.entry(peer).or_default();
                    let up: Vec<u8> = up.drain(..pieces[0].min(up.len())).collect();
                    self.servers.takes(who, &up);
                    let out = &mut self.servers.clients.get_mut(&who).unwrap().out;
                    let down: Vec<u8> = out.drain(..pieces[1].min(out.len())).collect();
                    if !down.is_empty() {
                        machine.broker.received(Peer(peer), &down, now);
                    }
                }
                machine.act(&mut self.servers);
            }
        }
    }

    /// Until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = self.now + 60_000;
        while !holds(self) {
            self.step(4);
            assert!(self.now < limit, "{what}");
        }
    }

    fn is_level(&self) -> bool {
        self.machines.iter().all(|machine| machine.broker.is_level() && machine.broker.is_up)
    }

    fn publish(&mut self, n: usize, topic: &[u8], number: u32) {
        let origin = Origin { node: NodeId(n as u32 + 1), row: 0, generation: 1 };
        let payload = number.to_string();
        let message = Envelope {
            kind: Kind::Publish { topic },
            typ: Type::Text,
            origin,
            sequence: 1,
            stored: None,
            except: None,
            far: false,
            payload: payload.as_bytes(),
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let _ = self.machines[n].broker.publish(To::Topic(topic), &bytes, self.now);
    }

    fn states(&mut self, n: usize) -> Vec<String> {
        let said = std::mem::take(&mut self.machines[n].said);
        let states = said.iter().filter(|action| matches!(action, Action::State(_)));
        states.map(|state| format!("{state:?}")).collect()
    }
}

impl Machine {
    fn leave(&mut self, peer: u16, servers: &mut Servers) {
        self.up.remove(&peer);
        self.connecting.retain(|(one, _)| *one != peer);
        if let Some(who) = self.peers.remove(&peer) {
            servers.clients.remove(&who);
        }
    }

    fn act(&mut self, servers: &mut Servers) {
        while let Some(action) = self.broker.poll() {
            match action {
                Action::Connect { peer, to: Address::Tcp(_, port) } => {
                    self.connecting.push((peer.0, usize::from(port) - 1));
                }
                Action::Close { peer } => self.leave(peer.0, servers),
                Action::Send { peer, bytes } => self.up.entry(peer.0).or_default().extend(bytes),
                Action::Deliver(bytes) => {
                    let message = Envelope::decode(&bytes).unwrap();
                    let Kind::Publish { topic } = message.kind else { panic!("{message:?}") };
                    let from = format!(" {}", message.origin.node.0);
                    let number = std::str::from_utf8(message.payload).unwrap().parse().unwrap();
                    self.heard.push(([topic, from.as_bytes()].concat(), number));
                }
                other => self.said.push(other),
            }
        }
    }
}

fn topics(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|n| format!("topic {n}").into_bytes()).collect()
}

#[test]
fn addresses_are_read() {
    let at = |host: &str, port| Address::Tcp(host.to_string(), port);
    let server = Server::parse("a,[::1]:7/", true).unwrap();
    assert_eq!((server.seeds, server.tls), (vec![at("a", 6379), at("::1", 7)], true));
    for (text, fault) in [
        ("", ServerError::NoHost),
        ("a,", ServerError::NoHost),
        ("a:0", ServerError::Port),
        ("u:p@a", ServerError::Secret),
        ("a/1", ServerError::Database),
    ] {
        assert_eq!(Server::parse(text, false), Err(fault), "{text}");
    }
}

#[test]
fn each_topic_is_its_masters_alone() {
    let mut world = World::new(2, 1);
    let topics = topics(60);
    for topic in &topics {
        world.machines[1].broker.want(topic, true);
    }
    world.until("all is level", World::is_level);
    let [up] = &world.states(1)[..] else { panic!("one state") };
    assert!(up.contains("Up { topics: 60, away: None }"), "{up}");
    for (n, topic) in topics.iter().enumerate() {
        world.publish(0, topic, n as u32);
    }
    world.until("all are heard", |world| world.machines[1].heard.len() == 60);
    for server in 0..SERVERS {
        let of = |verb: &str| {
            let said = world.servers.said.iter();
            said.filter(|(one, line)| *one == server && line.starts_with(verb)).count()
        };
        // A heartbeat may be among them.
        assert!((5..=40).contains(&of("SPUBLISH")), "{server}: {}", of("SPUBLISH"));
        assert!(of("SSUBSCRIBE") > 0);
    }
    let tally = world.machines[1].broker.tally();
    assert_eq!(tally.get(Number::TopicsSubscribed), 60);
    assert_eq!(tally.get(Number::Connected), 1);
}

#[test]
fn a_slot_that_moves_takes_its_topics_along() {
    let mut world = World::new(2, 2);
    let topic = b"topic";
    let tag = usize::from(tag_of(topic));
    world.machines[1].broker.want(topic, true);
    world.machines[1].broker.follow(topic);
    world.until("all is level", World::is_level);
    let follows = Action::Follows(topic.to_vec());
    assert!(world.machines[1].said.contains(&follows));
    world.machines[1].said.clear();
    let to = (world.servers.owners[tag] + 1) % SERVERS;
    world.servers.move_to(tag, to);
    // Nobody has told this machine, whose message is not lost.
    world.publish(0, topic, 7);
    let is_there = |world: &World| {
        let mut clients = world.servers.clients.values();
        clients.any(|client| client.server == to && client.channels.len() > 3)
            || world.machines[1].said.contains(&Action::Follows(b"topic".to_vec()))
    };
    world.until("it is followed there", is_there);
    let lapsed = Action::Lapsed(topic.to_vec());
    let at = |action| world.machines[1].said.iter().position(|one| *one == action);
    assert!(at(lapsed).unwrap() < at(follows).unwrap());
    let moved = |world: &World| {
        let mut said = world.servers.said.iter();
        said.any(|(server, line)| *server == to && line.contains("SPUBLISH ws:t:"))
    };
    world.until("it has arrived", moved);
    world.publish(0, topic, 8);
    world.until("the next is heard", |world| {
        world.machines[1].heard.last().is_some_and(|(_, n)| *n == 8)
    });
    assert_eq!(world.machines[0].broker.tally().get(Number::DroppedRefused), 0);
}

#[test]
fn a_part_that_is_away_is_told_and_the_rest_goes_on() {
    let mut world = World::new(1, 3);
    let topics = topics(30);
    for topic in &topics {
        world.machines[0].broker.follow(topic);
    }
    world.until("all is level", World::is_level);
    world.states(0);
    let lose = |world: &mut World, server: usize| {
        world.servers.alive[server] = false;
        world.servers.clients.retain(|_, client| client.server != server);
        (0..50).for_each(|_| world.step(1));
    };
    lose(&mut world, 2);
    let lapsed = |action: &&Action| matches!(action, Action::Lapsed(_));
    let own = topics.iter().filter(|topic| world.servers.owners[usize::from(tag_of(topic))] == 2);
    assert_eq!(world.machines[0].said.iter().filter(lapsed).count(), own.count());
    let said = world.states(0);
    assert!(said.iter().all(|state| state.contains("Impaired")), "{said:?}");
    assert!(said[0].contains("h:3: gone"), "{said:?}");
    lose(&mut world, 1);
    lose(&mut world, 0);
    assert!(world.states(0).iter().any(|state| state.contains("Down")));
    world.servers.alive = [true; SERVERS];
    world.until("all is well", World::is_level);
    assert!(world.states(0).last().unwrap().contains("Up { topics: 30, away: Some("));
}

#[test]
fn a_cluster_that_is_down_keeps_its_connections() {
    let mut world = World::new(1, 4);
    world.machines[0].broker.want(b"a", true);
    world.until("all is level", World::is_level);
    world.states(0);
    let connections = world.connections;
    world.servers.whole = false;
    world.publish(0, b"a", 1);
    (0..500).for_each(|_| world.step(2));
    let said = world.states(0);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("CLUSTERDOWN The cluster is down"), "{said:?}");
    world.servers.whole = true;
    world.until("all is well", World::is_level);
    assert_eq!(connections, world.connections);
    let sent = |world: &World| {
        world.servers.said.iter().filter(|(_, line)| line.contains("SPUBLISH ws:t:")).count()
    };
    world.until("it is sent again", |world| sent(world) == 2);
    (0..20).for_each(|_| world.step(2));
    assert_eq!(world.machines[0].broker.tally().get(Number::Published), 1);
}

/// Whatever happens: no message twice, and no topic deaf once all is well.
#[test]
fn faults_at_random_leave_no_topic_deaf() {
    for seed in 0..4 {
        let mut world = World::new(3, seed);
        let topics = topics(12);
        let mut wanted: Vec<HashSet<&[u8]>> = vec![HashSet::new(); 3];
        let mut count = 0;
        for _ in 0..2000 {
            world.step(3);
            let (n, t) = (world.below(3), world.below(topics.len()));
            match world.below(40) {
                0 => {
                    let server = world.below(SERVERS);
                    world.servers.alive[server] = false;
                    world.servers.clients.retain(|_, client| client.server != server);
                }
                1 | 2 => {
                    let tag = usize::from(tag_of(&topics[t]));
                    let to = world.below(SERVERS);
                    world.servers.move_to(tag, to);
                }
                3 => world.servers.whole = !world.servers.whole,
                4..=6 => (world.servers.alive, world.servers.whole) = ([true; SERVERS], true),
                7..=9 => {
                    let want = wanted[n].insert(&topics[t]) || !wanted[n].remove(&topics[t][..]);
                    world.machines[n].broker.want(&topics[t], want);
                }
                10..=25 => {
                    count += 1;
                    world.publish(n, &topics[t], count);
                }
                _ => {}
            }
        }
        (world.servers.alive, world.servers.whole) = ([true; SERVERS], true);
        world.until("all is well", World::is_level);
        let quiet = world.now + 1000;
        world.until("what was under way is done", |world| world.now > quiet);
        for (machine, wanted) in world.machines.iter().zip(&wanted) {
            let mut own = Vec::new();
            for who in machine.peers.values() {
                let client = &world.servers.clients[who];
                let names = client.channels.iter().filter_map(|name| {
                    let name = name.strip_prefix(b"ws:t:{")?;
                    Some(name[name.iter().position(|&byte| byte == b':')? + 1..].to_vec())
                });
                own.extend(names);
            }
            own.sort();
            let mut expected: Vec<Vec<u8>> = wanted.iter().map(|topic| topic.to_vec()).collect();
            expected.sort();
            assert_eq!(own, expected, "seed {seed}");
            let distinct: HashSet<_> = machine.heard.iter().collect();
            assert_eq!(distinct.len(), machine.heard.len(), "seed {seed}: twice");
            assert!(machine.heard.len() > 20, "seed {seed}: nothing was tried");
        }
    }
}
