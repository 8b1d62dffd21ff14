//! The way to other machines: one worker of this machine, the gateway, owns the connection to the
//! broker (`ws_hub::broker` says what is done there). The others put what is to go far into the
//! ring, as they do for each other, and tell it by ring messages which topics they listen for. When
//! it dies, or is told to quit, another takes its place, asks everybody what they listen for, and
//! goes on.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ws_hub::broker::{Action, Address, Broker, Driver, Number, Peer, Server, Settings, State, To};
use ws_hub::envelope::{Kind, Origin, Topics, Type};
use ws_hub::gateway::Gateway as Place;
use ws_hub::{Envelope, Target, TopicHash};

use super::bus::{Bus, RateLimiter};
use crate::ngx::client::{address, unix, Client};
use crate::ngx::timer::Timer;
use crate::ngx::{clock, log};
use crate::session::{random, stats};

/// A broker of the configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name there.
    pub name: String,
    /// Where it is.
    pub server: Server,
    /// How to talk to it.
    pub settings: Settings,
}

/// That of the configuration loaded last: set in the master before it forks, and read by workers.
static CONFIGURED: Mutex<Option<Arc<Configured>>> = Mutex::new(None);

thread_local! {
    /// When the broker is to be called.
    static DUE: Timer = const { Timer::new() };
}

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// Milliseconds between two looks for topics that nobody listens for any more.
const SWEEP_EVERY: u64 = 10_000;

/// Before workers are forked: their broker, if they have one.
pub fn configure(broker: Option<Configured>) {
    if let Ok(mut configured) = CONFIGURED.lock() {
        *configured = broker.map(Arc::new);
    }
}

/// This worker's broker.
pub fn configured() -> Option<Arc<Configured>> {
    CONFIGURED.lock().ok()?.clone()
}

/// What the gateway has: the broker, and its connection.
///
/// Owned by the worker's hub. Dropped, it closes the connection and is nobody's gateway any more.
pub struct Gateway {
    origin: Origin,
    configured: Arc<Configured>,
    broker: Box<dyn Broker>,
    client: Option<(Peer, Client)>,
    /// What to call when something may have happened.
    happened: fn(),
    buffer: Vec<u8>,
    swept: u64,
    gaps: RateLimiter,
    denied: RateLimiter,
}

impl Gateway {
    /// Begins.
    pub fn new(configured: Arc<Configured>, bus: &Bus, happened: fn()) -> Gateway {
        let origin = bus.origin();
        let driver = Driver {
            node: origin.node,
            max_message: bus.max_payload() + 512,
            seed: u64::from_ne_bytes(random::bytes()),
        };
        let mut broker = configured.server.open(configured.settings.clone(), driver);
        let now = clock::now_ms();
        broker.start(now);
        Gateway {
            origin,
            configured,
            broker,
            client: None,
            happened,
            buffer: vec![0; READ],
            swept: now,
            gaps: RateLimiter::default(),
            denied: RateLimiter::default(),
        }
    }

    /// This machine listens for a topic.
    pub fn want(&mut self, topic: &[u8]) {
        self.broker.want(topic, true);
        self.soon();
    }

    /// A message that this worker has read in the ring, or published: whether it goes far.
    pub fn pass_on(&mut self, message: &Envelope<'_>) {
        let to = match message.kind {
            Kind::Listens { topics } => {
                topics.iter().for_each(|topic| self.broker.want(topic, true));
                return self.soon();
            }
            _ if !message.far => return,
            Kind::Publish { topic } | Kind::CloseTopic { topic, .. } => To::Topic(topic),
            Kind::PublishMany { .. } => To::All,
            Kind::ToConnection { id } | Kind::CloseConnection { id, .. } => To::Node(id.node()),
            Kind::Doorbell { .. } | Kind::WhoListens => return,
            Kind::Ask { .. } | Kind::Answer { .. } | Kind::Changes { .. } => return,
        };
        let mut bytes = Vec::new();
        let signed = Envelope { origin: self.origin, far: false, ..*message };
        if signed.encode(&mut bytes).is_ok() {
            // What it does not take it counts.
            let _ = self.broker.publish(to, &bytes, clock::now_ms());
            self.soon();
        }
    }

    /// Has `happened` called in this turn, for what the broker wants to be done.
    fn soon(&self) {
        match &self.client {
            Some((_, client)) => client.call_soon(),
            None => DUE.with(|timer| timer.set(0, self.happened)),
        }
    }

    /// Topics for which nobody listens any more are dropped now and then: not at once, for pages
    /// are loaded again.
    pub fn sweep(&mut self, mut listens: impl FnMut(&[u8]) -> bool) {
        let now = clock::now_ms();
        if now >= self.swept + SWEEP_EVERY {
            self.swept = now;
            self.broker.retain(&mut |topic| listens(topic));
            self.soon();
        }
    }

