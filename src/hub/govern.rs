//! This worker and the machines beyond its own: which worker is the gateway (gateway.rs), what comes
//! through it, and what each worker tells it of the topics that are listened for.

use ws_hub::broker::{encode_outcome, Unkept};
use ws_hub::envelope::{Errand, Kind, Origin, Stored, Topics, Type};
use ws_hub::history::Position;
use ws_hub::{ConnId, Counter, Envelope, Target, TopicHash};

use super::bus::Bus;
use super::copies::News;
use super::error::Error;
use super::gateway::{Came, Gateway};
use super::handover::{Heir, Role, PATIENCE};
use super::history::Histories;
use super::worker::Hub;
use crate::ngx::timer::Timer;
use crate::ngx::{clock, log, process, wake};
use crate::session::stats;

thread_local! {
    static ANSWER: Timer = const { Timer::new() };
}

/// Bytes of topics' names told at once, and milliseconds until the next: the ring is everybody's.
const ANSWER_BYTES: usize = 64 * 1024;
const ANSWER_EVERY: u64 = 5;

/// The heir is to read the ring.
fn wake_heir(bus: &Bus) {
    if let Some(row) = bus.place().holder() {
        wake::wake(row);
    }
}

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
        Kind::Publish { topic } | Kind::CloseTopic { topic, .. } | Kind::Changes { topic } => {
            Some(Target::Topic(TopicHash::of(topic)))
        }
        Kind::PublishMany { .. } | Kind::Untold => Some(Target::All),
        Kind::ToConnection { id } | Kind::CloseConnection { id, .. } | Kind::Answer { id } => {
            bus.owner_here(&id)
        }
        Kind::Doorbell { .. } | Kind::Listens { .. } | Kind::WhoListens => None,
        // A question is the gateway's to answer.
        Kind::Errand { .. } | Kind::HandsOver | Kind::Ask { .. } => None,
    }
}

impl Hub {
    /// Somebody must talk to the brokers: this worker, if nobody does, or after who does now. Whether
    /// this worker may not quit yet.
    pub(super) fn govern(&mut self) -> bool {
        let Hub { local, bus: Some(bus), far } = self else { return false };
        bus.free_dead_if_due();
        let (now, place) = (clock::now_ms(), bus.place());
        let is_used = far.is_used();
        match (&mut far.role, &mut far.gateway) {
            (Role::Holder, Some(gateway)) => {
                if place.is_heir_ready() {
                    self.hand_over();
                    return true;
                }
                if process::is_quitting() {
                    let until = *far.quits.get_or_insert(now + PATIENCE);
                    if bus.is_outdated() && now < until {
                        return true;
                    }
                    (far.gateway, far.role) = (None, Role::None);
                    bus.be_no_gateway();
                    return false;
                }
                let listens =
                    |topic: &[u8]| local.topics.count(topic) > 0 || bus.is_heard_elsewhere(topic);
                far.passed.take_if(|(_, until)| *until <= now);
                gateway.sweep(local.histories.as_ref(), listens);
                stats::set(Counter::NodesKnown, place.known(now) as u64);
                true
            }
            (Role::Heir(heir), Some(gateway)) => {
                let (is_level, wanted) = gateway.is_level();
                if is_level && heir.wanted == Some(wanted) {
                    bus.be_ready();
                }
                heir.wanted = Some(wanted);
                if far.handed || place.holder().is_none() {
                    self.take_over();
                }
                true
            }
            (Role::Leaving(until), _) if now < *until => true,
            (Role::Leaving(_), _) => {
                (far.gateway, far.role) = (None, Role::None);
                false
            }
            _ if is_used && !process::is_quitting() => {
                let was_held = place.was_held();
                let role = match (bus.become_gateway(), bus.become_heir()) {
                    (true, _) => Role::Holder,
                    (_, true) => Role::Heir(Heir::new(bus.origin().node)),
                    _ => return false,
                };
                if was_held && matches!(role, Role::Holder) {
                    // It died, and heard nothing since.
                    stats::add(Counter::BrokerGaps, 1);
                    log::notice(
                        "websocket: this worker talks to the brokers now: \
                         messages of other machines may have been missed",
                    );
                }
                (far.role, far.handed) = (role, false);
                let keeps = local.histories.as_ref().is_some_and(Histories::keeps_far);
                far.gateway = Some(Gateway::new(&far.configured, keeps, bus, far.happened));
                self.turn();
                self.ask_all();
                self.tell_untold();
                self.go_on();
                true
            }
            _ => false,
        }
    }

    /// This worker's heir hears all that it hears: after this message of the ring it is the gateway.
    fn hand_over(&mut self) {
        if self.put(Target::All, &plain(Kind::HandsOver)).is_err() {
            return;
        }
        // All before it is to be passed on by this worker.
        self.drain(true);
        if let Some(bus) = &mut self.bus {
            bus.hand_over();
            wake_heir(bus);
        }
        self.far.role = Role::Leaving(clock::now_ms() + PATIENCE);
        let waiting = self.far.gateway.as_mut().map(Gateway::take_waiting).unwrap_or_default();
        for (topic, id) in waiting {
            let kind = Kind::Errand { topic: &topic, errand: Errand::Fetch, key: &[], id };
            self.far.forward(&plain(kind));
        }
        self.turn();
    }

