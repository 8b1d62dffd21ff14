//! A broker to whose server the data belongs: the property test's and the fuzz target's. Whatever
//! comes, what is delivered is a message of another machine for here, nothing is kept beyond bounds,
//! every deadline lies ahead once it was served, and the connection is never used after its end.

use std::collections::BTreeMap;

use ws_hub::broker::{
    Action, Address, Broker, Driver, Keep, Number, Peer, Server, Settings, Stream, To,
};
use ws_hub::envelope::{Kind, Origin, Type};
use ws_hub::history::{Limits, Position};
use ws_hub::{Envelope, NodeId};

const OWN: NodeId = NodeId(7);
const QUEUE: usize = 4096;

struct World {
    broker: Box<dyn Broker>,
    now: u64,
    /// Connections: those that were asked for, and of them those that are there.
    peers: BTreeMap<u16, bool>,
    cluster: bool,
    nats: bool,
}

impl World {
    /// Does what is asked for.
    fn serve(&mut self) {
        while let Some(action) = self.broker.poll() {
            match action {
                Action::Connect { peer, to } => {
                    if !self.cluster {
                        let port = if self.nats { 4222 } else { 6379 };
                        assert_eq!((peer, to), (Peer(0), Address::Tcp("a".to_string(), port)));
                    }
                    let before = self.peers.insert(peer.0, false);
                    assert!(before.is_none(), "the old one is closed before");
                    assert!(self.peers.len() <= 1 + 256);
                }
                Action::Secure { .. } => panic!("no tls is configured"),
                Action::Close { peer } => {
                    // A Cluster's server may be left while there is no connection.
                    assert!(self.peers.remove(&peer.0).is_some() || self.cluster);
                }
                Action::Send { peer, bytes } => {
                    assert!(self.peers.get(&peer.0) == Some(&true) && !bytes.is_empty());
                }
                Action::Deliver(bytes) => {
                    let message = Envelope::decode(&bytes).expect("a message");
                    assert_ne!(message.origin.node, OWN);
                    assert!(message.stored.is_none());
                    if let Kind::ToConnection { id } = message.kind {
                        assert_eq!(id.node(), OWN);
                    }
                }
                Action::Heard(node) => assert_ne!(node, OWN),
                Action::Stored { topic, epoch, message } => {
                    assert!(epoch > 0 && message.before < message.offset);
                    let message = Envelope::decode(&message.bytes).expect("a message");
                    assert_eq!(message.kind, Kind::Publish { topic: &topic });
                }
                Action::Page { page: Some(page), .. } => {
                    let mut before = page.after;
                    for message in &page.messages {
                        assert!(message.before == before && message.offset > before);
                        before = message.offset;
                    }
                    assert!(before <= page.top.offset);
                }
                Action::Page { page: None, .. } | Action::Dropped { .. } | Action::Lapsed(_) => {}
                Action::Follows(topic) => self.broker.read(&topic, Position::NOWHERE, 10),
                Action::Kept { ticket, .. } => assert_ne!(ticket, 0),
                Action::State(_) => {}
            }
        }
        // What was sent, and is to be sent again, waits beyond the bound.
        let most = if self.cluster { 2 * QUEUE } else { QUEUE };
        assert!(self.broker.tally().get(Number::QueueBytes) <= most as u64);
    }

    /// One of the connections that are there, or are not yet.
    fn pick(&self, connected: bool, n: u8) -> Option<u16> {
        let mut peers = self.peers.iter().filter(|(_, there)| **there == connected);
        let count = peers.clone().count();
        (count > 0).then(|| peers.nth(usize::from(n) % count)).flatten().map(|(peer, _)| *peer)
    }

    fn received(&mut self, n: u8, bytes: &[u8]) {
        if let Some(peer) = self.pick(true, n) {
            self.broker.received(Peer(peer), bytes, self.now);
        }
    }