    /// Does whatever can be done now. Returns the messages that have come.
    pub fn turn(&mut self, place: &Place<'_>) -> Vec<Bytes> {
        let now = clock::now_ms();
        let mut came = Vec::new();
        if self.broker.due().is_some_and(|due| due <= now) {
            self.broker.timer(now);
        }
        self.read(now);
        while let Some(action) = self.broker.poll() {
            match action {
                Action::Connect { peer, to } => self.connect(peer, &to, now),
                Action::Close { .. } => self.client = None,
                Action::Send { bytes, .. } => {
                    if let Some((_, client)) = &mut self.client {
                        client.send(bytes);
                    }
                }
                Action::Deliver(message) => came.push(message),
                Action::Heard(node) => place.heard(node, now),
                Action::State(state) => self.say(state),
            }
        }
        if let Some((peer, client)) = &mut self.client {
            if let Err(why) = client.flush() {
                let peer = *peer;
                self.client = None;
                self.broker.closed(peer, &why, now);
            }
        }
        let tally = self.broker.tally();
        for (number, counter) in Number::SHOWN {
            if counter.is_gauge() {
                stats::set(counter, tally.get(number));
            } else {
                stats::add(counter, tally.take(number));
            }
        }
        if let Some(due) = self.broker.due() {
            DUE.with(|timer| timer.set(due.saturating_sub(now).max(1), self.happened));
        }
        came
    }

    fn connect(&mut self, peer: Peer, to: &Address, now: u64) {
        self.client = None;
        let place = match to {
            Address::Tcp(host, port) => address(host, *port),
            Address::Unix(path) => unix(path),
        };
        let client = match place {
            Some(place) => Client::connect(&place, self.happened),
            None => Err("not an address".to_string()),
        };
        match client {
            Ok(client) => {
                client.call_soon();
                self.client = Some((peer, client));
            }
            Err(why) => self.broker.closed(peer, &why, now),
        }
    }

    /// Takes what the connection has brought.
    fn read(&mut self, now: u64) {
        let Some((peer, client)) = &mut self.client else { return };
        let (peer, was_there) = (*peer, client.was_there());
        let ended = match client.is_there() {
            Ok(false) => return,
            Ok(true) => loop {
                if !was_there {
                    self.broker.connected(peer, now);
                    break None;
                }
                match client.read(&mut self.buffer) {
                    Ok(Some(n)) => self.broker.received(peer, &self.buffer[..n], now),
                    Ok(None) => break None,
                    Err(why) => break Some(why),
                }
            },
            Err(why) => Some(why),
        };
        if let Some(why) = ended {
            self.client = None;
            self.broker.closed(peer, &why, now);
        }
    }

    fn say(&mut self, state: State) {
        let Configured { name, server, .. } = &*self.configured;
        let at = server.address();
        match state {
            State::Up { topics, away: Some(away) } => log::notice(&format!(
                "websocket: broker {name} ({at}): back after {:.1} s, {topics} topics subscribed again",
                away as f64 / 1000.0
            )),
            State::Up { topics, away: None } => {
                log::notice(&format!("websocket: broker {name} ({at}): connected, {topics} topics subscribed"));
            }
            State::Down { why, again_in } if self.gaps.may_log() => {
                log::warn(&format!(
                    "websocket: broker {name} ({at}): connection lost ({why}), trying again in {again_in} ms"
                ));
            }
            State::Denied { topic, why } if self.denied.may_log() => {
                let topic = String::from_utf8_lossy(&topic);
                log::warn(&format!("websocket: broker {name} ({at}): topic \"{}\" is denied: {why}", topic.escape_debug()));
            }
            State::Down { .. } | State::Denied { .. } => {}
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        DUE.with(Timer::cancel);
        for (_, counter) in Number::SHOWN {
            if counter.is_gauge() {
                stats::set(counter, 0);
            }
        }
    }
}

/// What this worker's hub has of all this.
pub struct Far {
    /// The broker, if there is one.
    pub configured: Option<Arc<Configured>>,
    /// In the worker that talks to it.
    pub gateway: Option<Gateway>,
    /// The gateway has asked what is listened for here.
    pub asked: bool,
    /// What of that has not been answered yet.
    pub answer: Vec<Box<[u8]>>,
}

impl Far {
    /// In a worker that starts.
    pub fn new() -> Far {
        Far { configured: configured(), gateway: None, asked: false, answer: Vec::new() }
    }

    /// A message was read in the ring, or comes from here.
    #[inline]
    pub fn hear(&mut self, message: &Envelope<'_>) {
        if let Some(gateway) = &mut self.gateway {
            gateway.pass_on(message);
        }
        self.asked |= message.kind == Kind::WhoListens && self.configured.is_some();
    }

    /// Takes some of what is to be answered, at most so many bytes of names.
    pub fn next_answers(&mut self, most: usize) -> Vec<Box<[u8]>> {
        let mut left = most;
        let mut some = Vec::new();
        while some.len() < Topics::MOST {
            match self.answer.last() {
                Some(topic) if topic.len() <= left => left -= topic.len(),
                _ => break,
            }
            some.extend(self.answer.pop());
        }
        some
    }
}

/// A message without anything beside its kind.
pub fn plain(kind: Kind<'_>) -> Envelope<'_> {
    Envelope {
        kind,
        typ: Type::Text,
        origin: Origin::default(),
        sequence: 0,
        stored: None,
        except: None,
        far: false,
        payload: &[],
    }
}

/// Who in the ring is to hear a message that has come from another machine; None: nobody any more.
pub fn target_of(message: &Envelope<'_>, bus: &Bus) -> Option<Target> {
    match message.kind {
        Kind::Publish { topic } | Kind::CloseTopic { topic, .. } => {
            Some(Target::Topic(TopicHash::of(topic)))
        }
        Kind::PublishMany { .. } => Some(Target::All),
        Kind::ToConnection { id } | Kind::CloseConnection { id, .. } => bus.owner_here(&id),
        Kind::Doorbell { .. } | Kind::Listens { .. } | Kind::WhoListens => None,
        Kind::Ask { .. } | Kind::Answer { .. } | Kind::Changes { .. } => None,
    }
}
