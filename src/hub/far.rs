//! What every worker knows of other machines: which brokers there are, which of them a topic goes by;
//! and in the worker that talks to them the gateway (gateway.rs). What is done with it: govern.rs.

use std::cell::RefCell;
use std::rc::Rc;

use ws_hub::broker::{HeardTwice, To};
use ws_hub::envelope::{Errand, Kind, Topics};
use ws_hub::{ConnId, Counter, Envelope};

use super::gateway::Gateway;
use super::handover::Role;
use super::history::Histories;
use super::link::Configured;
use super::reach::JOIN_LEAVE;
use crate::session::stats;

thread_local! {
    // Those of the configuration loaded last: set in the master before it forks.
    static CONFIGURED: RefCell<Vec<Rc<Configured>>> = const { RefCell::new(Vec::new()) };
}

/// As many brokers there may be.
pub const MOST_BROKERS: usize = ws_hub::gateway::BROKERS;
/// Before workers are forked: their brokers.
pub fn configure(brokers: Vec<Rc<Configured>>) {
    CONFIGURED.set(brokers);
}

/// The names of the brokers, in the configuration's order.
pub fn names() -> Vec<String> {
    CONFIGURED.with_borrow(|brokers| brokers.iter().map(|broker| broker.name.clone()).collect())
}

/// What this worker's hub has of all this.
pub struct Far {
    /// The brokers.
    pub(super) configured: Vec<Rc<Configured>>,
    /// In the worker that talks to them, or is about to.
    pub(super) gateway: Option<Gateway>,
    /// Which of the two.
    pub(super) role: Role,
    /// What a holder before had put into the ring, and the connections may bring again until then.
    pub(super) passed: Option<(HeardTwice, u64)>,
    /// The holder has handed over, as the ring says.
    pub(super) handed: bool,
    /// Until when this worker, which is to quit, waits for an heir.
    pub(super) quits: Option<u64>,
    /// What came to this worker after it had handed over, for the next one.
    pub(super) forward: Vec<Vec<u8>>,
    /// What is called in it when something may have happened.
    pub(super) happened: fn(),
    /// The gateway has asked what is listened for here.
    pub(super) asked: bool,
    /// What of that has not been answered yet.
    pub(super) answer: Vec<Box<[u8]>>,
}

impl Far {
    /// In a worker that starts.
    pub fn new(happened: fn()) -> Far {
        let configured = CONFIGURED.with_borrow(Vec::clone);
        Far {
            configured,
            gateway: None,
            role: Role::None,
            passed: None,
            handed: false,
            forward: Vec::new(),
            quits: None,
            happened,
            asked: false,
            answer: Vec::new(),
        }
    }

    /// Whether there are other machines at all.
    pub fn is_used(&self) -> bool {
        !self.configured.is_empty()
    }

    /// Which broker a topic goes by.
    pub fn broker_of(&self, topic: &[u8], histories: Option<&Histories>) -> Option<usize> {
        match histories {
            Some(histories) => histories.broker_of(topic),
            None => self.is_used().then_some(0),
        }
    }

    /// What is listened for here is to be told anew, in a worker of a configuration without brokers, too:
    /// who asks is of a newer one.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// A message was read in the ring, or comes from here.
    #[inline]
    pub fn hear(&mut self, message: &Envelope<'_>, histories: Option<&Histories>) {
        if message.kind == Kind::WhoListens {
            self.ask();
        }
        match &mut self.role {
            // It was the gateway when this was sent.
            Role::None if matches!(message.kind, Kind::Errand { .. }) => self.forward(message),
            Role::None => {}
            _ if message.kind == Kind::HandsOver => self.handed = true,
            Role::Holder if !self.handed => self.pass_on(message, histories),
            Role::Heir(_) if self.handed => self.pass_on(message, histories),
            Role::Heir(heir) => match message.kind {
                Kind::Listens { .. } => self.pass_on(message, histories),
                _ => heir.heard.pass(message),
            },
            Role::Holder | Role::Leaving(_) => self.forward(message),
        }
    }

