//! Publishing to topics, and what goes to one connection. Works in every phase and never waits.

use ws_hub::broker::Placed;
use ws_hub::envelope::{Errand, Kind, Origin, Stored, Topics, Type};
use ws_hub::history::{HistoryError, Published, MAX_KEY};
use ws_hub::json::CursorText;
use ws_hub::{ConnId, Counter, Envelope, Target, TopicHash};

use super::bus::Bus;
use super::error::Error;
use super::history::{cursor, Item};
use super::local::Message;
use super::pending::Pending;
use super::worker::{with, Hub};
use crate::ngx::clock;
use crate::session::stats;

/// Where a published message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This worker's subscribers.
    Worker,
    /// Every worker's.
    Node,
}

/// What is published, beside its topic.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Text, or binary.
    pub text: bool,
    /// The message.
    pub data: &'a [u8],
    /// A connection that is not to get it.
    pub except: Option<ConnId>,
    /// How far it goes. A topic with a history has no other than the default.
    pub scope: Option<Scope>,
    /// For topics with a history: who uses it again publishes nothing.
    pub key: Option<&'a [u8]>,
}

impl<'a> Publish<'a> {
    /// A message for everybody.
    pub fn new(text: bool, data: &'a [u8]) -> Publish<'a> {
        Publish { text, data, except: None, scope: None, key: None }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    /// The topic's subscribers within the scope; 0 for a message that was there before.
    pub subscribers: u64,
    /// Its number in the zone; None for one that was there before.
    pub sequence: Option<u64>,
    /// Where it stands in its topic's history.
    pub cursor: Option<CursorText>,
}

impl Receipt {
    /// The answer by HTTP.
    pub fn json(&self) -> String {
        let mut out = format!("{{\"subscribers\":{}", self.subscribers);
        if let Some(sequence) = self.sequence {
            out += &format!(",\"sequence\":{sequence}");
        }
        if let Some(cursor) = &self.cursor {
            out += &format!(",\"cursor\":\"{}\"", String::from_utf8_lossy(cursor));
        }
        out + "}\n"
    }
}

/// Publishes.
pub fn publish(topic: &[u8], what: &Publish<'_>) -> Result<Receipt, Error> {
    ws_hub::topic::check_topic(topic).map_err(Error::Topic)?;
    check_text(what)?;
    with(|hub| {
        if hub.local.keeps(topic) {
            return hub.publish_kept(topic, what);
        }
        if what.key.is_some() {
            return Err(Error::KeyOnPlain);
        }
        let far = what.scope.is_none() && hub.goes_far(topic);
        let message = message(Kind::Publish { topic }, what.text, what.data, what.except);
        let message = Envelope { far, ..message };
        let (sequence, subscribers) = match what.scope {
            Some(Scope::Worker) => (hub.hand_out(&message)?, hub.local.topics.count(topic) as u64),
            _ => (hub.put(target(topic), &message)?, hub.subscribers(topic)),
        };
        stats::add(Counter::Published, 1);
        Ok(Receipt { subscribers, sequence: Some(sequence), cursor: None })
    })
}

/// Publishes to several topics without a history: each connection gets the message once. The
/// subscribers are those of all topics together.
pub fn publish_many(topics: &[&[u8]], what: &Publish<'_>) -> Result<Receipt, Error> {
    check_text(what)?;
    if what.key.is_some() {
        return Err(Error::KeyOnPlain);
    }
    let mut bytes = Vec::new();
    let list = Topics::new(topics, &mut bytes).map_err(Error::Envelope)?;
    let message = message(Kind::PublishMany { topics: list }, what.text, what.data, what.except);
    with(|hub| {
        if topics.iter().any(|topic| hub.local.keeps(topic)) {
            return Err(Error::KeptAmongMany);
        }
        let far = what.scope.is_none() && topics.iter().all(|topic| hub.goes_far(topic));
        let message = Envelope { far, ..message };
        let here = |hub: &Hub| topics.iter().map(|t| hub.local.topics.count(t) as u64).sum();
        let (sequence, subscribers) = match what.scope {
            Some(Scope::Worker) => (hub.hand_out(&message)?, here(hub)),
            _ => {
                let sequence = hub.put(Target::All, &message)?;
                (sequence, topics.iter().map(|topic| hub.subscribers(topic)).sum())
            }
        };
        stats::add(Counter::Published, 1);
        Ok(Receipt { subscribers, sequence: Some(sequence), cursor: None })
    })
}

/// Closes the subscribers of a topic, in all workers. Returns how many there were.
pub fn close_topic(topic: &[u8], code: u16, reason: &str) -> Result<u64, Error> {
    ws_hub::topic::check_topic(topic).map_err(Error::Topic)?;
    with(|hub| {
        let subscribers = hub.subscribers(topic);
        let kind = Kind::CloseTopic { topic, code, reason };
        let far = hub.goes_far(topic);
        hub.put(target(topic), &Envelope { far, ..message(kind, false, &[], None) })?;
        Ok(subscribers)
    })
}

/// Sends to one connection, wherever it lives.
pub fn send(id: &ConnId, text: bool, data: &[u8]) -> Result<(), Error> {
    check_text(&Publish::new(text, data))?;
    to_one(id, &message(Kind::ToConnection { id: *id }, text, data, None))
}

/// Closes one connection, wherever it lives.
pub fn close(id: &ConnId, code: u16, reason: &str) -> Result<(), Error> {
    let kind = Kind::CloseConnection { id: *id, code, reason };
    to_one(id, &message(kind, false, &[], None))
}

/// Publishes what a client has sent to each of its topics. A client whose message cannot go there
/// is told so by the end of its connection (RFC 6455 7.4.1).
pub fn publish_from_client(id: &ConnId, topics: &[Vec<u8>], text: bool, data: &[u8]) {
    for topic in topics {
        let Err(err) = publish(topic, &Publish::new(text, data)) else { continue };
        let code = match err {
            _ if err.is_too_large() => 1009,
            Error::Overrun | Error::NoMemory | Error::History(_) | Error::BrokerUnavailable => 1013,
            _ => continue,
        };
        let told = close(id, code, &err.to_string());
        debug_assert!(told.is_ok(), "the client has just sent something");
        return;
    }
}

fn check_text(what: &Publish<'_>) -> Result<(), Error> {
    if what.text && std::str::from_utf8(what.data).is_err() {
        return Err(Error::InvalidUtf8);
    }
    Ok(())
}

fn target(topic: &[u8]) -> Target {
    Target::Topic(TopicHash::of(topic))
}

/// A message that the bus has not signed yet.
pub(super) fn message<'a>(
    kind: Kind<'a>,
    text: bool,
    payload: &'a [u8],
    except: Option<ConnId>,
) -> Envelope<'a> {
    let typ = if text { Type::Text } else { Type::Binary };
    Envelope {
        kind,
        typ,
        origin: Origin::default(),
        sequence: 0,
        stored: None,
        except,
        far: false,
        payload,
    }
}