    /// This worker is the gateway from now on.
    fn take_over(&mut self) {
        // A holder that has died has passed nothing on since then.
        stats::add(Counter::BrokerGaps, u64::from(!self.far.handed));
        self.drain(true);
        let Hub { local, bus: Some(bus), far } = self else { return };
        if !bus.become_gateway() {
            return;
        }
        let Role::Heir(mut heir) = std::mem::replace(&mut far.role, Role::Holder) else { return };
        far.handed = false;
        let follows = std::mem::take(&mut heir.follows);
        if let Some(gateway) = &mut far.gateway {
            gateway.begin(follows, local.histories.as_ref());
        }
        let (missed, lost) = heir.heard.take();
        far.passed = Some((heir.heard, clock::now_ms() + PATIENCE));
        stats::add(Counter::BrokerGaps, u64::from(lost));
        for (broker, bytes) in missed {
            self.come(broker, &bytes);
        }
        self.turn();
    }

    /// Everybody is to say what they listen for.
    fn ask_all(&mut self) {
        let _ = self.put(Target::All, &plain(Kind::WhoListens));
    }

    /// Something has happened that a broker, or the gateway, may want to know.
    pub(super) fn turn(&mut self) {
        self.answer();
        self.forward();
        let Hub { bus: Some(bus), far, local } = self else { return };
        let Some(gateway) = &mut far.gateway else { return };
        let came = match &mut far.role {
            Role::None => return,
            Role::Heir(heir) => {
                gateway.turn_as_heir(heir);
                if far.handed {
                    self.take_over();
                }
                return;
            }
            Role::Holder => gateway.turn(&bus.zone(), local.histories.as_ref()),
            Role::Leaving(until) => {
                let (came, is_done) = gateway.turn_as_leaving();
                if is_done {
                    *until = 0;
                }
                came
            }
        };
        for came in came {
            match came {
                Came::Message(broker, bytes) => self.come(broker, &bytes),
                Came::News(News::Ring(topic, at)) => self.ring(&topic, at),
                Came::News(News::Answer(id, answer)) => self.give_answer(&id, &answer),
            }
        }
    }

    /// What came after this worker had handed over goes to who has taken over. Where nobody has, who
    /// waits for an errand hears that it was not run.
    pub(super) fn forward(&mut self) {
        for bytes in std::mem::take(&mut self.far.forward) {
            let row = self.bus.as_ref().and_then(|bus| bus.place().holder());
            let Ok(message) = Envelope::decode(&bytes) else { continue };
            let is_sent = row.is_some_and(|row| self.send_far(row, &message).is_ok());
            if let (false, Kind::Errand { id, .. }) = (is_sent, message.kind) {
                self.give_answer(&id, &encode_outcome(&Err(Unkept::Unavailable)));
            }
        }
    }

    /// A message of another machine, by this broker.
    fn come(&mut self, broker: usize, bytes: &[u8]) {
        let Hub { bus: Some(bus), far, local } = self else { return };
        let Ok(message) = Envelope::decode(bytes) else { return };
        if far.passed.as_mut().is_some_and(|(heard, _)| heard.came_before(bytes)) {
            return;
        }
        let expected = match message.kind {
            Kind::Publish { topic } | Kind::CloseTopic { topic, .. } | Kind::Changes { topic } => {
                far.broker_of(topic, local.histories.as_ref())
            }
            _ => Some(0),
        };
        if matches!(message.kind, Kind::Ask { .. }) && expected == Some(broker) {
            return self.asked_from_afar(&Envelope { far: false, ..message });
        }
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
        }
        let mut bytes = Vec::new();
        let Ok(topics) = Topics::new(&topics, &mut bytes) else { return };
        let (own, place) = (bus.row(), bus.place());
        for row in [place.holder(), place.heir()].into_iter().flatten().filter(|row| *row != own) {
            // One that does not hear it asks again.
            let _ = bus.put(Target::Row(row), &plain(Kind::Listens { topics }));
        }
    }

    /// Messages of others were overwritten before they were read: of topics that they listen for, too.
    pub(super) fn has_missed(&mut self) {
        // An heir may have missed that it is the gateway now.
        let is_holder = self.bus.as_ref().is_some_and(Bus::is_gateway);
        if let Role::Heir(heir) = &mut self.far.role {
            self.far.handed |= is_holder;
            heir.heard.lose();
        }
        if self.far.gateway.is_some() {
            self.ask_all();
            self.tell_untold();
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

    /// A message for the worker that talks to the brokers.
    pub(super) fn send_by_gateway(&mut self, message: &Envelope<'_>) -> Result<(), Error> {
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