    /// What has come for this worker alone after it has handed over goes to the next one.
    pub(super) fn forward(&mut self, message: &Envelope<'_>) {
        let is_errand = matches!(message.kind, Kind::Errand { .. });
        let is_for_one = matches!(
            message.kind,
            Kind::ToConnection { .. }
                | Kind::CloseConnection { .. }
                | Kind::Answer { .. }
                | Kind::Untold
        );
        let mut bytes = Vec::new();
        if (is_errand || is_for_one && message.far) && message.encode(&mut bytes).is_ok() {
            self.forward.push(bytes);
        }
    }

    /// The gateway has heard a message.
    fn pass_on(&mut self, message: &Envelope<'_>, histories: Option<&Histories>) {
        match message.kind {
            Kind::Listens { topics } => {
                return topics.iter().for_each(|topic| self.want(topic, histories));
            }
            Kind::Errand { topic, errand, key, id } => {
                return self.run(topic, errand, key, id, message, histories);
            }
            _ => {}
        }
        let (broker, to) = match message.kind {
            _ if !message.far => return,
            // Who follows a history hears only what is stored there.
            Kind::CloseTopic { topic, .. } if histories.is_some_and(|h| h.keeps(topic)) => {
                (self.broker_of(topic, histories), To::All)
            }
            Kind::Publish { topic } | Kind::CloseTopic { topic, .. } | Kind::Changes { topic } => {
                (self.broker_of(topic, histories), To::Topic(topic))
            }
            Kind::PublishMany { .. } | Kind::Ask { .. } | Kind::Untold => (Some(0), To::All),
            Kind::ToConnection { id } | Kind::CloseConnection { id, .. } | Kind::Answer { id } => {
                (Some(0), To::Node(id.node()))
            }
            Kind::Doorbell { .. } | Kind::Listens { .. } | Kind::WhoListens => return,
            Kind::Errand { .. } | Kind::HandsOver => return,
        };
        if let (Some(broker), Some(gateway)) = (broker, &mut self.gateway) {
            gateway.pass_on(message, broker, to);
        }
    }

    pub(super) fn want(&mut self, topic: &[u8], histories: Option<&Histories>) {
        let broker = self.broker_of(topic, histories);
        let is_heir = matches!(self.role, Role::Heir(_));
        let (Some(broker), Some(gateway)) = (broker, &mut self.gateway) else { return };
        // Who comes and goes is no part of a history.
        if histories.is_some_and(|h| h.keeps(topic) && h.flags(topic) & JOIN_LEAVE != 0) {
            gateway.want(topic, broker);
        }
        match histories {
            Some(histories) if histories.keeps(topic) && is_heir => gateway.follow(topic, broker),
            Some(histories) if histories.keeps(topic) => {
                gateway.fetch(topic, broker, ConnId::NOBODY, histories);
            }
            _ => gateway.want(topic, broker),
        }
    }

    /// Does something with a topic's history.
    fn run(
        &mut self,
        topic: &[u8],
        errand: Errand,
        key: &[u8],
        id: ConnId,
        message: &Envelope<'_>,
        histories: Option<&Histories>,
    ) {
        let Some(gateway) = &mut self.gateway else { return };
        let keeper = histories.and_then(|histories| Some((histories, histories.keeper(topic)?)));
        let is_begun = keeper.is_some_and(|(histories, broker)| match errand {
            Errand::Fetch => gateway.fetch(topic, broker, id, histories),
            Errand::Keep => gateway.keep(topic, broker, key, id, message, histories),
            Errand::Forget => gateway.forget(topic, broker, id),
        });
        // Who asks has another configuration, or there is no memory: it hears so now.
        if !is_begun {
            let is_message = errand == Errand::Keep;
            stats::add(Counter::BrokerDroppedRefused, u64::from(is_message));
            gateway.refuse(id);
        }
    }

    /// Takes some of what is to be answered, at most so many bytes of names.
    pub(super) fn next_answers(&mut self, most: usize) -> Vec<Box<[u8]>> {
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