fn to_one(id: &ConnId, message: &Envelope<'_>) -> Result<(), Error> {
    with(|hub| {
        if hub.local.session(id).is_some() {
            return hub.hand_out(message).map(|_| ());
        }
        let bus = hub.bus.as_mut().ok_or(Error::NoRow)?;
        let (row, far) = bus.other_owner(id)?;
        if far {
            return hub.send_far(row, &Envelope { far, ..*message });
        }
        bus.put(Target::Row(row), message).map(|_| ())
    })
}

impl Hub {
    /// A message for this worker alone, after all that has been published. Returns the number of
    /// what comes next.
    fn hand_out(&mut self, message: &Envelope<'_>) -> Result<u64, Error> {
        let end = self.bus.as_ref().map_or(0, Bus::end);
        if !self.catch_up(end) {
            match &mut self.bus {
                Some(bus) if message.payload.len() <= bus.max_payload() => {
                    return bus.put(Target::Row(bus.row()), message);
                }
                _ => self.drain(true),
            }
        }
        self.receive(message);
        Ok(end)
    }

    /// A message for a topic with a history: it exists once it is stored. The ring is the doorbell,
    /// which may go missing: whoever hears it, or looks, reads from the history.
    fn publish_kept(&mut self, topic: &[u8], what: &Publish<'_>) -> Result<Receipt, Error> {
        if what.scope.is_some() {
            return Err(Error::ScopeOnHistory);
        }
        if let Some(keeper) = self.local.keeper(topic) {
            return self.publish_afar(topic, what, keeper, &ConnId::NOBODY);
        }
        let subscribers = self.subscribers(topic);
        let item = Item { text: what.text, data: what.data, except: what.except };
        let stored = self.local.store(topic, &item, what.key, subscribers > 0);
        let Published { position, repeated } =
            stored.inspect_err(|_| stats::add(Counter::PublishFailed, 1))?;
        let cursor = Some(cursor(topic, position));
        if repeated {
            return Ok(Receipt { subscribers: 0, sequence: None, cursor });
        }
        stats::add(Counter::Published, 1);
        let time = clock::wall_ms();
        let stored = Stored { epoch: position.epoch, offset: position.offset, time };
        let doorbell = message(Kind::Doorbell { topic }, true, &[], None);
        let doorbell = Envelope { stored: Some(stored), ..doorbell };
        let sequence = self.bus.as_mut().and_then(|bus| bus.put(target(topic), &doorbell).ok());
        let in_place = sequence.is_none_or(|seq| self.catch_up(seq) && self.pass(seq));
        if in_place {
            let Item { text, data, except } = item;
            self.local.stored(&Message { topic, text, data, except, at: Some(position) }, position);
        }
        Ok(Receipt { subscribers, sequence, cursor })
    }

