//! This worker and the machines beyond its own: which worker is the gateway (gateway.rs), what comes
//! through it, and what each worker tells it of the topics that are listened for.

use ws_hub::envelope::{Kind, Origin, Topics, Type};
use ws_hub::{Counter, Envelope, Target, TopicHash};

use super::bus::Bus;
use super::error::Error;
use super::gateway::Gateway;
use super::worker::Hub;
use crate::ngx::timer::Timer;
use crate::ngx::{clock, process};
use crate::session::stats;

thread_local! {
    static ANSWER: Timer = const { Timer::new() };
}

/// Bytes of topics' names told at once, and milliseconds until the next: the ring is everybody's.
const ANSWER_BYTES: usize = 64 * 1024;
const ANSWER_EVERY: u64 = 5;

/// A message without anything beside its kind.
fn plain(kind: Kind<'_>) -> Envelope<'_> {
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
fn target_of(message: &Envelope<'_>, bus: &Bus) -> Option<Target> {
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

impl Hub {
    /// Somebody must talk to the brokers: this worker, if nobody does.
    pub(super) fn govern(&mut self) {
        let Hub { local, bus: Some(bus), far } = self else { return };
        bus.free_dead_if_due();
        if let Some(gateway) = &mut far.gateway {
            if process::is_quitting() || !bus.is_gateway() {
                far.gateway = None;
                return bus.be_no_gateway();
            }
            gateway.sweep(|topic| local.topics.count(topic) > 0 || bus.is_heard_elsewhere(topic));
            let known = bus.place().known(clock::now_ms());
            stats::set(Counter::NodesKnown, known as u64);
        } else if far.is_used() && !process::is_quitting() && bus.become_gateway() {
            far.gateway = Some(Gateway::new(&far.configured, bus, far.happened));
            self.turn();
            self.ask_all();
            self.go_on();
        }
    }

    /// Everybody is to say what they listen for.
    fn ask_all(&mut self) {
        let _ = self.put(Target::All, &plain(Kind::WhoListens));
    }

    /// Something has happened that a broker, or the gateway, may want to know.
    pub(super) fn turn(&mut self) {
        self.answer();
        let Hub { bus: Some(bus), far, .. } = self else { return };
        let Some(gateway) = &mut far.gateway else { return };
        for (broker, bytes) in gateway.turn(&bus.place()) {
            let Ok(message) = Envelope::decode(&bytes) else { continue };
            let (Some(bus), histories) = (&self.bus, self.local.histories.as_ref()) else { return };
            let expected = match message.kind {
                Kind::Publish { topic } | Kind::CloseTopic { topic, .. } => {
                    self.far.broker_of(topic, histories)
                }
                _ => Some(0),
            };
            match target_of(&message, bus) {
                // What the zone cannot carry has been counted.
                Some(target) if expected == Some(broker) => {
                    let _ = self.put(target, &Envelope { far: false, ..message });
                }
                _ => {}
            }
        }
    }

    /// Whether a topic reaches other machines.
    pub(super) fn goes_far(&self, topic: &[u8]) -> bool {
        let histories = self.local.histories.as_ref();
        self.far.broker_of(topic, histories).is_some() && !self.local.keeps(topic)
    }

    /// Topics have subscribers in this worker: the gateway is to hear of those that go far.
    pub(super) fn tell(&mut self, topics: &[&[u8]]) {
        let topics: Vec<&[u8]> = topics.iter().copied().filter(|t| self.goes_far(t)).collect();
        if topics.is_empty() {
            return;
        }
        let Hub { bus: Some(bus), far, local } = self else { return };
        if far.gateway.is_some() {
            topics.iter().for_each(|topic| far.want(topic, local.histories.as_ref()));
        } else if let Some(row) = bus.place().holder() {
            let mut bytes = Vec::new();
            if let Ok(topics) = Topics::new(&topics, &mut bytes) {
                // One that does not hear it asks again.
                let _ = bus.put(Target::Row(row), &plain(Kind::Listens { topics }));
            }
        }
    }

    /// Messages of others were overwritten before they were read: of topics that they listen for, too.
    pub(super) fn has_missed(&mut self) {
        if self.far.gateway.is_some() {
            self.ask_all();
        }
    }

    /// Answers what the gateway has asked, if it has.
    pub(super) fn answer_if_asked(&mut self) {
        if std::mem::take(&mut self.far.asked) {
            self.far.answer = self.local.topics.all().map(|(topic, _)| topic.into()).collect();
            self.answer();
        }
    }

    fn answer(&mut self) {
        let some = self.far.next_answers(ANSWER_BYTES);
        if !some.is_empty() {
            let names: Vec<&[u8]> = some.iter().map(|name| &**name).collect();
            self.tell(&names);
            ANSWER.with(|timer| timer.set(ANSWER_EVERY, self.far.happened));
        }
    }

    /// A message for another machine alone, which this worker may be the one to send.
    pub(super) fn send_far(&mut self, row: u16, message: &Envelope<'_>) -> Result<(), Error> {
        let bus = self.bus.as_mut().ok_or(Error::NoRow)?;
        if row == bus.row() {
            self.far.hear(message, self.local.histories.as_ref());
            return Ok(());
        }
        bus.put(Target::Row(row), message).map(|_| ())
    }
}
