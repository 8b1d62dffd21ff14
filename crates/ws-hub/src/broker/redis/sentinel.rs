//! Redis watched by Sentinels: which server is the master is asked of one of them before each
//! connection, and the connection that asked stays, to hear when another one takes its place. What is
//! then done with the master is the machine's of mod.rs.
//!
//! A Sentinel that does not answer, or does not know the master, is passed over for the next one; when
//! all were asked in vain the machine hears that there is no connection, and tries again in its way.

use super::answers::shown;
use super::server::{split_host, Server as Master};
use super::wire::{command, Frame, Incoming};
use super::{Redis, PEER};
use crate::broker::address::{Address, ServerError};
use crate::broker::backoff::Backoff;
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
/// Milliseconds until a Sentinel that has gone is missed, at least.
const PAUSE: u64 = 1000;

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

/// How it stands with the Sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection, and one is tried then, if none is needed before.
    Away(u64),
    /// It must be there by then.
    Connecting(u64),
    /// It must have said who is the master by then.
    Asking(u64),
    /// It has, and says when that changes.
    Watching,
}

/// The state machine.
pub struct Sentinel {
    server: Server,
    settings: Settings,
    master: Redis,
    phase: Phase,
    /// Which one is asked, and how many have been asked in vain.
    at: usize,
    vain: usize,
    /// The master is to be connected to.
    wanted: bool,
    incoming: Incoming,
    backoff: Backoff,
    actions: Vec<Action>,
}

impl Sentinel {
    /// Not started yet.
    pub fn new(server: Server, settings: Settings, driver: Driver) -> Self {
        // Where it is comes from a Sentinel each time.
        let address = server.sentinels[0].clone();
        let master = Master { address, database: server.database, tls: server.tls };
        Self {
            master: Redis::new(master, settings.clone(), driver),
            phase: Phase::Away(0),
            at: driver.seed as usize % server.sentinels.len(),
            vain: 0,
            wanted: false,
            incoming: Incoming::new(MOST),
            backoff: Backoff::new(settings.reconnect.max(PAUSE), driver.seed),
            actions: Vec::new(),
            server,
            settings,
        }
    }

    fn connect(&mut self, now: u64) {
        let to = self.server.sentinels[self.at % self.server.sentinels.len()].clone();
        self.phase = Phase::Connecting(now + self.settings.connect_timeout);
        self.incoming.clear();
        self.actions.push(Action::Connect { peer: SENTINEL, to });
    }

    /// Asks who the master is.
    fn ask(&mut self, now: u64) {
        self.phase = Phase::Asking(now + self.settings.connect_timeout);
        let bytes =
            command(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.server.master.as_bytes()]);
        self.actions.push(Action::Send { peer: SENTINEL, bytes });
    }

    /// This one is of no use: the next one, unless nobody waits, or all were asked in vain.
    fn pass_over(&mut self, why: &str, is_open: bool, now: u64) {
        if is_open {
            self.actions.push(Action::Close { peer: SENTINEL });
        }
        self.at += 1;
        self.phase = Phase::Away(now + PAUSE + self.backoff.pause());
        if !self.wanted {
            return;
        }
        self.vain += 1;
        if self.vain < self.server.sentinels.len() {
            return self.connect(now);
        }
        (self.vain, self.wanted) = (0, false);
        self.master.closed(PEER, &format!("no sentinel knows the master: {why}"), now);
    }

    fn take_frames(&mut self, now: u64) -> Result<(), String> {
        while let Some(frame) = self.incoming.next().map_err(|_| "not a sentinel".to_string())? {
            match frame {
                Frame::Push(items) => {
                    let [_, channel, what, ..] = &items[..] else { continue };
                    let (Some(channel), Some(what)) = (channel.as_bytes(), what.as_bytes()) else {
                        continue;
                    };
                    let name = [self.server.master.as_bytes(), b" "].concat();
                    if &channel[..] == SWITCH && what.starts_with(&name) && !self.wanted {
                        self.actions.push(Action::Close { peer: PEER });
                        self.master.closed(PEER, "there is another master", now);
                    }
                }
                // HELLO's answer.
                Frame::Map(_) => {}
                Frame::Error(text) | Frame::BlobError(text) => {
                    return Err(shown(&text, &self.settings.sentinel_password.0));
                }
                Frame::Null => return Err("it does not know it".to_string()),
                frame => self.found(&frame)?,
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
        if matches!(self.phase, Phase::Asking(_)) {
            self.phase = Phase::Watching;
            self.vain = 0;
            self.backoff.reset();
            if std::mem::take(&mut self.wanted) {
                let to = Address::Tcp(host.to_string(), port);
                self.actions.push(Action::Connect { peer: PEER, to });
            }
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
        let Settings { sentinel_user: user, sentinel_password: password, .. } = &self.settings;
        let user: &[u8] = if user.is_empty() { b"default" } else { user };
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if !password.0.is_empty() {
            hello.extend([&b"AUTH"[..], user, &password.0]);
        }
        let bytes = [command(&hello), command(&[b"SUBSCRIBE", SWITCH])].concat();
        self.actions.push(Action::Send { peer: SENTINEL, bytes });
        self.ask(now);
    }

    fn received(&mut self, peer: Peer, bytes: &[u8], now: u64) {
        if peer == PEER {
            return self.master.received(peer, bytes, now);
        }
        if !matches!(self.phase, Phase::Asking(_) | Phase::Watching) {
            return;
        }
        self.incoming.feed(bytes);
        if let Err(why) = self.take_frames(now) {
            self.pass_over(&why, true, now);
        }
    }

    fn closed(&mut self, peer: Peer, why: &str, now: u64) {
        match peer {
            PEER => self.master.closed(peer, why, now),
            _ if matches!(self.phase, Phase::Away(_)) => {}
            _ => self.pass_over(why, false, now),
        }
    }

    fn timer(&mut self, now: u64) {
        match self.phase {
            Phase::Connecting(until) | Phase::Asking(until) if until <= now => {
                self.pass_over("no answer in time", true, now);
            }
            Phase::Away(until) if until <= now => self.connect(now),
            _ => {}
        }
        if self.master.due().is_some_and(|due| due <= now) {
            self.master.timer(now);
        }
    }

    fn due(&self) -> Option<u64> {
        let own = match self.phase {
            Phase::Connecting(until) | Phase::Asking(until) | Phase::Away(until) => Some(until),
            Phase::Watching => None,
        };
        own.into_iter().chain(self.master.due()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        loop {
            if !self.actions.is_empty() {
                return Some(self.actions.remove(0));
            }
            match self.master.poll()? {
                Action::Connect { .. } => {
                    (self.wanted, self.vain) = (true, 0);
                    let now = self.master.last_call();
                    match self.phase {
                        Phase::Away(_) => self.connect(now),
                        Phase::Watching => self.ask(now),
                        Phase::Connecting(_) | Phase::Asking(_) => {}
                    }
                }
                Action::Close { peer } => {
                    self.wanted = false;
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