    /// A message for a history that a broker keeps: it is delivered when that has stored it, here
    /// too. `id` is answered what becomes of it.
    fn publish_afar(
        &mut self,
        topic: &[u8],
        what: &Publish<'_>,
        keeper: usize,
        id: &ConnId,
    ) -> Result<Receipt, Error> {
        let key = what.key.unwrap_or_default();
        if what.key.is_some() && (key.is_empty() || key.len() > MAX_KEY) {
            return Err(Error::History(HistoryError::Key));
        }
        if self.is_away(keeper) {
            return Err(Error::BrokerUnavailable);
        }
        let kind = Kind::Errand { topic, errand: Errand::Keep, key, id: *id };
        self.send_by_gateway(&message(kind, what.text, what.data, what.except))?;
        stats::add(Counter::Published, 1);
        Ok(Receipt { subscribers: self.subscribers(topic), sequence: None, cursor: None })
    }
}

/// Publishes to a topic whose history a broker keeps, and waits for it. `Ok(Err(receipt))`: there is
/// nothing to wait for.
pub fn publish_confirmed(
    topic: &[u8],
    what: &Publish<'_>,
) -> Result<Result<Confirm, Receipt>, Error> {
    let keeper = with(|hub| Ok(hub.local.keeper(topic)))?;
    let (Some(keeper), None) = (keeper, what.scope) else { return publish(topic, what).map(Err) };
    check_text(what)?;
    let pending = Pending::new(topic)?;
    let receipt = with(|hub| hub.publish_afar(topic, what, keeper, pending.id()))?;
    Ok(Ok(Confirm { pending, receipt }))
}

/// A message that a broker has yet to confirm.
pub struct Confirm {
    pending: Pending,
    receipt: Receipt,
}

impl Confirm {
    /// What became of it, once that is known.
    pub fn take(&self) -> Option<Result<Receipt, Error>> {
        let outcome = self.pending.take()?;
        Some(outcome.map_err(Error::from).map(|Placed { at, repeated }| {
            let cursor = Some(cursor(&self.pending.topic, at));
            let subscribers = if repeated { 0 } else { self.receipt.subscribers };
            Receipt { subscribers, cursor, ..self.receipt }
        }))
    }

    /// Who waits.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }
}
