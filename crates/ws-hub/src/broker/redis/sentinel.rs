//! Redis watched by Sentinels: which server is the master is asked of one of them before each
//! connection, and the connection that asked stays, to hear when another one takes its place. What is
//! then done with the master is the machine's of mod.rs.
//!
//! When all Sentinels were asked in vain (scout.rs) the machine hears that there is no connection,
//! and tries again in its way.

use super::scout::{Errand, Scout};
use super::server::Server as Master;
use super::wire::{command, Frame};
use super::Redis;
use crate::broker::address::{split_host, Address, ServerError};
use crate::broker::contact::PEER;
use crate::broker::seam::{Action, Broker, Keep, Peer, Refused, To};
use crate::broker::settings::{Driver, Settings};
use crate::broker::tally::Tally;
use crate::history::Position;

/// The connection to a Sentinel.
const SENTINEL: Peer = Peer(1);
/// A Sentinel's port.
const PORT: u16 = 26379;
/// Where it is told that there is another master.
const SWITCH: &[u8] = b"+switch-master";
/// More than anything that a Sentinel says to us.
const MOST: usize = 64 * 1024;

/// Which Sentinels, and which master of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where they are.
    pub sentinels: Vec<Address>,
    /// The master's name.
    pub master: String,
    /// The number of its database.
    pub database: u32,
    /// All connections are in TLS.
    pub tls: bool,
}

impl Server {
    /// What follows `redis+sentinel://`: `host[:port][,host[:port]...]/master[/database]`.
    pub fn parse(rest: &str, tls: bool) -> Result<Self, ServerError> {
        let (places, master) = rest.split_once('/').ok_or(ServerError::Master)?;
        let (master, database) = master.split_once('/').unwrap_or((master, ""));
        if places.contains('@') {
            return Err(ServerError::Secret);
        }
        if master.is_empty() {
            return Err(ServerError::Master);
        }
        let sentinels: Result<_, _> =
            places.split(',').map(|place| split_host(place, PORT)).collect();
        let database = match database {
            "" => 0,
            digits => digits.parse().map_err(|_| ServerError::Database)?,
        };
        Ok(Self { sentinels: sentinels?, master: master.to_string(), database, tls })
    }
}

/// The state machine.
pub struct Sentinel {
    name: String,
    master: Redis,
    scout: Scout,
    /// Close and connect, for the master.
    actions: Vec<Action>,
}

impl Sentinel {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        let Server { sentinels, master: name, database, tls } = server;
        let errand = Errand {
            user: settings.sentinel_user.clone(),
            password: settings.sentinel_password.clone(),
            before: command(&[b"SUBSCRIBE", SWITCH]),
            question: command(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()]),
            stays: true,
            timeout: settings.connect_timeout,
        };
        // Where it is comes from a Sentinel each time.
        let master = Master { address: sentinels[0].clone(), database, tls };
        let pause = settings.reconnect;
        Self {
            master: Redis::new(master, settings, driver),
            scout: Scout::new(sentinels, SENTINEL, errand, pause, MOST, driver.seed),
            actions: Vec::new(),
            name,
        }
    }

    /// All were asked in vain.
    fn give_up(&mut self, why: &str, now: u64) {
        self.master.closed(PEER, &format!("no sentinel knows the master: {why}"), now);
    }

    fn take_frames(&mut self, now: u64) -> Result<(), String> {
        while let Some(frame) = self.scout.next()? {
            let Frame::Push(items) = frame else {
                self.found(&frame)?;
                continue;
            };
            let [_, channel, what, ..] = &items[..] else { continue };
            let (Some(channel), Some(what)) = (channel.as_bytes(), what.as_bytes()) else {
                continue;
            };
            let name = [self.name.as_bytes(), b" "].concat();
            if &channel[..] == SWITCH && what.starts_with(&name) && !self.scout.is_wanted() {
                self.actions.push(Action::Close { peer: PEER });
                self.master.closed(PEER, "there is another master", now);
            }
        }
        Ok(())
    }

    /// The master's address.
    fn found(&mut self, frame: &Frame) -> Result<(), String> {
        let place = match frame.as_array() {
            Some([host, port]) => host.as_str().zip(port.as_str().and_then(|p| p.parse().ok())),
            _ => None,
        };
        let Some((host, port)) = place else { return Err("it does not know it".to_string()) };
        if self.scout.answered() {
            let to = Address::Tcp(host.to_string(), port);
            self.actions.push(Action::Connect { peer: PEER, to });
        }
        Ok(())
    }
}

impl Broker for Sentinel {
    fn start(&mut self, now: u64) {
        self.master.start(now);
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.master.want(topic, wanted);
    }

    fn follow(&mut self, topic: &[u8]) {
        self.master.follow(topic);
    }

    fn keep(&mut self, keep: &Keep<'_>, now: u64) {
        self.master.keep(keep, now);
    }

