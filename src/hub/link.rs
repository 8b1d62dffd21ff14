//! One broker, as the gateway drives it: its state machine (`ws_hub::broker`), which neither
//! connects nor waits, and the connections that it asks for.

use std::cell::Cell;
use std::rc::Rc;

use ws_hub::broker::{Action, Address, Broker, Driver, Number, Peer, Server, Settings, State, Tls};
use ws_hub::standing::Stands;

use super::bus::RateLimiter;
use super::copies::Copies;
use crate::ngx::client::{Client, Place};
use crate::ngx::resolve::Resolver;
use crate::ngx::tls_client::TlsClient;
use crate::ngx::{clock, log};

/// A broker of the configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name there.
    pub name: String,
    /// Where it is.
    pub server: Server,
    /// How to talk to it.
    pub settings: Settings,
    /// In TLS: whom is trusted.
    pub tls: Option<Rc<TlsClient>>,
}

/// Bytes read at once.
const READ: usize = 64 * 1024;

thread_local! {
    /// Where they come to; taken while somebody reads.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A broker and its connections. Dropped, it closes them.
pub struct Link {
    configured: Rc<Configured>,
    /// The state machine.
    pub broker: Box<dyn Broker>,
    /// This machine's copies of its histories.
    pub copies: Copies,
    /// How it stands with it, and since when; until it is there since when it is not.
    pub stands: Stands,
    pub since: u64,
    /// It is away only in part.
    is_partly_there: bool,
    clients: Vec<(Peer, Client)>,
    /// What to call when something may have happened.
    happened: Rc<dyn Fn()>,
    lost: RateLimiter,
    denied: RateLimiter,
}

impl Link {
    /// Begins.
    pub fn new(configured: Rc<Configured>, driver: Driver, happened: Rc<dyn Fn()>) -> Link {
        let mut broker = configured.server.open(configured.settings.clone(), driver);
        let now = clock::now_ms();
        broker.start(now);
        let (copies, clients) = (Copies::new(), Vec::new());
        let (stands, since) = (Stands::Connecting, now);
        let (lost, denied) = (RateLimiter::default(), RateLimiter::default());
        let is_partly_there = false;
        Link {
            configured,
            broker,
            copies,
            stands,
            since,
            is_partly_there,
            clients,
            happened,
            lost,
            denied,
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.configured.name
    }

    /// Since when it is away, not only a part of it.
    pub fn away_since(&self) -> Option<u64> {
        (self.stands != Stands::Connected && !self.is_partly_there).then_some(self.since)
    }

    /// Has `happened` called in this turn of the event loop. False: there is no connection that could.
    pub fn call_soon(&self) -> bool {
        let first = self.clients.first();
        first.map(|(_, client)| client.call_soon()).is_some()
    }

    /// Takes what has come, and does what is due.
    pub fn turn(&mut self) {
        let now = clock::now_ms();
        if self.broker.due().is_some_and(|due| due <= now) {
            self.broker.timer(now);
        }
        let peers: Vec<Peer> = self.clients.iter().map(|(peer, _)| *peer).collect();
        peers.into_iter().for_each(|peer| self.read(peer, now));
    }

    /// The next thing that is asked for beside connections, after all that can be done for those.
    pub fn next(&mut self) -> Option<Action> {
        let now = clock::now_ms();
        loop {
            while let Some(action) = self.broker.poll() {
                match action {
                    Action::Connect { peer, to } => self.connect(peer, &to, now),
                    Action::Close { peer } => self.close(peer),
                    Action::Secure { peer } => self.secure(peer, now),
                    Action::Send { peer, bytes } => self.send(peer, bytes),
                    Action::State(state) => self.note(state, now),
                    other => return Some(other),
                }
            }
            if !self.flush(now) {
                return None;
            }
        }
    }

    fn connect(&mut self, peer: Peer, to: &Address, now: u64) {
        self.close(peer);
        let place = match to {
            Address::Tcp(host, port) => Place::Host(host.clone(), *port),
            Address::Unix(path) => Place::Unix(path.clone()),
        };
        let tls = match self.configured.server.tls(&self.configured.settings) {
            Tls::First => self.configured.tls.clone(),
            Tls::Later | Tls::Never => None,
        };
        let resolver = Resolver::of_http_block();
        match Client::connect(&place, tls, resolver, self.happened.clone()) {
            Ok(client) => {
                client.call_soon();
                self.clients.push((peer, client));
            }
            Err(why) => self.broker.closed(peer, &why, now),
        }
    }

    fn client(&mut self, peer: Peer) -> Option<&mut Client> {
        self.clients.iter_mut().find(|(one, _)| *one == peer).map(|(_, client)| client)
    }

    /// A connection goes on in TLS.
    fn secure(&mut self, peer: Peer, now: u64) {
        let Some(tls) = self.configured.tls.clone() else { return };
        let Some(client) = self.client(peer) else { return };
        if let Err(why) = client.secure(tls) {
            self.close(peer);
            self.broker.closed(peer, &why, now);
        }
    }

    fn close(&mut self, peer: Peer) {
        self.clients.retain(|(one, _)| *one != peer);
    }

    fn send(&mut self, peer: Peer, bytes: Vec<u8>) {
        if let Some(client) = self.client(peer) {
            client.send(bytes);
        }
    }

    /// Whether a connection ended in it.
    fn flush(&mut self, now: u64) -> bool {
        let flushed = |(peer, client): &mut (Peer, Client)| Some((*peer, client.flush().err()?));
        let failed: Vec<_> = self.clients.iter_mut().filter_map(flushed).collect();
        for (peer, why) in &failed {
            self.close(*peer);
            self.broker.closed(*peer, why, now);
        }
        !failed.is_empty()
    }

    /// Takes what a connection has brought.
    fn read(&mut self, peer: Peer, now: u64) {
        if let Err(why) = self.read_all(peer, now) {
            self.close(peer);
            self.broker.closed(peer, &why, now);
        }
    }

    fn read_all(&mut self, peer: Peer, now: u64) -> Result<(), String> {
        let Some((_, client)) = self.clients.iter_mut().find(|(one, _)| *one == peer) else {
            return Ok(());
        };
        let was_there = client.was_there();
        if !client.is_there()? {
            return Ok(());
        }
        if !was_there {
            self.broker.connected(peer, now);
        }
        let mut buffer = BUFFER.take();
        buffer.resize(READ, 0);
        let result = loop {
            match client.read(&mut buffer) {
                Ok(Some(n)) => self.broker.received(peer, &buffer[..n], now),
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
        BUFFER.set(buffer);
        result
    }

    /// Numbers of this broker.
    pub fn take(&mut self, number: Number) -> u64 {
        self.broker.tally().take(number)
    }

    fn note(&mut self, state: State, now: u64) {
        match state {
            State::Up { .. } => (self.stands, self.since) = (Stands::Connected, now),
            State::Down { .. } | State::Impaired { .. } => {
                if self.stands == Stands::Connected {
                    self.since = now;
                }
                self.stands = Stands::Away;
                self.is_partly_there = matches!(state, State::Impaired { .. });
                if !self.is_partly_there {
                    self.copies.lose();
                }
            }
            State::Denied { .. } | State::Faulty { .. } => {}
        }
        self.say(state);
    }

    /// Does something with the histories that it keeps.
    pub fn with_copies<R>(&mut self, work: impl FnOnce(&mut Copies, &mut dyn Broker) -> R) -> R {
        work(&mut self.copies, &mut *self.broker)
    }

    fn say(&mut self, state: State) {
        let Configured { name, server, .. } = &*self.configured;
        let at = server;
        match state {
            State::Up { topics, away: Some(away) } => log::notice(&format!(
                "websocket: broker {name} ({at}): back after {:.1} s, {topics} topics subscribed again",
                away as f64 / 1000.0
            )),
            State::Up { topics, away: None } => {
                log::notice(&format!("websocket: broker {name} ({at}): connected, {topics} topics subscribed"));
            }
            State::Down { why, again_in } if self.lost.may_log() => {
                log::warn(&format!(
                    "websocket: broker {name} ({at}): connection lost ({why}), trying again in {again_in} ms"
                ));
            }
            State::Impaired { why, again_in } if self.lost.may_log() => {
                log::warn(&format!(
                    "websocket: broker {name} ({at}): away in part ({why}), trying again in {again_in} ms"
                ));
            }
            State::Denied { topic, why } if self.denied.may_log() => {
                let topic = String::from_utf8_lossy(&topic);
                log::warn(&format!("websocket: broker {name} ({at}): topic \"{}\" is denied: {why}", topic.escape_debug()));
            }
            State::Faulty { why } => {
                log::warn(&format!("websocket: broker {name} ({at}): {why}"));
            }
            State::Down { .. } | State::Impaired { .. } | State::Denied { .. } => {}
        }
    }
}
