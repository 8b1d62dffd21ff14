//! A broker to whose server the data belongs: the property test's and the fuzz target's. Whatever
//! comes, what is delivered is a message of another machine for here, nothing is kept beyond bounds,
//! every deadline lies ahead once it was served, and the connection is never used after its end.

use ws_hub::broker::{Action, Address, Broker, Driver, Keep, Number, Peer, Server, Settings, To};
use ws_hub::envelope::{Kind, Origin, Type};
use ws_hub::history::{Limits, Position};
use ws_hub::{Envelope, NodeId};

const OWN: NodeId = NodeId(7);
const QUEUE: usize = 4096;

struct World {
    broker: Box<dyn Broker>,
    now: u64,
    asked: bool,
    connected: bool,
}

impl World {
    /// Does what is asked for.
    fn serve(&mut self) {
        while let Some(action) = self.broker.poll() {
            match action {
                Action::Connect { peer, to } => {
                    assert_eq!((peer, to), (Peer(0), Address::Tcp("a".to_string(), 6379)));
                    assert!(!self.connected, "the old one is closed before");
                    self.asked = true;
                }
                Action::Close { .. } => {
                    assert!(self.connected || self.asked);
                    (self.connected, self.asked) = (false, false);
                }
                Action::Send { bytes, .. } => assert!(self.connected && !bytes.is_empty()),
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
                Action::Page { page: None, .. } | Action::Dropped { .. } => {}
                Action::Follows(topic) => self.broker.read(&topic, Position::NOWHERE, 10),
                Action::Kept { ticket, .. } => assert_ne!(ticket, 0),
                Action::State(_) => {}
            }
        }
        assert!(self.broker.tally().get(Number::QueueBytes) <= QUEUE as u64);
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

/// Runs a script: what happens, how much of it, and its bytes.
pub fn run(mut data: &[u8]) {
    let settings = Settings { queue: QUEUE, ..Settings::default() };
    let driver = Driver { node: OWN, max_message: 1000, keeps: true, seed: data.len() as u64 };
    let broker = Server::parse("redis://a").expect("an address").open(settings, driver);
    let mut world = World { broker, now: 0, asked: false, connected: false };
    world.broker.start(0);
    world.serve();
    while let [what, len, rest @ ..] = data {
        let (part, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        match what % 8 {
            0 if world.asked => {
                (world.asked, world.connected) = (false, true);
                world.broker.connected(Peer(0), world.now);
            }
            1 if world.asked || world.connected => {
                (world.asked, world.connected) = (false, false);
                world.broker.closed(Peer(0), "gone", world.now);
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
            6 if world.connected => {
                world.broker.received(Peer(0), GREETED, world.now);
            }
            _ if world.connected => world.broker.received(Peer(0), part, world.now),
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
