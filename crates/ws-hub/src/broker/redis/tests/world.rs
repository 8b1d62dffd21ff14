//! Several machines over one server, with faults at random: whatever happens, no topic stays deaf.

use super::*;

/// A machine in the world of faults: its broker, its connection, what it has heard.
struct Node {
    broker: Redis,
    /// Asked for, and there.
    connecting: bool,
    connection: Option<usize>,
    /// On the way to the server, and from it.
    up: Vec<u8>,
    heard: Vec<(Vec<u8>, u32)>,
}

struct World {
    nodes: Vec<Node>,
    server: Redis7,
    now: u64,
    connections: usize,
    /// The server is there, and it is not stopped.
    alive: bool,
    stopped: bool,
    random: Backoff,
}

const TOPICS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

impl World {
    fn new(seed: u64) -> Self {
        let node = |n| {
            let broker = with(n, Settings { reconnect: 500, ..Settings::default() });
            Node { broker, connecting: false, connection: None, up: Vec::new(), heard: Vec::new() }
        };
        let mut nodes: Vec<Node> = (1..=3).map(node).collect();
        for node in &mut nodes {
            node.broker.start(0);
        }
        Self {
            nodes,
            server: Redis7::default(),
            now: 0,
            connections: 0,
            alive: true,
            stopped: false,
            random: Backoff::new(0, seed),
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.random().is_multiple_of(one_in)
    }

    /// At most so many milliseconds: bytes move in pieces of any size.
    fn step(&mut self, most: u64) {
        self.now += self.random.random() % (most + 1);
        for n in 0..self.nodes.len() {
            let (piece, random) = (self.random.random() as usize % 200, self.random.random());
            let node = &mut self.nodes[n];
            if node.broker.due().is_some_and(|due| due <= self.now) {
                node.broker.timer(self.now);
            }
            while let Some(action) = node.broker.poll() {
                match action {
                    Action::Connect { .. } => node.connecting = true,
                    Action::Close { .. } => {
                        node.connecting = false;
                        node.up.clear();
                        if let Some(who) = node.connection.take() {
                            self.server.clients.remove(&who);
                        }
                    }
                    Action::Send { bytes, .. } => node.up.extend(bytes),
                    Action::Deliver(bytes) => {
                        let message = Envelope::decode(&bytes).unwrap();
                        let Kind::Publish { topic } = message.kind else { panic!("{message:?}") };
                        let text = std::str::from_utf8(message.payload).unwrap();
                        let from = format!(" {}", message.origin.node.0);
                        let heard = [topic, from.as_bytes()].concat();
                        node.heard.push((heard, text.parse().unwrap()));
                    }
                    _ => {}
                }
            }
            if node.connecting {
                node.connecting = false;
                if self.alive {
                    self.connections += 1;
                    node.connection = Some(self.connections);
                    self.server.clients.insert(self.connections, Client::default());
                    node.broker.connected(PEER, self.now);
                } else {
                    node.broker.closed(PEER, "connection refused", self.now);
                }
                continue;
            }
            let Some(who) = node.connection else { continue };
            if !self.server.clients.contains_key(&who) {
                node.connection = None;
                node.up.clear();
                node.broker.closed(PEER, "closed by the server", self.now);
                continue;
            }
            if self.stopped {
                continue;
            }
            let up: Vec<u8> = node.up.drain(..piece.min(node.up.len())).collect();
            self.server.takes(who, &up);
            let out = &mut self.server.clients.get_mut(&who).unwrap().out;
            let len = (random as usize % 300).min(out.len());
            let down: Vec<u8> = out.drain(..len).collect();
            if !down.is_empty() {
                self.nodes[n].broker.received(PEER, &down, self.now);
            }
        }
    }

    fn fault(&mut self) {
        let n = self.random.random() as usize % 3;
        let client = self.nodes[n].connection;
        match (self.random.random() % 6, client) {
            (0, _) => {
                self.alive = false;
                self.server.clients.clear();
            }
            (1, _) => self.stopped = true,
            (2, Some(who)) => {
                self.server.clients.remove(&who);
            }
            (3, Some(who)) => {
                let garbage = self.random.random().to_le_bytes();
                if let Some(client) = self.server.clients.get_mut(&who) {
                    client.out.extend(garbage);
                }
            }
            (4, Some(who)) => {
                // A server that forgets a subscription, and says so.
                let name = [&b"ws:t:"[..], TOPICS[n]].concat();
                if let Some(client) = self.server.clients.get_mut(&who) {
                    if client.channels.remove(&name) {
                        let push = [&b">3\r\n+unsubscribe\r\n"[..], &bulk(&name), b":0\r\n"];
                        client.out.extend(push.concat());
                    }
                }
            }
            _ => (self.alive, self.stopped) = (true, false),
        }
    }
}

/// Whatever happens: no message twice, none in another order, no topic deaf once all is well.
#[test]
fn faults_at_random_leave_no_topic_deaf() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut wanted: Vec<HashSet<&[u8]>> = vec![HashSet::new(); 3];
        let mut count = 0;
        for step in 0..4000 {
            world.step(2);
            if world.chance(40) {
                world.fault();
            }
            if world.chance(10) {
                let (n, t) = (world.random.random() as usize % 3, step % TOPICS.len());
                let want = wanted[n].insert(TOPICS[t]) || !wanted[n].remove(TOPICS[t]);
                world.nodes[n].broker.want(TOPICS[t], want);
            }
            if world.chance(4) {
                let n = world.random.random() as usize % 3;
                count += 1;
                let (broker, now) = (&mut world.nodes[n].broker, world.now);
                let topic = TOPICS[count as usize % TOPICS.len()];
                // What does not fit is counted, and nobody's loss but the other machines'.
                let _ = publish(broker, topic, count.to_string().as_bytes(), now);
            }
        }
        (world.alive, world.stopped) = (true, false);
        // Longer than any deadline: whoever was stopped has been found.
        let quiet = world.now + 30_000;
        while world.now < quiet {
            world.step(20);
        }
        for (node, wanted) in world.nodes.iter().zip(&wanted) {
            let channels = &world.server.clients[&node.connection.unwrap()].channels;
            for topic in TOPICS {
                let name = [&b"ws:t:"[..], topic].concat();
                assert_eq!(channels.contains(&name), wanted.contains(topic), "seed {seed}");
            }
        }
        let before: Vec<usize> = world.nodes.iter().map(|node| node.heard.len()).collect();
        for topic in TOPICS {
            count += 1;
            let now = world.now;
            let payload = count.to_string();
            publish(&mut world.nodes[0].broker, topic, payload.as_bytes(), now).unwrap();
        }
        (0..500).for_each(|_| world.step(2));
        for n in 1..3 {
            let heard = world.nodes[n].heard.len() - before[n];
            assert_eq!(heard, wanted[n].len(), "seed {seed}");
        }
        for node in &world.nodes {
            let mut last = HashMap::new();
            for (from, number) in &node.heard {
                let before = last.insert(from, number);
                assert!(before.is_none_or(|before| before < number), "seed {seed}: {from:?}");
            }
            assert!(node.heard.len() > 20, "seed {seed}: nothing was tried");
        }
    }
}
