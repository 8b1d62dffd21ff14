//! This worker and the machines beyond its own: which worker is the gateway (gateway.rs), what comes
//! through it, and what each worker tells it of the topics that are listened for.

use ws_hub::envelope::{Kind, Origin, Stored, Topics, Type};
use ws_hub::history::Position;
use ws_hub::{ConnId, Counter, Envelope, Target, TopicHash};

use super::bus::Bus;
use super::copies::News;
use super::error::Error;
use super::gateway::{Came, Gateway};
use super::history::Histories;
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
        Kind::Errand { .. } => None,
        Kind::Ask { .. } | Kind::Answer { .. } | Kind::Changes { .. } => None,
    }
}

impl Hub {
    /// Histories are told how it stands with brokers.
    pub(super) fn watch_brokers(&mut self) {
        let Hub { local, bus: Some(bus), far } = self else { return };
        if let Some(histories) = &mut local.histories {
            histories.watch(bus.place(), far.configured.len());
        }
    }

    /// Somebody must talk to the brokers: this worker, if nobody does.
    pub(super) fn govern(&mut self) {
        let Hub { local, bus: Some(bus), far } = self else { return };
        bus.free_dead_if_due();
        if let Some(gateway) = &mut far.gateway {
            if process::is_quitting() || !bus.is_gateway() {
                far.gateway = None;
                return bus.be_no_gateway();
            }
            let listens =
                |topic: &[u8]| local.topics.count(topic) > 0 || bus.is_heard_elsewhere(topic);
            gateway.sweep(local.histories.as_ref(), listens);
            let known = bus.place().known(clock::now_ms());
            stats::set(Counter::NodesKnown, known as u64);
        } else if far.is_used() && !process::is_quitting() && bus.become_gateway() {
            let keeps = local.histories.as_ref().is_some_and(Histories::keeps_far);
            far.gateway = Some(Gateway::new(&far.configured, keeps, bus, far.happened));
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
        let Hub { bus: Some(bus), far, local } = self else { return };
        let Some(gateway) = &mut far.gateway else { return };
        for came in gateway.turn(&bus.place(), local.histories.as_ref()) {
            match came {
                Came::Message(broker, bytes) => self.come(broker, &bytes),
                Came::News(News::Ring(topic, at)) => self.ring(&topic, at),
                Came::News(News::Answer(id, answer)) => self.give_answer(&id, &answer),
            }
        }
    }

    /// A message of another machine, by this broker.
    fn come(&mut self, broker: usize, bytes: &[u8]) {
        let Hub { bus: Some(bus), far, local } = self else { return };
        let Ok(message) = Envelope::decode(bytes) else { return };
        let expected = match message.kind {
            Kind::Publish { topic } | Kind::CloseTopic { topic, .. } => {
                far.broker_of(topic, local.histories.as_ref())
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

    /// There is something new in the copy of a topic's history.
    fn ring(&mut self, topic: &[u8], at: Position) {
        let (target, doorbell) = (Target::Topic(TopicHash::of(topic)), Kind::Doorbell { topic });
        let stored = Stored { epoch: at.epoch, offset: at.offset, time: 0 };
        let _ = self.put(target, &Envelope { stored: Some(stored), ..plain(doorbell) });
    }

    /// Somebody's errand is done.
    fn give_answer(&mut self, id: &ConnId, answer: &[u8]) {
        let Hub { bus: Some(bus), local, .. } = self else { return };
        if id.row() == bus.row() {
            local.hand_answer(id, bus.origin().node, answer);
        } else if let Some(target) = bus.owner_here(id) {
            let _ =
                bus.put(target, &Envelope { payload: answer, ..plain(Kind::Answer { id: *id }) });
        }
    }

    /// Whether a topic reaches other machines.
    pub(super) fn goes_far(&self, topic: &[u8]) -> bool {
        let histories = self.local.histories.as_ref();
        self.far.broker_of(topic, histories).is_some()
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

    /// Whether a broker has been away for longer than messages wait for it.
    pub(super) fn is_away(&self, broker: usize) -> bool {
        let Some(bus) = &self.bus else { return true };
        let retry = self.far.configured.get(broker).map_or(0, |broker| broker.settings.retry);
        bus.place().away(broker, clock::now_ms()).is_some_and(|away| away > retry)
    }

    /// Has something done with a topic's history, by the worker that talks to its broker.
    pub(super) fn run_errand(&mut self, message: &Envelope<'_>) -> Result<(), Error> {
        let bus = self.bus.as_ref().ok_or(Error::NoRow)?;
        let row = bus.place().holder().ok_or(Error::BrokerUnavailable)?;
        self.send_far(row, message)
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