    fn message(&self, topic: &[u8], payload: &[u8]) -> Vec<u8> {
        let origin = Origin { node: OWN, row: 0, generation: 0 };
        let message = Envelope {
            kind: Kind::Publish { topic },
            typ: Type::Binary,
            origin,
            sequence: 0,
            stored: None,
            except: None,
            far: false,
            payload,
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("a topic");
        bytes
    }

    fn publish(&mut self, topic: &[u8], payload: &[u8]) {
        let bytes = self.message(topic, payload);
        let _ = self.broker.publish(To::Topic(topic), &bytes, self.now);
    }
}

/// Runs a script: what happens, how much of it, and its bytes; at one server, and at a Cluster.
pub fn run(data: &[u8]) {
    run_at("redis://a", data);
    run_at("redis+cluster://a", data);
}

/// The same at a NATS server with a stream.
pub fn run_at_nats(data: &[u8]) {
    run_at("nats://a", data);
}

fn run_at(address: &str, mut data: &[u8]) {
    let nats = address.starts_with("nats");
    let stream = Stream { name: "WS".to_string(), replicas: 1, count: 3, ttl: 1000 };
    let stream = nats.then_some(stream);
    let settings = Settings { queue: QUEUE, stream, ..Settings::default() };
    let seed = if nats { 5 } else { data.len() as u64 };
    let driver = Driver { node: OWN, max_message: 1000, keeps: true, seed };
    let broker = Server::parse(address).expect("an address").open(settings, driver);
    let (cluster, peers) = (address.contains("cluster"), BTreeMap::new());
    let mut world = World { broker, now: 0, peers, cluster, nats };
    world.broker.start(0);
    world.serve();
    while let [what, len, rest @ ..] = data {
        let (part, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        let n = what / 8;
        match what % 8 {
            0 => {
                if let Some(peer) = world.pick(false, n) {
                    world.peers.insert(peer, true);
                    world.broker.connected(Peer(peer), world.now);
                }
            }
            1 => {
                if let Some(peer) = world.pick(len % 2 == 0, n) {
                    world.peers.remove(&peer);
                    world.broker.closed(Peer(peer), "gone", world.now);
                }
            }
            2 => {
                world.now = world.broker.due().unwrap_or(world.now).max(world.now);
                world.broker.timer(world.now);
            }
            3 => world.broker.want(&part[..part.len().min(3)], len % 2 == 0),
            4 if !part.is_empty() => world.publish(&part[..1], &part[1..]),
            5 if part.len() > 3 => {
                let limits = Limits { count: 3, ttl: 1000, bytes: 0 };
                let key = (len % 2 == 0).then_some(&part[2..]);
                let (topic, ticket) = (&part[..1], u64::from(*len));
                let message = &world.message(topic, &part[1..]);
                world.broker.keep(&Keep { topic, message, key, limits, ticket }, world.now);
            }
            5 if part.len() == 3 => world.broker.forget(&part[..1], 1, world.now),
            5 if part.len() == 2 => world.broker.follow(&part[..1]),
            5 => world.broker.retain(&mut |topic| topic != part),
            // A server that keeps to the rules, up to the subscriptions of this machine.
            6 if cluster && world.pick(true, n) == Some(0) => world.received(n, MAP),
            6 if cluster => world.received(n, GREETED_IN_CLUSTER),
            6 if nats => world.received(n, WELCOMED),
            6 => world.received(n, GREETED),
            7 => world.received(n, part),
            _ => {}
        }
        world.serve();
    }
}

const GREETED: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n*1\r\n$6\r\nmaster\r\n\
    $21\r\nmaster_replid:abcdef\n\r\n$2\r\naa\r\n$2\r\nbb\r\n$2\r\ncc\r\n\
    >3\r\n$9\r\nsubscribe\r\n$13\r\nws:n:00000007\r\n:1\r\n\
    >3\r\n$9\r\nsubscribe\r\n$6\r\nws:all\r\n:2\r\n\
    >3\r\n$9\r\nsubscribe\r\n$13\r\nws:p:00000007\r\n:3\r\n";

const GREETED_IN_CLUSTER: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n*1\r\n$6\r\nmaster\r\n\
    $16\r\ncluster_state:ok\r\n$21\r\nmaster_replid:abcdef\n\r\n\
    $2\r\naa\r\n$2\r\nbb\r\n$2\r\ncc\r\n\
    >3\r\n$9\r\nsubscribe\r\n$13\r\nws:p:00000007\r\n:1\r\n";

/// Two servers have the slots.
const MAP: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n*2\r\n\
    *3\r\n:0\r\n:8191\r\n*3\r\n$1\r\na\r\n:7\r\n$1\r\nx\r\n\
    *3\r\n:8192\r\n:16383\r\n*3\r\n$1\r\nb\r\n:7\r\n$1\r\ny\r\n";

const WELCOMED: &[u8] =
    b"INFO {\"version\":\"2.15.1\",\"headers\":true,\"max_payload\":1000}\r\nPONG\r\n\
    MSG ws.r.00000007.0000000000000005.1 1 145\r\n\
    {\"config\":{\"subjects\":[\"ws.p.>\"],\"allow_direct\":true,\"republish\":{\"src\":\"ws.p.>\",\
    \"dest\":\"ws.l.>\"}},\"created\":\"2026-11-26\",\"state\":{\"last_seq\":9}}\r\n";