    fn read(&mut self, topic: &[u8], since: Position, most: u32) {
        self.master.read(topic, since, most);
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.master.forget(topic, ticket, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        self.master.wants(topic)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.master.retain(keep);
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        self.master.publish(to, message, now)
    }

    fn connected(&mut self, peer: Peer, now: u64) {
        if peer == PEER {
            return self.master.connected(peer, now);
        }
        self.scout.connected(now);
    }

    fn received(&mut self, peer: Peer, bytes: &[u8], now: u64) {
        if peer == PEER {
            return self.master.received(peer, bytes, now);
        }
        self.scout.received(bytes);
        if let Err(why) = self.take_frames(now) {
            if self.scout.pass_over(true, now) {
                self.give_up(&why, now);
            }
        }
    }

    fn closed(&mut self, peer: Peer, why: &str, now: u64) {
        if peer == PEER {
            self.master.closed(peer, why, now);
        } else if self.scout.closed(now) {
            self.give_up(why, now);
        }
    }

    fn timer(&mut self, now: u64) {
        if self.scout.timer(now) {
            self.give_up("no answer in time", now);
        }
        if self.master.due().is_some_and(|due| due <= now) {
            self.master.timer(now);
        }
    }

    fn due(&self) -> Option<u64> {
        self.scout.due().into_iter().chain(self.master.due()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        loop {
            if !self.actions.is_empty() {
                return Some(self.actions.remove(0));
            }
            if let Some(action) = self.scout.poll() {
                return Some(action);
            }
            match self.master.poll()? {
                Action::Connect { .. } => self.scout.want(self.master.last_call()),
                Action::Close { peer } => {
                    self.scout.forget();
                    return Some(Action::Close { peer });
                }
                other => return Some(other),
            }
        }
    }

    fn is_level(&self) -> bool {
        self.master.is_level()
    }

    fn is_idle(&self) -> bool {
        self.master.is_idle()
    }

    fn tally(&mut self) -> &mut Tally {
        self.master.tally()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn sentinel() -> Sentinel {
        let server = Server::parse("s1,s2:7/ws/2", false).unwrap();
        let driver = Driver { node: NodeId(1), max_message: 1000, keeps: false, seed: 2 };
        Sentinel::new(server, Settings::default(), driver)
    }

    fn connects(broker: &mut Sentinel) -> Vec<(Peer, String)> {
        let mut found = Vec::new();
        while let Some(action) = broker.poll() {
            if let Action::Connect { peer, to } = action {
                found.push((peer, to.to_string()));
            }
        }
        found
    }

    const FOUND: &[u8] = b"%1\r\n+proto\r\n:3\r\n>3\r\n+subscribe\r\n+\x2bswitch-master\r\n:1\r\n\
        *2\r\n$1\r\nm\r\n$4\r\n6379\r\n";

    #[test]
    fn addresses_are_read() {
        let server = Server::parse("s1,s2:7/ws/2", true).unwrap();
        let at = |host: &str, port| Address::Tcp(host.to_string(), port);
        assert_eq!(server.sentinels, [at("s1", 26379), at("s2", 7)]);
        assert_eq!((&server.master[..], server.database, server.tls), ("ws", 2, true));
        for (text, fault) in [
            ("s1", ServerError::Master),
            ("s1/", ServerError::Master),
            ("a@s1/ws", ServerError::Secret),
            ("s1,/ws", ServerError::NoHost),
            ("s1:0/ws", ServerError::Port),
            ("s1/ws/x", ServerError::Database),
        ] {
            assert_eq!(Server::parse(text, false), Err(fault), "{text}");
        }
    }

    #[test]
    fn the_master_is_asked_for_and_followed() {
        let mut broker = sentinel();
        broker.start(0);
        assert_eq!(connects(&mut broker), [(SENTINEL, "s1:26379".to_string())]);
        broker.closed(SENTINEL, "refused", 1);
        assert_eq!(connects(&mut broker), [(SENTINEL, "s2:7".to_string())]);
        broker.connected(SENTINEL, 2);
        broker.received(SENTINEL, FOUND, 3);
        assert_eq!(connects(&mut broker), [(PEER, "m:6379".to_string())]);
        broker.connected(PEER, 4);
        while broker.poll().is_some() {}
        // Another master: the connection is left, and it is asked again.
        let switch = b">3\r\n+message\r\n+\x2bswitch-master\r\n$20\r\nws 1.1.1.1 1 1.1.1.2 2\r\n";
        let switch = String::from_utf8_lossy(switch).replace("$20", "$22");
        broker.received(SENTINEL, switch.as_bytes(), 5);
        assert_eq!(broker.poll(), Some(Action::Close { peer: PEER }));
        while broker.poll().is_some() {}
        let now = broker.due().unwrap();
        broker.timer(now);
        let asks = std::iter::from_fn(|| broker.poll())
            .any(|action| matches!(action, Action::Send { peer: SENTINEL, .. }));
        assert!(asks);
    }

    #[test]
    fn nobody_knows_the_master() {
        let mut broker = sentinel();
        broker.start(0);
        for _ in 0..2 {
            assert_eq!(connects(&mut broker).len(), 1);
            broker.connected(SENTINEL, 1);
            while broker.poll().is_some() {}
            broker.received(SENTINEL, b"%1\r\n+proto\r\n:3\r\n_\r\n", 2);
        }
        let said = std::iter::from_fn(|| broker.poll()).any(|action| {
            matches!(action, Action::State(crate::broker::State::Down { why, .. })
                if why.contains("no sentinel knows the master"))
        });
        assert!(said);
    }
}
